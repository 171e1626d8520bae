#!/usr/bin/env python3
"""Makes .apk packages (OpenWrt 25.12 and later) of the gateway and its LuCI application by `apk mkpkg`, where apk-tools 3 is
installed.

    packaging/apk.py OUTPUT [--key KEY.pem]

Without apk-tools 3 it leaves, for each architecture, the staged tree, the scripts, and `make.sh` with the very calls.
"""

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import ipk

INFO = "lib/apk/packages"
SCRIPT = """#!/bin/sh
[ "${{IPKG_NO_SCRIPT}}" = "1" ] && exit 0
[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="{name}"
{steps}
"""
STEPS = {
    "post-install": "add_group_and_user\ndefault_postinst",
    "post-upgrade": "export PKG_UPGRADE=1\nadd_group_and_user\ndefault_postinst",
    "pre-deinstall": "default_prerm",
}


def gateway(target, arch):
    """The gateway's package: what it says of itself, its files, and those of them that are configuration."""
    info = {
        "name": "linkspan-gateway", "version": ipk.version(), "arch": arch, "description": ipk.makefile("TITLE"),
        "license": ipk.makefile("PKG_LICENSE"), "origin": "linkspan-gateway", "url": ipk.makefile("URL"),
        "maintainer": ipk.makefile("PKG_MAINTAINER"), "depends": "libc ca-bundle",
    }
    data = ipk.gateway_files(target)
    digest = hashlib.sha256(data["etc/config/linkspan"][1]).hexdigest()
    data[f"{INFO}/linkspan-gateway.conffiles"] = (0o644, b"/etc/config/linkspan\n/etc/linkspan/\n")
    data[f"{INFO}/linkspan-gateway.conffiles_static"] = (0o644, f"/etc/config/linkspan {digest}\n".encode())
    data[f"{INFO}/linkspan-gateway.rusers"] = (0o644, ipk.makefile("USERID").encode() + b"\n")
    return info, data


def luci():
    """The same of the LuCI application, which every architecture takes."""
    control = ipk.luci_control()
    info = {
        "name": control["Package"], "version": ipk.version(), "arch": "noarch", "description": control["Description"],
        "license": control["License"], "origin": control["Package"], "url": control["URL"],
        "maintainer": control["Maintainer"], "depends": "libc luci-base rpcd linkspan-gateway",
    }
    return info, ipk.luci_files()


def stage(folder, info, data):
    """Lays the files, with their list as OpenWrt's own scripts look it up, and the scripts into a package's folder."""
    listed = "".join(f"/{path}\n" for path in sorted(data) if not path.startswith(INFO))
    data = {**data, f"{INFO}/{info['name']}.list": (0o644, listed.encode())}
    for path, (mode, content) in data.items():
        file = folder / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    for path in [folder / "files", *(folder / "files").rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (0, 0))
    for name, steps in STEPS.items():
        (folder / name).write_text(SCRIPT.format(name=info["name"], steps=steps))
        (folder / name).chmod(0o755)


def calls(infos, key):
    """What makes the packages and the index of an architecture, in its folder."""
    sign = ["--sign", str(key)] if key else []
    made = []
    for info in infos:
        package = ["apk", "mkpkg"]
        for field, value in info.items():
            package += ["--info", f"{field}:{value}"]
        for script in STEPS:
            package += ["--script", f"{script}:{info['name']}/{script}"]
        yield package + ["--files", f"{info['name']}/files", "--output", f"{info['name']}-{info['version']}.apk", *sign]
        made.append(f"{info['name']}-{info['version']}.apk")
    yield ["apk", "mkndx", "--output", "packages.adb", *sign, *made]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--key", type=Path, help="EC P-256 key in PEM to sign with")
    order = parser.parse_args()
    key = order.key.resolve() if order.key else None
    present = shutil.which("apk") and "apk-tools 3" in subprocess.run(["apk", "--version"], capture_output=True, text=True).stdout
    for target, architectures in ipk.ARCHITECTURES.items():
        if not ipk.program(target).exists():
            continue
        for arch in architectures:
            folder = order.output / arch
            shutil.rmtree(folder, ignore_errors=True)
            packages = [gateway(target, arch), luci()]
            for info, data in packages:
                stage(folder / info["name"], info, data)
            lines = [shlex.join(call) for call in calls([info for info, _ in packages], key)]
            script = "#!/bin/sh\n# As root, or under fakeroot: the files belong to root.\nset -e\nexport SOURCE_DATE_EPOCH=0\n"
            (folder / "make.sh").write_text(script + "\n".join(lines) + "\n")
            (folder / "make.sh").chmod(0o755)
            if present:
                subprocess.run(["fakeroot", "./make.sh"], cwd=folder, check=True)
    if not present:
        print(f"packaging/apk.py: no apk-tools 3 here; run make.sh in each folder of {order.output} where there is", file=sys.stderr)


if __name__ == "__main__":
    main()
