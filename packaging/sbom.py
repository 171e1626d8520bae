#!/usr/bin/env python3
"""Prints what our programs are made of, as CycloneDX 1.5: every crate of Cargo.lock with its version and checksum."""

import json
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def main():
    with open(TOP / "Cargo.lock", "rb") as file:
        packages = tomllib.load(file)["package"]
    with open(TOP / "Cargo.toml", "rb") as file:
        version = tomllib.load(file)["workspace"]["package"]["version"]
    components = []
    for package in packages:
        purl = f'pkg:cargo/{package["name"]}@{package["version"]}'
        component = {"type": "library", "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl}
        if "checksum" in package:
            component["hashes"] = [{"alg": "SHA-256", "content": package["checksum"]}]
        components.append(component)
    versions = {}
    for package in packages:
        versions.setdefault(package["name"], []).append(package["version"])

    def reference(words):
        name, *rest = words.split(" ")
        return f"pkg:cargo/{name}@{rest[0] if rest else versions[name][0]}"

    dependencies = [
        {"ref": f'pkg:cargo/{package["name"]}@{package["version"]}', "dependsOn": sorted(map(reference, package.get("dependencies", [])))}
        for package in packages
    ]
    metadata = {"component": {"type": "application", "name": "linkspan", "version": version}}
    print(json.dumps({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": metadata,
        "components": components, "dependencies": dependencies,
    }, indent=1))


if __name__ == "__main__":
    main()
