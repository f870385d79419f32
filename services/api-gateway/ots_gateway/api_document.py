"""The OpenAPI document of the whole platform: what the table of routes lets in, as each service describes it.

It is there whatever the state of the services: of one that does not answer it has what was heard last, at first what
the table says.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ots_common import __version__
from ots_common.problems import TITLES
from ots_common.service import DOCUMENT_PATH
from ots_gateway.access import GATEWAY, ROUTES, Route
from ots_gateway.proxy import Proxy

_KEEP_S = 60.0
_RETRY_S = 2.0
_ASK_S = 2.0
_REF = "#/components/schemas/"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_LIST_OF_FIELDS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["pointer", "detail"],
        "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
    },
}
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "An error (RFC 9457). `errors` names each wrong field; `hint` is something that works.",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:ai-ots:problem:role"]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
        "errors": _LIST_OF_FIELDS,
        "hint": {"type": "string"},
    },
}
_LIMIT_FIELDS = {
    "RateLimit": {"schema": {"type": "string"}, "description": 'bucket, units left, seconds: `"read";r=99;t=1`'},
    "RateLimit-Policy": {"schema": {"type": "string"}, "description": 'bucket, quota, window: `"read";q=100;w=60`'},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A name of your own for this request: its repetition within 24 hours gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-+--~]+$"},
}


@dataclass(frozen=True)
class Document:
    """The JSON text and its ETag."""

    text: str
    etag: str


class ApiDocument:
    """Asks the services at most once a minute, all at once."""

    def __init__(self, proxy: Proxy, own: Mapping[str, Any], services: Iterable[str]) -> None:
        self._proxy = proxy
        self._heard: dict[str, Mapping[str, Any]] = {GATEWAY: own}
        self._services = tuple(services)
        self._askers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="documents")
        self._lock = threading.Lock()
        self._document: Document | None = None
        self._until = 0.0

    def get(self) -> Document:
        """The document of now, or of a minute ago."""
        with self._lock:
            if self._document is None or time.monotonic() > self._until:
                self._ask()
                text = json.dumps(merge(ROUTES, self._heard), separators=(",", ":"))
                self._document = Document(text, f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"')
            return self._document

    def _ask(self) -> None:
        asked = {
            name: self._askers.submit(self._proxy.document, name, DOCUMENT_PATH, _ASK_S) for name in self._services
        }
        told = {name: future.result() for name, future in asked.items()}
        self._heard.update({name: document for name, document in told.items() if document is not None})
        self._until = time.monotonic() + (_RETRY_S if None in told.values() else _KEEP_S)


def merge(routes: Iterable[Route], documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One OpenAPI 3.1 document of ``routes``; an operation that no document has is there with what its row says."""
    schemas: dict[str, Any] = {"Problem": PROBLEM_SCHEMA}
    names = {service: _names(service, document, schemas) for service, document in documents.items()}
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, dict[str, Any]] = {}
    for route in routes:
        document = documents.get(route.service, {})
        found = document.get("paths", {}).get(route.pattern, {}).get(route.method.lower())
        operation = _renamed(found, names.get(route.service, {})) if found else _from_the_table(route)
        _complete(operation, route, known=found is not None)
        paths.setdefault(route.pattern, {})[route.method.lower()] = operation
        for tag in document.get("tags", []):
            if tag.get("name") in operation.get("tags", []):
                tags.setdefault(tag["name"], tag)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AI-OTS",
            "version": __version__,
            "description": "Options of nine underlyings: quotes, bars, indicators, chains. Times are RFC 3339 in UTC, "
            "prices dollars, volatilities decimals; errors are `application/problem+json`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": list(tags.values()),
        "paths": paths,
        "components": {
            "schemas": _used(paths, schemas),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _names(service: str, document: Mapping[str, Any], schemas: dict[str, Any]) -> dict[str, str]:
    """What each schema of ``document`` is called in the merged one; two that differ keep apart."""
    own = document.get("components", {}).get("schemas", {})
    names = {name: name if name not in schemas else f"{service}.{name}" for name in own}
    for name, schema in own.items():
        if name in schemas and _renamed(schema, {}) == schemas[name]:
            names[name] = name
    for name, schema in own.items():
        schemas[names[name]] = _renamed(schema, names)
    return names


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """A copy of ``node`` whose references go to the new names."""
    if isinstance(node, dict):
        return {
            key: _REF + names.get(value.removeprefix(_REF), value.removeprefix(_REF))
            if key == "$ref" and isinstance(value, str) and value.startswith(_REF)
            else _renamed(value, names)
            for key, value in node.items()
        }
    return [_renamed(item, names) for item in node] if isinstance(node, list) else node


def _used(paths: Any, schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas that ``paths`` lead to."""
    used: dict[str, Any] = {}
    waiting = _references(paths)
    while waiting:
        name = waiting.pop()
        if name not in used and name in schemas:
            used[name] = schemas[name]
            waiting |= _references(schemas[name])
    return dict(sorted(used.items()))


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"].removeprefix(_REF)} if isinstance(node.get("$ref"), str) else set()
        return found.union(*map(_references, node.values()))
    return set().union(*map(_references, node)) if isinstance(node, list) else set()


def _from_the_table(route: Route) -> dict[str, Any]:
    return {
        "tags": [route.service],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PLACEHOLDER.findall(route.pattern)
        ],
        "responses": {"200": {"description": "As the service answers"}},
    }


def _complete(operation: dict[str, Any], route: Route, *, known: bool) -> None:
    """Add what the gateway knows: who may, what it may answer, the limits."""
    operation["operationId"] = _operation_id(route)
    operation["security"] = [] if route.role is None else [{"bearer": []}, {"key": []}]
    if route.role is not None:
        operation["x-role"], operation["x-scope"] = route.role.label, route.scope
    operation["x-rate-limit"] = {"bucket": route.bucket, "cost": route.cost}
    if not known:
        operation["x-not-described"] = f"{route.service} does not answer now"
    if route.idempotent:
        operation["parameters"] = [*operation.get("parameters", []), _IDEMPOTENCY_KEY]
    responses = operation.setdefault("responses", {})
    formats = [media for answer in responses.values() for media in answer.get("content", {})]
    if not any(status.startswith("2") for status in responses):
        responses["200"] = {"description": "As the name says"}
    if route.pattern == "/health":
        responses["503"] = {"description": "Something that is needed does not answer; the body says what"}
    for answer in responses.values():
        if route.pattern not in ("/metrics",):
            answer.setdefault("headers", {}).update(_LIMIT_FIELDS)
    if route.method == "GET" and route.service != GATEWAY:
        responses["304"] = {"description": "What the ETag in If-None-Match names is still the answer"}
    own = {int(status) for status in responses if status.isdigit() and int(status) >= 400}
    if "text/csv" in formats:
        own.add(406)
    # what is wrong is a problem, whoever says it; only /health says more when something is down
    for status in sorted((own | set(_problems(route))) - ({503} if route.pattern == "/health" else set())):
        responses[str(status)] = {
            "description": TITLES.get(status, "Error"),
            "content": {"application/problem+json": {"schema": {"$ref": f"{_REF}Problem"}}},
        }


def _problems(route: Route) -> list[int]:
    statuses = {400, 404, 405, 408, 414, 429, 431, 500, 503}
    if route.role is not None or route.pattern in ("/metrics", "/api/v1/auth/login", "/api/v1/auth/refresh"):
        statuses |= {401, 403}
    if route.body_limit:
        statuses |= {409, 413, 415, 422}
    if route.service != GATEWAY:
        statuses |= {409, 413, 422, 502, 504}
    return sorted(statuses)


def _operation_id(route: Route) -> str:
    words = re.findall(r"[A-Za-z0-9]+", route.pattern.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *words])
