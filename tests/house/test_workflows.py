"""GitHub's workflows, parsed: they run what CI runs, with the least rights, by actions that nobody can exchange."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from ots_deploy.__main__ import parser
from places import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# the key `on` is YAML's word for true
WORKFLOWS: dict[str, dict[Any, Any]] = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
STEPS = [(name, step) for name, flow in WORKFLOWS.items() for job in flow["jobs"].values() for step in job["steps"]]


def test_there_are_two():
    assert set(WORKFLOWS) == {"ci", "deploy"}


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_rights_are_the_least(name):
    expected = {"contents": "read"} | ({"id-token": "write"} if name == "deploy" else {})
    assert WORKFLOWS[name]["permissions"] == expected
    for job in WORKFLOWS[name]["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 120


def test_actions_are_pinned_by_commit():
    text = "\n".join(path.read_text() for path in FILES)
    used = re.findall(r"uses: (\S+)(.*)$", text, re.MULTILINE)
    assert len(used) >= 8
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action} does not say its version"
    assert len({action.partition("@")[0] for action, _ in used}) == len(set(used)), "one action in two versions"


def test_no_input_gets_into_a_script():
    """Whoever may start a workflow could else put a command into it."""
    for name, step in STEPS:
        assert "${{" not in step.get("run", ""), (name, step)
        assert "secrets." not in str(step), "a release needs no secret of GitHub's"
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_it_runs_what_ci_runs_on_every_python():
    tests = WORKFLOWS["ci"]["jobs"]["tests"]
    assert [step["run"] for step in tests["steps"] if "run" in step][-1] == ".ci/run"
    assert tests["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    install = (ROOT / "infrastructure" / "native" / "install.sh").read_text()
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in install
    assert WORKFLOWS["ci"][True].keys() == {"push", "pull_request", "workflow_dispatch"}


def test_a_release_is_started_by_hand_in_an_environment():
    flow = WORKFLOWS["deploy"]
    assert flow[True].keys() == {"workflow_dispatch"}
    (job,) = flow["jobs"].values()
    assert job["environment"] == "${{ inputs.environment }}"
    for command in flow[True]["workflow_dispatch"]["inputs"]["command"]["options"]:
        assert parser().parse_args([command, "--yes"]).command == command
