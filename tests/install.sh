#!/usr/bin/env bash
# Installs from Debian what the tests, the demo or the bench run against, where it is missing:
#
#   tests/install.sh build|demo|test|bench|cross|emulate|packages|boot
#
# No service is started or enabled: the tests start every program themselves, on free ports, with files of their own.
set -euo pipefail

build=(build-essential pkg-config)
demo=("${build[@]}" openssh-client openssh-server libnss-wrapper)
test=("${demo[@]}" signify-openbsd faketime strace slapd ldap-utils iproute2 iputils-ping nftables curl tigervnc-standalone-server x11-apps x11-utils lighttpd lighttpd-mod-webdav nginx-light
  squid tinyproxy avahi-daemon dnsmasq-base udhcpc minidlna wsdd python3-pymodbus python3-serial-asyncio chromium chromium-driver fonts-dejavu-core python3-venv)
# rathole, from crates.io, is compared with; its TLS is OpenSSL.
bench=("${test[@]}" wrk openssl libssl-dev)

# The gateway for routers: a compiler with its library's sources, and emulators of their processors.
cross=("${build[@]}" rustc-web rust-web-src cargo-web llvm xz-utils python3-venv qemu-user-static)
emulate=("${cross[@]}" qemu-system-mips cpio)
packages=(busybox-static signify-openbsd gettext python3)
boot=("${cross[@]}" debootstrap systemd-container)

# Node from elsewhere will do, and Debian's npm does not go with it.
command -v node >/dev/null || test+=(nodejs)
command -v npm >/dev/null || test+=(npm)

case "${1:-}" in
  build) wanted=("${build[@]}") ;;
  demo) wanted=("${demo[@]}") ;;
  test) wanted=("${test[@]}") ;;
  bench) wanted=("${bench[@]}") ;;
  cross) wanted=("${cross[@]}") ;;
  emulate) wanted=("${emulate[@]}") ;;
  packages) wanted=("${packages[@]}") ;;
  boot) wanted=("${boot[@]}") ;;
  *)
    echo "usage: $0 build|demo|test|bench|cross|emulate|packages|boot" >&2
    exit 64
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "tests/install.sh: this is no Debian; please install by hand what is missing of: ${wanted[*]}" >&2
  exit 0
fi

installed() {
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# What comes from npm goes into the build's own folder: an OpenID provider that the tests sign in at.
from_npm() {
  [ "$1" = test ] || [ "$1" = bench ] || return 0
  local folder="${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/npm"
  [ ! -e "$folder/node_modules/oidc-provider" ] || return 0
  mkdir -p "$folder"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" oidc-provider@8.8.1 >&2 ||
    echo "tests/install.sh: npm cannot install oidc-provider; the test of signing in at a provider will fail" >&2
}

# A node of another source than Debian serves as well.
case "$1" in test | bench | packages) command -v node >/dev/null || wanted+=(nodejs) ;; esac
case "$1" in test | bench) command -v npm >/dev/null || wanted+=(nodejs npm) ;; esac

missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  from_npm "$1"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "tests/install.sh: missing: ${missing[*]}; install them as root (there is no sudo here)" >&2
    exit 69
  fi
  as_root=(sudo)
fi
echo "tests/install.sh: installing ${missing[*]}" >&2

# A package's own scripts ask policy-rc.d before they start a service; 101 means "no" (invoke-rc.d's convention).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi

apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >&2
}
apt update
apt install --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}"
from_npm "$1"

# Nor may a service that came just now start with the next boot of somebody's own machine.
if command -v systemctl >/dev/null; then
  for package in "${missing[@]}"; do
    case "$package" in
      openssh-server) unit=ssh ;;
      nginx-light) unit=nginx ;;
      lighttpd | squid | tinyproxy | avahi-daemon | slapd | minidlna | wsdd) unit=$package ;;
      *) continue ;;
    esac
    "${as_root[@]}" systemctl --quiet disable "$unit" 2>/dev/null ||
      echo "tests/install.sh: could not disable $unit; look whether it starts with the machine" >&2
  done
fi
