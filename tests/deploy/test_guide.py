"""docs/DEPLOYMENT_GUIDE.md: its commands work as printed, and its tables are what the code has."""

from __future__ import annotations

import re
import shlex

import pytest

from ots_deploy import errors
from ots_deploy.__main__ import main, parser
from ots_native.__main__ import _parser
from places import ROOT

GUIDE = (ROOT / "docs" / "DEPLOYMENT_GUIDE.md").read_text()
TO_RUN = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
TO_READ = [line for block in re.findall(r"```text\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
DEPLOYS = [line for line in TO_RUN if line.startswith("./deploy-prod.sh ")]


def test_every_line_of_a_block_is_tried():
    assert len(DEPLOYS) >= 10
    assert {line.split()[0] for line in TO_RUN} == {"./deploy-prod.sh", "./start-dev.sh"}


@pytest.mark.parametrize("line", DEPLOYS)
def test_the_deployments_are_run_dry(line, monkeypatch, capsys):
    monkeypatch.setenv("OTS_DEPLOY_ENVIRONMENT", "desk")
    words = shlex.split(line)[1:]
    assert "--dry-run" in words
    assert main(words) == 0
    assert "  terraform " in capsys.readouterr().out


def test_the_others_are_ones_that_there_are():
    for line in TO_RUN + TO_READ:
        if line.startswith("./deploy-prod.sh"):
            parser().parse_args(shlex.split(line)[1:])
        elif line.startswith("./start-dev.sh"):
            words = [word for word in shlex.split(line)[1:] if word not in ("--native", "--compose")]
            _parser().parse_args(words or ["up"])
    for example in re.findall(r"environments/\w+\.tfvars\.example", "\n".join(TO_READ)):
        assert (ROOT / "infrastructure" / "terraform" / example).exists()


def test_every_exit_status_is_told():
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", GUIDE, re.MULTILINE)}
    raised = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    assert told == raised
    assert all(f"{number} " in str(parser().epilog) for number in told)


def test_the_ports_are_composes():
    compose = (ROOT / "docker-compose.yml").read_text()
    (row,) = re.findall(r"^\| ports \| (.*) \|$", GUIDE, re.MULTILINE)
    assert set(re.findall(r"\b\d{4}\b", row)) == set(re.findall(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}", compose))


def test_the_variables_are_terraforms():
    variables = "".join(path.read_text() for path in (ROOT / "infrastructure" / "terraform").glob("*.tf"))
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = \w+)?`", GUIDE)) - {"memfd_create"}
    assert len(named) > 7
    assert not {name for name in named if f'"{name}"' not in variables}
