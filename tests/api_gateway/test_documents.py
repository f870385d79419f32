"""The platform's document and its page."""

import re

import pytest
import requests
from pydantic import SecretStr

from ots_common.tokens import Caller, sign_internal_token, verify_internal_token
from ots_gateway.access import ROUTES, Role, Route
from ots_gateway.api_document import merge
from ots_gateway.internal_tokens import InternalSigner


def test_it_is_there_without_any_service(start_gateway):
    with start_gateway(1, WORKERS="1") as gateway:
        answer = requests.get(gateway.url + "/api/v1/openapi.json", timeout=10)
    assert answer.status_code == 200
    document = answer.json()
    assert document["openapi"] == "3.1.0"
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert operations == {(route.method, route.pattern) for route in ROUTES}


def test_it_is_not_sent_twice(gateway):
    first = requests.get(gateway.url + "/api/v1/openapi.json", timeout=10)
    again = requests.get(
        gateway.url + "/api/v1/openapi.json", timeout=10, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def document(name, schema, path="/a"):
    reference = {"$ref": f"#/components/schemas/{name}"}
    answer = {"description": "d", "content": {"application/json": {"schema": reference}}}
    return {"paths": {path: {"get": {"responses": {"200": answer}}}}, "components": {"schemas": {name: schema}}}


def test_models_of_the_same_name_stay_apart():
    rows = [Route("GET", "/a", "cache", Role.VIEWER), Route("GET", "/b", "analytics", Role.VIEWER)]
    merged = merge(
        rows,
        {"cache": document("Row", {"type": "string"}), "analytics": document("Row", {"type": "integer"}, "/b")},
    )
    schemas = merged["components"]["schemas"]

    def of(path):
        schema = merged["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        return schemas[schema["$ref"].rsplit("/", 1)[1]]

    assert (of("/a"), of("/b")) == ({"type": "string"}, {"type": "integer"})


def test_models_that_are_the_same_are_one():
    rows = [Route("GET", "/a", "cache", Role.VIEWER), Route("GET", "/b", "analytics", Role.VIEWER)]
    same = {"type": "object", "properties": {"next": {"type": "string"}}}
    merged = merge(rows, {"cache": document("Row", same), "analytics": document("Row", same, "/b")})
    assert set(merged["components"]["schemas"]) == {"Row", "Problem"}


def test_what_is_not_in_the_table_is_not_in_the_document():
    merged = merge([Route("GET", "/b", "cache", Role.VIEWER)], {"cache": document("Row", {"type": "string"})})
    assert list(merged["paths"]) == ["/b"]
    assert "Row" not in merged["components"]["schemas"]
    assert merged["paths"]["/b"]["get"]["x-not-described"]


def test_every_reference_leads_somewhere_and_every_operation_says_who_may(gateway):
    found = requests.get(gateway.url + "/api/v1/openapi.json", timeout=10)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', found.text))
    assert names <= set(found.json()["components"]["schemas"])
    identifiers = []
    for path, methods in found.json()["paths"].items():
        for method, operation in methods.items():
            route = next(row for row in ROUTES if (row.method, row.pattern) == (method.upper(), path))
            assert (operation["security"] == []) == (route.role is None)
            assert "429" in operation["responses"]
            identifiers.append(operation["operationId"])
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize(
    ("path", "kind"), [("/docs", "text/html"), ("/docs/page.js", "text/javascript"), ("/docs/page.css", "text/css")]
)
def test_the_page_needs_no_other_server(gateway, path, kind):
    answer = requests.get(gateway.url + path, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(kind)
    assert not re.search(r"https?://|//[a-z]+\.", re.sub(r"^\s*//.*$", "", answer.text, flags=re.M))
    if path == "/docs":
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("asset", ["page.html", "..", "%2e%2e", "../settings.py", "page.js.map", ""])
def test_the_page_has_no_other_files(gateway, asset):
    assert requests.get(f"{gateway.url}/docs/{asset}", timeout=10).status_code in (400, 404) or asset == ".."


@pytest.mark.parametrize("name", ["somebody", "Zoë", 'quote"d', "back\\slash", "line\nfeed", "\u2028"])
def test_the_fast_signer_signs_as_the_library(name):
    key = SecretStr("k" * 40)
    fast = InternalSigner("gateway", "cache", key).sign("u1", name, "viewer", "abcdef12")
    caller = Caller("gateway", "u1", name, "viewer", "abcdef12")
    slow = sign_internal_token(caller, "cache", {"cache": key})
    accept = {"gateway": key}
    assert verify_internal_token(fast, "cache", accept) == verify_internal_token(slow, "cache", accept) == caller
