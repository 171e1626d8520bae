#!/usr/bin/env bash
# Keeps the gateway's sizes: builds it for mipsel, full and lean, wraps it as ipk, and compares with packaging/budget.txt.
#
#   packaging/size.sh [--prices]     --prices: what each feature costs, a build for each
set -euo pipefail
cd "$(dirname "$0")/.."
cross=${CARGO_TARGET_DIR:-target}/cross/mipsel

packaging/cross.sh mipsel
packaging/cross.sh --lean mipsel
ipk=$(python3 -c '
import sys
sys.path.insert(0, "packaging")
import ipk
print(len(ipk.ipk(ipk.gateway_control("mipsel_24kc"), ipk.gateway_files("mipsel"))[0]))')

# An allowance of 2 %: compilers and crates move by themselves.
over=0
while read -r what budget goal; do
  case "$what" in
    full) bytes=$(stat -c %s "$cross/linkspan-gateway") ;;
    lean) bytes=$(stat -c %s "$cross/linkspan-gateway-lean") ;;
    ipk) bytes=$ipk ;;
    *) continue ;;
  esac
  printf '%-5s %8d bytes, budget %8d, goal %8d\n' "$what" "$bytes" "$budget" "$goal"
  if [ "$bytes" -gt $((budget + budget / 50)) ]; then
    echo "$what is more than 2 % above its budget: make it smaller, or raise packaging/budget.txt and say why" >&2
    over=1
  fi
done < packaging/budget.txt

if [ "${1:-}" = --prices ]; then
  full=$(stat -c %s "$cross/linkspan-gateway")
  features=$(sed -n 's/^default = \[\(.*\)\]/\1/p' gateway/Cargo.toml | tr -d '" ' | tr ',' ' ')
  for left_out in $features; do
    kept=$(for feature in $features; do [ "$feature" = "$left_out" ] || echo "$feature"; done | paste -sd,)
    LINKSPAN_FEATURES="$kept" packaging/cross.sh mipsel >/dev/null
    printf '%-10s %8d bytes\n' "$left_out" $((full - $(stat -c %s "$cross/linkspan-gateway-picked")))
  done
fi
exit "$over"
