"""What the image is made of: Debian's records for scanners, and a bill of materials in CycloneDX's form."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

PLACE = "usr/share/sbom/vod-pipeline.cdx.json"


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """A package of which at least one file is in the image."""

    name: str
    version: str
    architecture: str
    status: str

    def write_to(self, system: Path) -> None:
        """Write its record where scanners look in images without dpkg, and its licence."""
        records = system / "var/lib/dpkg/status.d"
        records.mkdir(parents=True, exist_ok=True)
        (records / self.name).write_text(self.status)
        licence = Path("/usr/share/doc", self.name, "copyright")
        if licence.exists():
            place = system / licence.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(licence, place)

    def component(self) -> dict[str, Any]:
        """Return its entry in the bill of materials."""
        return _component(
            "deb/debian", self.name, self.version, f"?arch={self.architecture}&distro=debian-12"
        )


def owners_of(files: list[Path]) -> list[DebianPackage]:
    """Return the packages that the files are from, by name."""
    names = {"ca-certificates"}
    spellings = {
        spelling
        for path in files
        for each in (path, path.resolve())
        for spelling in (str(each), re.sub(r"^/usr(?=/s?bin|/lib)", "", str(each)))
    }
    # Paths without an owner are reported on standard error and by the exit status: most have two spellings.
    found = subprocess.run(
        ["xargs", "-0", "dpkg-query", "--search"],
        input="\0".join(sorted(spellings)),
        capture_output=True,
        text=True,
        check=False,
    )
    for line in found.stdout.splitlines():
        owners, _, path = line.partition(": ")
        if not Path(path).is_dir() and not owners.startswith("diversion"):
            names |= {owner.partition(":")[0] for owner in owners.split(", ")}
    return [_package(name) for name in sorted(names)]


def _package(name: str) -> DebianPackage:
    # Several architectures are never installed in the builder.
    shown = subprocess.run(
        ["dpkg-query", "--status", name], check=True, capture_output=True, text=True
    ).stdout
    fields = HeaderParser().parsestr(shown)
    status = re.sub(r"^Conffiles:\n( .*\n)*", "", shown, flags=re.MULTILINE)
    return DebianPackage(name, fields["Version"], fields["Architecture"], status)


def write_sbom(target: Path, packages: list[DebianPackage]) -> None:
    """Write the bill of materials of everything below TARGET."""
    version = os.environ.get("VERSION", "0")
    components = [package.component() for package in packages]
    components += [_ffmpeg(), *_python_packages(target), *_player_packages(target)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "container", "name": "vod-pipeline", "version": version, "bom-ref": "image"}
        },
        "components": sorted(components, key=lambda each: each["purl"]),
    }
    place = target / "application" / PLACE
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(document, indent=1) + "\n")


def _ffmpeg() -> dict[str, Any]:
    version = Path("/opt/ffmpeg/licences/version").read_text().strip()
    licence = [{"license": {"id": "GPL-2.0-or-later"}}]
    described = _component("deb/debian", "ffmpeg", version, "?arch=source&distro=debian-12")
    return described | {"type": "application", "licenses": licence}


def _python_packages(target: Path) -> list[dict[str, Any]]:
    records = (target / "libraries").rglob("*.dist-info/METADATA")
    described = [HeaderParser().parsestr(path.read_text(encoding="utf-8")) for path in records]
    return [_component("pypi", _normalized(each["Name"]), each["Version"]) for each in described]


def _normalized(name: str) -> str:
    """Return the name of a Python package as indexes and lock files spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _player_packages(target: Path) -> list[dict[str, Any]]:
    records = (target / "application").rglob("node_modules/*/package.json")
    described = [json.loads(path.read_text()) for path in records]
    return [_component("npm", each["name"], each["version"]) for each in described]


def _component(kind: str, name: str, version: str, qualifiers: str = "") -> dict[str, Any]:
    purl = f"pkg:{kind}/{quote(name)}@{quote(version, safe=':')}{qualifiers}"
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}
