"""Writes a CycloneDX list of the crates that the program is linked from.

    cargo tree --locked -e normal,no-proc-macro --target TRIPLE --prefix depth --no-dedupe --format '|{p}|{l}|{r}' |
      python3 .ci/sbom.py Cargo.lock SECONDS

SECONDS since 1970 is when it was made. The first line of the tree is the program itself.
"""

import datetime
import json
import sys
import tomllib
import uuid

with open(sys.argv[1], "rb") as file:
    lock = {(one["name"], one["version"]): one for one in tomllib.load(file)["package"]}
made = int(sys.argv[2])

crates, needs, above = {}, {}, []
for line in sys.stdin:
    depth, name_and_version, licence, repository = line.rstrip("\n").split("|")
    name, version = name_and_version.split(" ")[:2]
    crate = (name, version.removeprefix("v"))
    crates[crate] = (licence, repository)
    above[int(depth) :] = [crate]
    needs.setdefault(crate, set())
    if len(above) > 1:
        needs[above[-2]].add(crate)


def purl(crate):
    return f"pkg:cargo/{crate[0]}@{crate[1]}"


def component(crate, kind):
    licence, repository = crates[crate]
    entry = {"type": kind, "bom-ref": purl(crate), "name": crate[0], "version": crate[1], "purl": purl(crate)}
    if "checksum" in lock[crate]:
        entry["hashes"] = [{"alg": "SHA-256", "content": lock[crate]["checksum"]}]
    if licence:
        entry["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if repository:
        entry["externalReferences"] = [{"type": "vcs", "url": repository}]
    return entry


program, *_ = crates
libraries = sorted(set(crates) - {program})
when = datetime.datetime.fromtimestamp(made, datetime.timezone.utc)
bom = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{purl(program)} {made}')}",
    "version": 1,
    "metadata": {
        "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "component": component(program, "application"),
    },
    "components": [component(crate, "library") for crate in libraries],
    "dependencies": [
        {"ref": purl(crate), "dependsOn": sorted(map(purl, needs[crate]))} for crate in [program, *libraries]
    ],
}
json.dump(bom, sys.stdout, indent=1)
print()
