"""Every service is in all the places that docs/ADDING_A_SERVICE.md names."""

import re

import pytest

from places import ROOT

PAGE = (ROOT / "docs" / "ADDING_A_SERVICE.md").read_text()
# folder -> package, for what has an HTTP app of its own and is no development's tool
SERVICES = {
    path.parent.parent.name: path.parent.name
    for path in ROOT.glob("services/*/ots_*/app.py")
    if path.parent.name != "ots_simulator"
}
PLACES = {
    place
    for row in re.findall(r"^\| (`[^|]+) \|", PAGE.split("## The places")[1], re.MULTILINE)
    for place in re.findall(r"`([^`]+)`", row)
}
# what each place calls it: its folder, its package, or its short name; these need not know all of them
SOME_ONLY = {
    "services/common/ots_common/provision.py",  # where it has a role of its own
    "services/common/ots_common/redaction.py",  # where it has secrets of its own
    "infrastructure/native/ots_native/env_file.py",
}


def test_the_page_names_places_that_there_are():
    assert len(PLACES) > 12
    for place in PLACES:
        assert (ROOT / place).exists(), place


def test_there_are_services():
    assert len(SERVICES) >= 5


@pytest.mark.parametrize("place", sorted(PLACES - SOME_ONLY))
@pytest.mark.parametrize("folder", sorted(SERVICES))
def test_a_service_is_in_each_place(folder, place):
    package = SERVICES[folder]
    text = (ROOT / place).read_text()
    names = [folder, package, package.removeprefix("ots_")]
    assert any(re.search(rf"\b{re.escape(name)}\b", text) for name in names), f"{folder} is not in {place}"


@pytest.mark.parametrize("folder", sorted(SERVICES))
def test_a_service_has_its_rooms(folder):
    home = ROOT / "services" / folder
    package = home / SERVICES[folder]
    for name in ("Dockerfile", "pyproject.toml", "requirements.in", "requirements.txt"):
        assert (home / name).exists(), name
    for name in ("__init__.py", "py.typed", "app.py", "settings.py", "gunicorn_conf.py", "metrics.py"):
        assert (package / name).exists(), name
    assert (package / "routes").is_dir() or folder == "api-gateway"
