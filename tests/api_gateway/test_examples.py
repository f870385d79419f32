"""What the docs page offers to send: an example for every parameter that is required and for every body."""

from __future__ import annotations

import sys
from typing import Any

import jsonschema_rs
import pytest

from ots_gateway.access import ROUTES
from ots_gateway.api_document import merge
from places import ROOT

# whoever asks must know them: no example could be right
NAMES_OF_THEIR_OWN = {"user_id", "key_id", "run_id", "backfill_id", "signal_id", "backtest_id", "key", "asset"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "docs"))
    from generate_api_reference import documents

    return merge(ROUTES, documents())


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", each) for path, methods in document["paths"].items() for method, each in methods.items()
    ]


def _check(example: Any, schema: dict[str, Any]) -> None:
    errors = [f"{error.instance_path}: {error.message}" for error in jsonschema_rs.iter_errors(schema, example)]
    assert errors == [], schema["$ref"]


def test_every_required_parameter_has_an_example(document):
    without = [
        (name, parameter["name"])
        for name, operation in _operations(document)
        for parameter in operation.get("parameters", [])
        if parameter["required"] and parameter["name"] not in NAMES_OF_THEIR_OWN and "example" not in parameter
    ]
    assert without == []


def test_every_body_has_an_example_that_its_schema_allows(document):
    without = []
    for name, operation in _operations(document):
        media = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media is None:
            continue
        schema = {**media["schema"], "components": document["components"]}
        found = document["components"]["schemas"][media["schema"]["$ref"].rsplit("/", 1)[1]]
        if "example" in found:
            _check(found["example"], schema)
        elif found.get("required"):
            without.append(name)
    assert without == []


def test_examples_of_answers_are_what_their_schema_allows(document):
    shown = 0
    for name, schema in document["components"]["schemas"].items():
        if "example" in schema:
            _check(schema["example"], {"$ref": f"#/components/schemas/{name}", "components": document["components"]})
            shown += 1
    assert shown > 10


def test_tables_say_their_formats_and_that_others_are_refused(document):
    bars = document["paths"]["/api/v1/data/bars/{symbol}"]["get"]["responses"]
    assert list(bars["200"]["content"]) == [
        "application/json", "text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet",
    ]  # fmt: skip
    assert "304" in bars
    assert list(bars["406"]["content"]) == ["application/problem+json"]
    runs = document["paths"]["/api/v1/data/runs/{run_id}"]["get"]["responses"]
    assert "406" not in runs
