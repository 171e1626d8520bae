#!/usr/bin/env bash
# A production Rust file has at most 500 lines; its test module, at the end, does not count.
set -euo pipefail
cd "$(dirname "$0")/.."
too_long=0
while read -r file; do
  [ -f "$file" ] || continue
  lines=$(awk '/^#\[cfg\(test\)\]/{exit} {c++} END{print c+0}' "$file")
  if [ "$lines" -gt 500 ]; then
    echo "$file: $lines lines; the limit is 500" >&2
    too_long=1
  fi
done < <(git ls-files --cached --others --exclude-standard '*.rs' | grep -v '/tests/\|^tests/tests/')
exit "$too_long"
