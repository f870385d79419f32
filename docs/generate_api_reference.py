"""Writes docs/API_REFERENCE.md from the code: the services' OpenAPI and the gateway's table of routes.

python docs/generate_api_reference.py            writes it
python docs/generate_api_reference.py --check    exit code 1 when what is there is not current
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

from ots_analytics.app import create_app as create_analytics
from ots_analytics.settings import AnalyticsSettings
from ots_cache.app import create_app as create_cache
from ots_cache.settings import CacheSettings
from ots_gateway.access import ROUTES, Route
from ots_gateway.app import create_app as create_gateway
from ots_gateway.settings import GatewaySettings
from ots_ingestion.app import create_app as create_ingestion
from ots_ingestion.settings import IngestionSettings
from ots_signals.app import create_app as create_signals
from ots_signals.settings import SignalsSettings

TARGET = Path(__file__).with_name("API_REFERENCE.md")
_NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
_HEAD = """# API reference

Made from the code by `python docs/generate_api_reference.py`; a test keeps it current.

Base URL in development: `http://localhost:8000`. Every route but those marked *anybody* wants
`Authorization: Bearer $TOKEN`; `eval "$(./start-dev.sh token --role ROLE)"` sets `$TOKEN`. Each role may all that those
before it may: viewer, trader, operator, admin.

Times are RFC 3339 in UTC with up to nanoseconds; as a parameter also with another offset, or a date (midnight UTC).
Prices are numbers in dollars. Lists come in pages: `next` is the path of the following page, or null.
What is also a table comes with the same values as CSV, Arrow or Parquet by `Accept`; then
`Link: <...>; rel="next"` leads on. Answers to GET have an ETag: `If-None-Match` with it gets 304 while it holds.
Larger answers come compressed to whom sends `Accept-Encoding: gzip`.

Errors are `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, `instance`, `request_id`, for
wrong input `errors` (a `pointer` to each field and what is wrong with it), and where it helps a `hint`. An unknown
query parameter is an error.
"""


def documents() -> dict[str, Any]:
    """The OpenAPI documents of all services, by name."""
    gateway = GatewaySettings(
        database_url=_NOWHERE,
        upstreams={},
        jwt_signing_key=base64.urlsafe_b64encode(bytes(32)).decode(),
        metrics_token="0" * 32,
    )
    apps = {
        "gateway": create_gateway(gateway),
        "data-ingestion": create_ingestion(IngestionSettings(database_url=_NOWHERE, spool_dir="/nowhere")),
        "analytics": create_analytics(AnalyticsSettings(database_url=_NOWHERE)),
        "signals": create_signals(SignalsSettings(database_url=_NOWHERE)),
        "cache": create_cache(CacheSettings(database_url=_NOWHERE)),
    }
    return {name: app.api_doc for name, app in apps.items()}


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    docs = documents()
    for service, document in docs.items():
        rows = [route for route in ROUTES if route.service == service]
        parts.append(f"## {service}\n\n{document['info'].get('description', '')}\n")
        parts += [_operation(route, document) for route in rows]
    return "\n".join(parts).rstrip() + "\n"


def _operation(route: Route, document: dict[str, Any]) -> str:
    path = next((p for p in document["paths"] if re.sub(r"\{\w+:", "{", p) == route.pattern), None)
    operation = document["paths"][path][route.method.lower()] if path else {}
    who = "anybody" if route.role is None else route.role.label
    if route.pattern == "/metrics":
        who = "the holder of METRICS_TOKEN, operator"
    lines = [
        f"### `{route.method} {route.pattern}`",
        "",
        f"{operation.get('summary', _PLAIN.get(route.pattern, ''))}. Role: {who}.",
        "",
    ]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | type | default | |", "|---|---|---|---|---|"]
        lines += [_parameter(parameter) for parameter in parameters]
        lines.append("")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        fields = _fields(content["schema"], document)
        lines += [f"Body: `{media}`, at most {_size(route.body_limit)}.", "", *([*fields, ""] if fields else [])]
    answers = operation.get("responses", {})
    told: dict[str, Any] | None = None
    for status, answer in sorted(answers.items()):
        content = answer.get("content", {}).get("application/json")
        if status.startswith("2") and content and content["schema"] == told:
            lines += [f"Answer {status}: the same.", ""]
        elif status.startswith("2") and content:
            told = content["schema"]
            lines += [f"Answer {status}:", "", *_fields(content["schema"], document), ""]
            if tables := [f"`{media}`" for media in answer["content"] if media != "application/json"]:
                lines += [f"Also as {', '.join(tables)}.", ""]
    # the framework lists 422 everywhere, also where there is nothing to get wrong
    possible = bool(operation.get("parameters") or operation.get("requestBody"))
    errors = [status for status in sorted(answers) if not status.startswith("2") and (possible or status != "422")]
    if errors:
        lines += [f"Errors of its own: {', '.join(errors)}.", ""]
    return "\n".join(lines)


_PLAIN = {
    "/health": "How every service is: 200 when all that is needed answers, else 503",
    "/health/live": "The gateway itself runs",
    "/version": "Version, installation and market source",
    "/metrics": "Metrics of the gateway in Prometheus' text format",
}


def _size(limit: int) -> str:
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if limit >= unit:
            return f"{limit // unit} {name}"
    return f"{limit} bytes"


def _resolve(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1]).removesuffix("Model")
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any JSON"))


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter.get("schema", {})
    default = "" if schema.get("default") is None else f"`{schema['default']}`"
    text = str(parameter.get("description", "")).replace("|", "\\|").replace("\n", " ")
    return f"| `{parameter['name']}` | {parameter['in']} | {_type(schema)} | {default} | {text} |"


def _fields(schema: dict[str, Any], document: dict[str, Any], depth: int = 0) -> list[str]:
    resolved = _resolve(schema, document)
    lines = []
    if depth == 0 and (text := resolved.get("description")):
        lines += [" ".join(str(text).split()), ""]
    for name, field in resolved.get("properties", {}).items():
        text = f": {field['description']}" if field.get("description") and "$ref" not in field else ""
        lines.append(f"{'  ' * depth}- `{name}` ({_type(field)}){text}")
        inner = field.get("items", field)
        if "$ref" in inner and depth < 2:
            lines += _fields(inner, document, depth + 1)
    return lines


def main() -> int:
    """Write the page, or check it."""
    text = reference()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    print(f"wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
