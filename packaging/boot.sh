#!/usr/bin/env bash
# Installs, upgrades and purges the gateway's Debian package in a Debian of its own with a booted systemd (root needed), and
# sees READY, the watchdog's kill and the restart after it.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
base=$target_dir/debian-root
root=$(mktemp -d -t linkspan-boot-XXXXXX)
trap 'rm -rf "$root"' EXIT

if [ ! -e "$base/complete" ]; then
  rm -rf "$base"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates bookworm "$base" >&2
  touch "$base/complete"
fi
cp -a "$base/." "$root"

LINKSPAN_GATEWAY_ONLY=1 packaging/deb.sh "$root/old" x86_64
LINKSPAN_GATEWAY_ONLY=1 LINKSPAN_DEB_VERSION=0.1.1-1 packaging/deb.sh "$root/new" x86_64
install -m 755 packaging/boot-inside.sh "$root/boot-inside.sh"
cat > "$root/etc/systemd/system/inside.service" <<'UNIT'
[Unit]
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/boot-inside.sh
StandardOutput=file:/told
StandardError=inherit
SuccessAction=poweroff
FailureAction=poweroff
TimeoutStartSec=180
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../inside.service "$root/etc/systemd/system/default.target.wants/"

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 300 systemd-nspawn -q -D "$root" --register=no --keep-unit --private-network -b \
  < /dev/null > "$root/console" 2>&1 || true
cat "$root/told" || tail -50 "$root/console"
grep -qx 'all is well' "$root/told"
