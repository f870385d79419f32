"""What an image is made of: a bill of materials in CycloneDX's JSON, read from the image itself."""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ots_deploy.shell import Shell

# python:slim has pip, for which the packages of another Python are an argument
_PACKAGES = ("/usr/local/bin/python", "-I", "-m", "pip", "--python", "/opt/venv/bin/python", "inspect")
_DEBIAN = ("dpkg-query", "--show", "--showformat", r"${Package}\t${Version}\t${Architecture}\n")
_SYSTEM = ("cat", "/etc/os-release")


def write_sbom(shell: Shell, image: str, output: Path | None) -> None:
    """The Python packages of an image, with their licences, and Debian's."""

    def inside(*words: str) -> str:
        entry, *rest = words
        return shell.run("docker", "run", "--rm", "--network=none", f"--entrypoint={entry}", image, *rest).out

    described = json.loads(shell.run("docker", "image", "inspect", image).out)[0]
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', inside(*_SYSTEM), re.MULTILINE))
    packages = json.loads(inside(*_PACKAGES))["installed"]
    debian = [line.split("\t") for line in inside(*_DEBIAN).splitlines()]
    bill = bill_of(image, described, packages, debian, system)
    text = json.dumps(bill, indent=1) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text)


def bill_of(
    image: str,
    described: Mapping[str, Any],
    packages: list[dict[str, Any]],
    debian: list[list[str]],
    system: Mapping[str, str],
) -> dict[str, Any]:
    """CycloneDX 1.5, the same for the same image: its serial number is made of the image's id."""
    labels = described["Config"].get("Labels") or {}
    components = [_python_package(each) for each in packages]
    components += [_debian_package(*each, release=system.get("VERSION_CODENAME", "")) for each in debian]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, described['Id'])}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": described["Id"],
                "name": image,
                "version": labels.get("org.opencontainers.image.revision", described["Id"]),
            }
        },
        "components": sorted(components, key=lambda each: each["bom-ref"]),
    }


def _python_package(found: Mapping[str, Any]) -> dict[str, Any]:
    about = found["metadata"]
    name = re.sub(r"[-_.]+", "-", about["name"]).lower()
    purl = f"pkg:pypi/{name}@{about['version']}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": about["name"],
        "version": about["version"],
        "purl": purl,
    }
    if expression := about.get("license_expression"):
        component["licenses"] = [{"expression": expression}]
    elif names := _licences(about):
        component["licenses"] = [{"license": {"name": name}} for name in names]
    return component


def _licences(about: Mapping[str, Any]) -> list[str]:
    """The names that older metadata give: a line, or what the classifiers say."""
    lines = (about.get("license") or "").strip().splitlines()
    if lines and len(lines) == 1 and len(lines[0]) < 100:
        return [lines[0]]
    classifiers = [each for each in about.get("classifier", []) if each.startswith("License ::")]
    return [each.rpartition(" :: ")[2] for each in classifiers]


def _debian_package(name: str, version: str, architecture: str, *, release: str) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}&distro={release}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
