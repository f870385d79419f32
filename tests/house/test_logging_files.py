"""What ships the logs: read as far as it can be without vector and Loki, which are not to be had where tests run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ots_common.logs import STREAMS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "monitoring" / "logging"


def read(name):
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_it_is_yaml_with_something_in_it(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_labels_are_few_and_none_of_them_is_an_id():
    """Every value of a label is a stream of its own in Loki: one for each request would end it."""
    labels = read("vector.yaml")["sinks"]["loki"]["labels"]
    assert set(labels) == {"platform", "service", "stream", "level"}
    assert len(labels) <= read("loki.yaml")["limits_config"]["max_label_names_per_series"]
    program = read("vector.yaml")["transforms"]["lines"]["source"]
    for name in ("service", "stream", "level"):
        assert labels[name].split() == ["{{", name, "}}"]
        assert re.search(rf"\.{name} = ", program.split("# labels are for")[1]), f"{name} is not bounded"
    assert set(re.findall(r'"(\w+)"', program.split("includes(")[1].split("]")[0])) == set(STREAMS)


def test_what_reads_is_what_is_made():
    pipeline = read("vector.yaml")
    made = {*pipeline["sources"], *pipeline["transforms"]}
    for part in (*pipeline["transforms"].values(), *pipeline["sinks"].values()):
        assert set(part["inputs"]) <= made
    assert read("grafana-datasource.yaml")["datasources"][0]["url"] == pipeline["sinks"]["loki"]["endpoint"]
    assert str(read("loki.yaml")["server"]["http_listen_port"]) in pipeline["sinks"]["loki"]["endpoint"]
