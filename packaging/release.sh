#!/usr/bin/env bash
# Makes a release in one folder: source, programs, packages for OpenWrt and Debian, a list of parts, checksums.
#
#   packaging/release.sh [OUTPUT]      LINKSPAN_FEED_KEY=feed.sec signs the feeds (signify-openbsd -G makes a key)
set -euo pipefail
cd "$(dirname "$0")/.."
output=${1:-target/release-files}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
cross=${CARGO_TARGET_DIR:-target}/cross
targets=(mips mipsel armv7 arm aarch64 x86_64 riscv64)
rm -rf "$output"
mkdir -p "$output"

# The same commit is the same file: `git archive` takes its times from the commit, and gzip keeps none.
git archive --format=tar --prefix="linkspan-$version/" HEAD | gzip -9n > "$output/linkspan-$version.tar.gz"
sha256sum "$output/linkspan-$version.tar.gz" | cut -d' ' -f1 > "$output/PKG_HASH"
packaging/sbom.py > "$output/linkspan-$version.cdx.json"

packaging/cross.sh "${targets[@]}"
for target in "${targets[@]}"; do
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=755 -C "$cross/$target" -cf - linkspan-gateway |
    gzip -9n > "$output/linkspan-gateway-$version-$target-linux-musl.tar.gz"
done
packaging/ipk.py "$output/openwrt-24.10" ${LINKSPAN_FEED_KEY:+--key "$LINKSPAN_FEED_KEY"}
packaging/apk.py "$output/openwrt-25.12"
packaging/deb.sh "$output" x86_64 aarch64 armv7

(cd "$output" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum > SHA256SUMS)
echo "$output"
