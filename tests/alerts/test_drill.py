"""The drill is run by hand: it takes a platform and a quarter of an hour. That it leaves no alert out is tested."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from alerts.conftest import Tool
from alerts.drill import CHANGED, main, shortened
from alerts.drill_causes import CAUSES, NOT_CAUSED
from alerts.rule_files import RULE_FILES, alerts
from ots_ingestion import metrics

NAMES = {str(alert["alert"]) for alert in alerts()}


def test_every_alert_has_a_cause_or_a_reason_why_not() -> None:
    entries = Counter([*(alert for cause in CAUSES for alert in cause.alerts), *NOT_CAUSED])
    assert set(entries) == NAMES
    assert {alert for alert, number in entries.items() if number > 1} == set()
    assert all(NOT_CAUSED.values())


def test_what_is_changed_is_there_to_be_changed() -> None:
    assert set(CHANGED) <= NAMES
    with pytest.raises(ValueError, match="FeedMute has no > 300"):
        shortened('{"groups": [{"name": "a", "rules": [{"alert": "FeedMute", "expr": "x > 1"}]}]}')


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_shorter_rules_are_rules(path: Path, promtool: Tool, tmp_path: Path) -> None:
    text = shortened(path.read_text())
    (tmp_path / "rules.yml").write_text(text)
    checked = promtool("check", "rules", tmp_path / "rules.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    waits = [rule.get("for") for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    assert set(waits) <= {None, "2s"}


def test_the_list_says_what_would_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{name} " in told for name in NAMES)


def test_the_first_failed_part_of_a_backfill_is_an_increase() -> None:
    """As the drill found: a series that appears with 1 is none, and BackfillPartsFail asks for one."""
    told = {sample.labels["outcome"] for family in metrics.BACKFILL_PARTS.collect() for sample in family.samples}
    assert told >= {"done", "empty", "postponed", "failed"}
