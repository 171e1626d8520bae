#!/usr/bin/env python3
"""Makes .apk packages (OpenWrt 25.12 and later) of the gateway by `apk mkpkg`, where apk-tools 3 is installed.

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

INFO = "lib/apk/packages/linkspan-gateway"
SCRIPT = """#!/bin/sh
[ "${{IPKG_NO_SCRIPT}}" = "1" ] && exit 0
[ -s ${{IPKG_INSTROOT}}/lib/functions.sh ] || exit 0
. ${{IPKG_INSTROOT}}/lib/functions.sh
export root="${{IPKG_INSTROOT}}"
export pkgname="linkspan-gateway"
{steps}
"""
SCRIPTS = {
    "post-install": SCRIPT.format(steps="add_group_and_user\ndefault_postinst"),
    "post-upgrade": SCRIPT.format(steps="export PKG_UPGRADE=1\nadd_group_and_user\ndefault_postinst"),
    "pre-deinstall": SCRIPT.format(steps="default_prerm"),
}


def staged(target):
    """The package's files, with what OpenWrt's own scripts look up about it."""
    data = ipk.gateway_files(target)
    sums = {path: hashlib.sha256(data[path][1]).hexdigest() for path in ("etc/config/linkspan",)}
    listed = "".join(f"/{path}\n" for path in sorted(data))
    data[f"{INFO}.list"] = (0o644, listed.encode())
    data[f"{INFO}.conffiles"] = (0o644, b"/etc/config/linkspan\n/etc/linkspan/\n")
    data[f"{INFO}.conffiles_static"] = (0o644, "".join(f"/{path} {digest}\n" for path, digest in sums.items()).encode())
    data[f"{INFO}.rusers"] = (0o644, ipk.makefile("USERID").encode() + b"\n")
    return data


def stage(folder, target):
    shutil.rmtree(folder, ignore_errors=True)
    for path, (mode, content) in staged(target).items():
        file = folder / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    for path in [folder / "files", *(folder / "files").rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (0, 0))
    for name, script in SCRIPTS.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)


def calls(arch, key):
    """What makes package and index of an architecture, in its folder."""
    name = f"linkspan-gateway-{ipk.version()}.apk"
    info = {
        "name": "linkspan-gateway", "version": ipk.version(), "arch": arch, "description": ipk.makefile("TITLE"),
        "license": ipk.makefile("PKG_LICENSE"), "origin": "linkspan-gateway", "url": ipk.makefile("URL"),
        "maintainer": ipk.makefile("PKG_MAINTAINER"), "depends": "libc ca-bundle",
    }
    package = ["apk", "mkpkg"]
    for field, value in info.items():
        package += ["--info", f"{field}:{value}"]
    for script in SCRIPTS:
        package += ["--script", f"{script}:{script}"]
    package += ["--files", "files", "--output", name]
    index = ["apk", "mkndx", "--output", "packages.adb", name]
    if key:
        package += ["--sign", str(key)]
        index += ["--sign", str(key)]
    return [package, index]


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
            stage(folder, target)
            lines = [shlex.join(call) for call in calls(arch, key)]
            script = "#!/bin/sh\n# As root, or under fakeroot: the files belong to root.\nset -e\nexport SOURCE_DATE_EPOCH=0\n"
            (folder / "make.sh").write_text(script + "\n".join(lines) + "\n")
            (folder / "make.sh").chmod(0o755)
            if present:
                subprocess.run(["fakeroot", "./make.sh"], cwd=folder, check=True)
    if not present:
        print(f"packaging/apk.py: no apk-tools 3 here; run make.sh in each folder of {order.output} where there is", file=sys.stderr)


if __name__ == "__main__":
    main()
