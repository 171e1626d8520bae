#!/usr/bin/env bash
# Wraps what is built as .deb by cargo-deb:
#
#   packaging/deb.sh OUTPUT TARGET...      TARGET: x86_64 aarch64 armv7 (Debian's amd64, arm64, armhf)
#
# The gateway is the static one of packaging/cross.sh. Server and client are for glibc: built here for this machine's own
# processor, by zig for the others; LINKSPAN_GATEWAY_ONLY=1 leaves them out.
set -euo pipefail
cd "$(dirname "$0")/.."
output=$(realpath -m "$1")
shift
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
stage=$target_dir/deb
mkdir -p "$output"

cargo_deb=$(command -v cargo-deb || true)
if [ -z "$cargo_deb" ]; then
  cargo install --quiet --locked --root "$target_dir/deb-tools" --version 3.8.0 cargo-deb
  cargo_deb=$target_dir/deb-tools/bin/cargo-deb
fi

triple() {
  case "$1" in
    x86_64 | aarch64) echo "$1-unknown-linux-gnu" ;;
    armv7) echo armv7-unknown-linux-gnueabihf ;;
    *)
      echo "packaging/deb.sh: no \`$1\` in Debian: x86_64, aarch64 or armv7" >&2
      exit 64
      ;;
  esac
}

wrap() {
  SOURCE_DATE_EPOCH=0 CARGO_TARGET_DIR=$stage "$cargo_deb" --quiet --no-build --no-strip --locked --target "$1" -p "$2" \
    ${LINKSPAN_DEB_VERSION:+--deb-version "$LINKSPAN_DEB_VERSION"} --output "$output/"
}

# For another processor: Debian's compiler with the library's sources, and zig with glibc 2.28 (Debian 10 and later).
build_for() {
  env PATH="$target_dir/cross-tools/bin:$PATH" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_DIR="$target_dir/cross-build" /usr/bin/cargo zigbuild --quiet --locked --release --target "$1.2.28" \
    -Z build-std=std,panic_unwind -p linkspan-server -p linkspan
}

for target in "$@"; do
  triple=$(triple "$target")
  mkdir -p "$stage/$triple/release"
  cp "$target_dir/cross/$target/linkspan-gateway" "$stage/$triple/release/"
  wrap "$triple" linkspan-gateway
  [ -z "${LINKSPAN_GATEWAY_ONLY:-}" ] || continue
  if [ "$target" = "$(uname -m)" ]; then
    cargo build --quiet --locked --release -p linkspan-server -p linkspan
    built=$target_dir/release
  else
    build_for "$triple"
    built=$target_dir/cross-build/$triple/release
  fi
  cp "$built/linkspan-server" "$built/linkspan" "$stage/$triple/release/"
  wrap "$triple" linkspan-server
  wrap "$triple" linkspan
done
