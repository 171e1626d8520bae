#!/usr/bin/env python3
"""Makes .ipk packages of the gateway and of its LuCI application without OpenWrt's SDK, and a signed index for a feed.

    packaging/ipk.py OUTPUT [--key SECRET-KEY]

Reads target/cross/TARGET/linkspan-gateway and openwrt-package/. One program serves several of OpenWrt's architectures. The
same files make the same bytes: nothing of this machine or of the time of day goes in.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
PACKAGE = TOP / "openwrt-package" / "linkspan-gateway"
LUCI = TOP / "openwrt-package" / "luci-app-linkspan"

# OpenWrt's architectures by the target of packaging/cross.sh.
ARCHITECTURES = {
    "mips": ["mips_24kc"],
    "mipsel": ["mipsel_24kc", "mipsel_74kc"],
    "armv7": ["arm_cortex-a7_neon-vfpv4", "arm_cortex-a7_vfpv4", "arm_cortex-a9_vfpv3-d16", "arm_cortex-a15_neon-vfpv4"],
    "arm": ["arm_arm926ej-s", "arm_arm1176jzf-s_vfp", "arm_cortex-a9", "arm_xscale"],
    "aarch64": ["aarch64_cortex-a53", "aarch64_cortex-a72", "aarch64_generic"],
    "x86_64": ["x86_64"],
    "riscv64": ["riscv64_generic"],
}

POSTINST = """#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_postinst $0 $@
"""
PRERM = """#!/bin/sh
[ -s ${IPKG_INSTROOT}/lib/functions.sh ] || exit 0
. ${IPKG_INSTROOT}/lib/functions.sh
default_prerm $0 $@
"""


def makefile(variable, file=PACKAGE / "Makefile"):
    """What a Makefile of ours says about itself: the SDK's package and this one agree."""
    found = re.search(rf"^\s*{variable}:=(.*)$", file.read_text(), re.MULTILINE)
    if not found:
        sys.exit(f"{file} sets no {variable}")
    return found.group(1).strip()


def version(file=PACKAGE / "Makefile"):
    return f"{makefile('PKG_VERSION', file)}-r{makefile('PKG_RELEASE', file)}"


def tar(entries):
    """A GNU tar of path -> (mode, content), with the folders on the way, all of root and of the epoch."""
    folders = {str(parent) for path in entries for parent in Path(path).parents} - {"."}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted({"."} | folders | set(entries)):
            entry = tarfile.TarInfo("./" if path == "." else f"./{path}")
            if path in entries:
                entry.mode, content = entries[path]
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
    return raw.getvalue()


def packed(data):
    return gzip.compress(data, 9, mtime=0)


def ipk(control, data, conffiles=(), scripts=None):
    """The package's bytes, and its control file with the size in it."""
    data_tar = tar(data)
    # As opkg's index wants it: the description is last, and its further lines begin with a space.
    fields = {key: value for key, value in control.items() if key != "Description"}
    control = {**fields, "Installed-Size": str(len(data_tar)), "Description": control["Description"]}
    text = "".join(f"{key}: {value}\n" for key, value in control.items() if value)
    files = {"control": (0o644, text.encode())}
    if conffiles:
        files["conffiles"] = (0o644, "".join(f"{path}\n" for path in conffiles).encode())
    for name, script in (scripts or {}).items():
        files[name] = (0o755, script.encode())
    members = [("debian-binary", b"2.0\n"), ("data.tar.gz", packed(data_tar)), ("control.tar.gz", packed(tar(files)))]
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed(raw.getvalue()), text


def program(target):
    return Path(os.environ.get("LINKSPAN_CROSS", TOP / "target" / "cross")) / target / "linkspan-gateway"


def gateway_files(target):
    files = PACKAGE / "files"
    return {
        "usr/bin/linkspan-gateway": (0o755, program(target).read_bytes()),
        "etc/config/linkspan": (0o600, (files / "linkspan.config").read_bytes()),
        "etc/init.d/linkspan": (0o755, (files / "linkspan.init").read_bytes()),
        "etc/uci-defaults/99-linkspan": (0o755, (files / "linkspan.defaults").read_bytes()),
        "lib/upgrade/keep.d/linkspan-gateway": (0o644, (files / "linkspan.keep").read_bytes()),
    }


def gateway_control(arch):
    return {
        "Package": "linkspan-gateway",
        "Version": version(),
        # The program is static, so nothing but the authorities is needed from others.
        "Depends": "ca-bundle",
        "Source": "feeds/linkspan/linkspan-gateway",
        "SourceName": "linkspan-gateway",
        "License": makefile("PKG_LICENSE"),
        "LicenseFiles": makefile("PKG_LICENSE_FILES"),
        "Section": makefile("SECTION"),
        "Require-User": makefile("USERID"),
        "SourceDateEpoch": "0",
        "URL": makefile("URL"),
        "Maintainer": makefile("PKG_MAINTAINER"),
        "Architecture": arch,
        "Description": makefile("TITLE"),
    }


def luci_files():
    data = {}
    for source, root in ((LUCI / "htdocs", "www"), (LUCI / "root", "")):
        for file in sorted(source.rglob("*")):
            if file.is_file():
                path = Path(root) / file.relative_to(source)
                data[str(path)] = (0o755 if "libexec" in path.parts else 0o644, file.read_bytes())
    return data


def luci_control():
    return {
        "Package": "luci-app-linkspan",
        "Version": version(),
        "Depends": "luci-base, rpcd, linkspan-gateway",
        "License": makefile("PKG_LICENSE"),
        "Section": "luci",
        "URL": makefile("URL"),
        "Maintainer": makefile("PKG_MAINTAINER"),
        "Architecture": "all",
        "Description": makefile("LUCI_TITLE", LUCI / "Makefile"),
    }


# Fields of a package that its feed's index leaves out, as OpenWrt's own ipkg-make-index does.
NOT_IN_INDEX = ("Maintainer", "LicenseFiles", "Source", "SourceName", "Require-User", "SourceDateEpoch")


def write_index(folder, controls, key):
    text = ""
    for name, control in sorted(controls.items()):
        content = (folder / name).read_bytes()
        lines = [line for line in control.splitlines() if line.split(":")[0] not in NOT_IN_INDEX]
        place = next(n for n, line in enumerate(lines) if line.startswith("Description:"))
        lines[place:place] = [f"Filename: {name}", f"Size: {len(content)}", f"SHA256sum: {hashlib.sha256(content).hexdigest()}"]
        text += "\n".join(lines) + "\n\n"
    # Old usign computes wrong signatures at these lengths.
    if (64 + len(text.encode())) % 128 in (110, 111):
        text += "\n\n"
    (folder / "Packages").write_text(text)
    (folder / "Packages.gz").write_bytes(packed(text.encode()))
    packages = {line.split(": ")[1]: control.split("Version: ")[1].splitlines()[0]
                for control in controls.values() for line in control.splitlines() if line.startswith("Package: ")}
    index = {"version": 2, "architecture": folder.name, "packages": packages}
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True) + "\n")
    if key:
        # signify and usign share their formats of keys and signatures.
        command = ["signify-openbsd", "-S", "-s", str(key), "-m", str(folder / "Packages"), "-x", str(folder / "Packages.sig")]
        subprocess.run(command, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--key", type=Path, help="sign the indexes with this key (signify-openbsd -G makes one)")
    order = parser.parse_args()
    targets = [target for target in ARCHITECTURES if program(target).exists()]
    if not targets:
        sys.exit("packaging/ipk.py: nothing is built in target/cross; `make cross` does it")
    luci, luci_text = ipk(luci_control(), luci_files(), scripts={"postinst": POSTINST, "prerm": PRERM})
    for target in targets:
        for arch in ARCHITECTURES[target]:
            folder = order.output / arch
            folder.mkdir(parents=True, exist_ok=True)
            scripts = {"postinst": POSTINST, "prerm": PRERM}
            package, text = ipk(gateway_control(arch), gateway_files(target), ["/etc/config/linkspan"], scripts)
            name = f"linkspan-gateway_{version()}_{arch}.ipk"
            (folder / name).write_bytes(package)
            luci_name = f"luci-app-linkspan_{version()}_all.ipk"
            (folder / luci_name).write_bytes(luci)
            write_index(folder, {name: text, luci_name: luci_text}, order.key)
            print(f"{len(package):8} bytes  {folder / name}")


if __name__ == "__main__":
    main()
