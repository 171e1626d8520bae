#!/usr/bin/env bash
# Builds the gateway twice, here and from a copy in another folder with a target folder of its own: the same bytes.
#
#   packaging/reproducible.sh [TARGET]      default: mipsel
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-mipsel}
here=$(realpath -m "${CARGO_TARGET_DIR:-target}")
copy=$(mktemp -d -t linkspan-elsewhere-XXXXXX)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
mkdir -p "$copy/target"
ln -s "$here/cross-tools" "$copy/target/cross-tools"
packaging/cross.sh "$target"
env -u CARGO_TARGET_DIR "$copy/packaging/cross.sh" "$target"
cmp "$here/cross/$target/linkspan-gateway" "$copy/target/cross/$target/linkspan-gateway"
sha256sum "$here/cross/$target/linkspan-gateway"
