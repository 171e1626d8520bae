#!/usr/bin/env bash
# Builds the gateway for a router: one static program, made from Debian's compiler with its library's sources, zig as
# linker (from PyPI) and crates.io.
#
#   packaging/cross.sh [--lean] [TARGET...]      TARGET: mips mipsel armv7 arm aarch64 x86_64 riscv64; default: all
#
# The program ends up as target/cross/TARGET/linkspan-gateway (lean, without what can be left out: linkspan-gateway-lean).
# LINKSPAN_FEATURES="mdns,netlink" chooses features one by one, into linkspan-gateway-picked.
set -euo pipefail
cd "$(dirname "$0")/.."

zig=0.15.2      # the last one with the stock musl; docs/packaging.md
zigbuild=0.24.0 # the first one that knows MIPS
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tools=$target_dir/cross-tools

all=(mips mipsel armv7 arm aarch64 x86_64 riscv64)
triple() {
  case "$1" in
    mips | mipsel | aarch64 | x86_64) echo "$1-unknown-linux-musl" ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    arm) echo arm-unknown-linux-musleabi ;;
    riscv64) echo riscv64gc-unknown-linux-musl ;;
    *)
      echo "packaging/cross.sh: no target \`$1\`; one of: ${all[*]}" >&2
      exit 64
      ;;
  esac
}

# zig and its cargo command, in a folder of the build's own.
install_tools() {
  [ ! -e "$tools/zig-$zig-$zigbuild" ] || return 0
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "ziglang==$zig" "cargo-zigbuild==$zigbuild"
  touch "$tools/zig-$zig-$zigbuild"
}

build() {
  local target=$1 triple relocation=
  triple=$(triple "$target")
  # Programs at a fixed address are 12 % smaller on MIPS, 2 % on ARM, and no smaller where the words have 64 bits.
  case "$target" in mips | mipsel | armv7 | arm) relocation=-Crelocation-model=static ;; esac
  local sysroot
  sysroot=$(/usr/bin/rustc --print sysroot)
  # unwind.c stands in for libunwind; its path is relative, since it is part of what a build is known by.
  # -Z build-std needs the library's sources of this very compiler, and MIPS has no library prebuilt. Paths of this
  # machine are no part of the program: two machines build the same bytes.
  env PATH="$tools/bin:$PATH" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target_dir/cross-build" \
    CARGO_INCREMENTAL=0 SOURCE_DATE_EPOCH=0 CARGO_PROFILE_GATEWAY_STRIP=false \
    RUSTFLAGS="-Ctarget-feature=+crt-static -Clink-self-contained=no -Cforce-unwind-tables=no $relocation -Clink-arg=packaging/unwind.c \
      --remap-path-prefix=$PWD=/linkspan --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$sysroot=/rust" \
    /usr/bin/cargo zigbuild --quiet --locked --profile gateway -p linkspan-gateway --target "$triple" \
    -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size "${features[@]}"
  mkdir -p "$target_dir/cross/$target"
  # .pdr is a fifth of a megabyte on MIPS that no `strip` takes away.
  llvm-objcopy --strip-all -R .pdr -R .mdebug.abi32 -R .comment \
    "$target_dir/cross-build/$triple/gateway/linkspan-gateway" "$target_dir/cross/$target/$name"
  stat -c '%s bytes  %n' "$target_dir/cross/$target/$name"
}

name=linkspan-gateway
features=()
if [ -n "${LINKSPAN_FEATURES+given}" ]; then
  name=linkspan-gateway-picked
  features=(--no-default-features --features "$LINKSPAN_FEATURES")
fi
if [ "${1:-}" = --lean ]; then
  shift
  name=linkspan-gateway-lean
  features=(--no-default-features --features netlink)
fi
install_tools
[ $# -gt 0 ] || set -- "${all[@]}"
for target in "$@"; do
  build "$target"
done
