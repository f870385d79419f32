"""Examples in the OpenAPI documents: pydantic writes ``examples``, and flask-openapi3 keeps ``example`` alone."""

from __future__ import annotations

from typing import Any

from flask_openapi3 import utils
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

_schema_of = utils.get_model_schema


def install() -> None:
    """From now on the first of a model's or a field's ``examples`` is in the documents."""
    utils.get_model_schema = _with_example


def _with_example(model: type[BaseModel], mode: JsonSchemaMode = "validation") -> dict[str, Any]:
    schema = _schema_of(model, mode)
    _keep_first(schema)
    return schema


def _keep_first(node: Any) -> None:
    if isinstance(node, dict):
        examples = node.get("examples")
        if isinstance(examples, list) and examples:
            node.setdefault("example", examples[0])
        for value in node.values():
            _keep_first(value)
    elif isinstance(node, list):
        for value in node:
            _keep_first(value)
