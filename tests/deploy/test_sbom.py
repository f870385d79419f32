"""A bill of materials of what an image was found to hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ots_deploy import shell as shells
from ots_deploy.__main__ import main
from ots_deploy.shell import Done

IMAGE = [{"Id": "sha256:" + "1" * 64, "Config": {"Labels": {"org.opencontainers.image.revision": "4f0c2a1"}}}]
PACKAGES = {
    "installed": [
        {"metadata": {"name": "Flask_OpenAPI3", "version": "4.3.0", "license_expression": "MIT"}},
        {"metadata": {"name": "redis", "version": "8.0.1", "license": "MIT"}},
        {
            "metadata": {
                "name": "gevent",
                "version": "25.9.1",
                "license": "line\n" * 40,
                "classifier": ["Topic :: Internet", "License :: OSI Approved :: MIT License"],
            }
        },
        {"metadata": {"name": "silent", "version": "1"}},
    ]
}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker, which has one image."""
    answers = {
        "cat": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n',
        "/usr/local/bin/python": json.dumps(PACKAGES),
        "dpkg-query": "libc6\t2.36-9+deb12u9\tamd64\nadduser\t3.134\tall\n",
    }

    def execute(words: tuple[str, ...], **_settings: Any) -> Done:
        if words[:3] == ("docker", "image", "inspect"):
            return Done(0, json.dumps(IMAGE))
        assert "--network=none" in words
        (entry,) = (word.partition("=")[2] for word in words if word.startswith("--entrypoint="))
        return Done(0, answers[entry])

    monkeypatch.setattr(shells, "execute", execute)


def test_it_names_every_package_and_is_the_same_again(engine: None, tmp_path):
    files = [tmp_path / name for name in ("a.json", "b.json")]
    for file in files:
        assert main(["sbom", "ai-ots/gateway:development", "--output", str(file)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    bill = json.loads(files[0].read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["version"] == "4f0c2a1"
    assert {each["purl"]: each.get("licenses") for each in bill["components"]} == {
        "pkg:deb/debian/adduser@3.134?arch=all&distro=bookworm": None,
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=bookworm": None,
        "pkg:pypi/flask-openapi3@4.3.0": [{"expression": "MIT"}],
        "pkg:pypi/gevent@25.9.1": [{"license": {"name": "MIT License"}}],
        "pkg:pypi/redis@8.0.1": [{"license": {"name": "MIT"}}],
        "pkg:pypi/silent@1": None,
    }
