#!/bin/bash
# What packaging/boot.sh runs inside the booted Debian.
set -euo pipefail
unit=linkspan-gateway

# Waits for a condition, half a minute at most.
until_true() {
  local n
  for ((n = 0; n < 150; n++)); do
    if "${@:2}"; then
      echo "seen: $1"
      return
    fi
    read -rt 0.2 <> <(:) || true
  done
  echo "not seen: $1" >&2
  systemctl status --no-pager -l "$unit" || true
  journalctl --no-pager -u "$unit" | tail -30
  exit 1
}
property() {
  systemctl show -P "$1" "$unit"
}
is() {
  [ "$(property "$1")" = "$2" ]
}
differs() {
  [ "$(property "$1")" != "$2" ]
}
logged() {
  journalctl --no-pager -u "$unit" | grep -q "$1"
}

dpkg -i /old/*.deb
id linkspan
[ "$(stat -c %U /etc/linkspan)" = linkspan ]
is ActiveState inactive && echo "seen: off until there is a configuration"

umask 077
printf '[server]\nurl = "https://127.0.0.1:1"\nfingerprint = "%064d"\n[identity]\nname = "site12"\nsecret_file = "gateway.secret"\n' 0 > /etc/linkspan/gateway.toml
echo hunter2hunter2 > /etc/linkspan/gateway.secret
mkdir -p /etc/systemd/system/$unit.service.d
printf '[Service]\nWatchdogSec=3\nRestartSec=1\n' > /etc/systemd/system/$unit.service.d/test.conf
systemctl daemon-reload
systemctl enable --now $unit
until_true "READY=1" is ActiveState active
[ "$(ps -o user= -p "$(property MainPID)")" = linkspan ] && echo "seen: its own user"
until_true "the status text" logged "127.0.0.1:1"
linkspan-gateway status

systemctl reload $unit
until_true "the reload" logged "was read again"

before=$(property MainPID)
kill -STOP "$before"
until_true "the watchdog's kill" logged "watchdog"
until_true "the restart after it" is ActiveState active
until_true "another process" differs MainPID "$before"

before=$(property MainPID)
dpkg -i /new/*.deb
until_true "active after the upgrade" is ActiveState active
until_true "the new program at work" differs MainPID "$before"
grep -q site12 /etc/linkspan/gateway.toml && echo "seen: the configuration outlives the upgrade"

dpkg -r $unit
[ -e /etc/linkspan/gateway.toml ] && echo "seen: the configuration outlives the removal"
until_true "stopped" differs ActiveState active
dpkg -P $unit
[ ! -e /etc/linkspan/gateway.secret ] && [ ! -e /var/lib/linkspan-gateway ] && echo "seen: purged"
echo "all is well"
