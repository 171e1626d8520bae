#!/usr/bin/env bash
# Fetches a MIPS machine's software into target/malta: Debian's kernel for qemu's Malta board, its modules, and BusyBox.
# A private apt root keeps this machine's own packages out of it.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/malta
[ ! -e "$folder/complete" ] || exit 0
rm -rf "$folder"
mkdir -p "$folder"/apt/{etc/apt/{sources.list.d,preferences.d,trusted.gpg.d,apt.conf.d},var/lib/apt/lists/partial,var/cache/apt/archives/partial,var/lib/dpkg} "$folder/debs"
: > "$folder/apt/var/lib/dpkg/status"
# The last Debian with 32-bit MIPS.
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} bookworm main" \
  > "$folder/apt/etc/apt/sources.list"
options=(-o "Dir=$folder/apt" -o "Dir::State::status=$folder/apt/var/lib/dpkg/status" -o APT::Architecture=mipsel
  -o APT::Architectures::=mipsel -o APT::Sandbox::User=root -o Acquire::Languages=none -qq)
apt-get "${options[@]}" update >&2
kernel=$(apt-cache "${options[@]}" depends linux-image-4kc-malta | sed -n 's/.*Depends: \(linux-image-.*-4kc-malta\)$/\1/p' | head -1)
(cd "$folder/debs" && apt-get "${options[@]}" download "$kernel" busybox-static >&2)

for package in "$folder"/debs/*.deb; do
  dpkg-deb -x "$package" "$folder/unpacked"
done
cp "$folder"/unpacked/boot/vmlinuz-* "$folder/vmlinuz"
cp "$folder/unpacked/bin/busybox" "$folder/busybox"
mkdir "$folder/modules"
for module in e1000; do
  find "$folder/unpacked/lib/modules" -name "$module.ko" -exec cp {} "$folder/modules/" \;
done
[ -e "$folder/modules/e1000.ko" ]
rm -rf "$folder/unpacked" "$folder/debs" "$folder/apt"
touch "$folder/complete"
