#!/usr/bin/env python3
"""Makes vendors.z: who registered which beginning of an Ethernet address, one on a line, sorted, packed (zlib).

    apt-get install ieee-data && server/src/lan/vendors.py

The lists are the IEEE's (MA-L, MA-M, MA-S, IAB), as Debian's package `ieee-data` brings them. The IEEE asserts no copyright
in them and does not restrict their distribution (/usr/share/doc/ieee-data/copyright).
"""
import csv, pathlib, re, sys, zlib

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/ieee-data")
ending = re.compile(r"[,. ]+(co|ltd|inc|llc|corp|corporation|limited|company|gmbh|ag|kg|s\.?a|s\.?r\.?l|b\.?v|co\.? *, *ltd|pty|bhd|sdn|a/s|ab|oy|plc|pte)\.?$", re.I)
lines = {}
for name in ("oui", "mam", "oui36", "iab"):
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            vendor = re.sub(r"\s+", " ", "".join(c for c in row["Organization Name"] if c.isprintable())).strip()
            while (short := ending.sub("", vendor)) != vendor and len(short) > 2:
                vendor = short
            if vendor and vendor.lower() not in ("private", "ieee registration authority"):
                lines[row["Assignment"].lower()] = vendor[:40].strip()
text = "".join(f"{prefix} {vendor}\n" for prefix, vendor in sorted(lines.items()))
out = pathlib.Path(__file__).with_name("vendors.z")
out.write_bytes(zlib.compress(text.encode(), 9))
print(f"{len(lines)} prefixes, {len(text)} bytes, packed {out.stat().st_size}", file=sys.stderr)
