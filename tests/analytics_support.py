"""The analytics service as it answers, over a market database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from ots_analytics.app import create_app
from ots_analytics.settings import AnalyticsSettings
from ots_common.tokens import HEADER, Caller, sign_internal_token

KEY = SecretStr("a" * 40)


class Analytics:
    """Asks the service as the gateway does, for a viewer."""

    def __init__(self, market: Any, **settings: Any) -> None:
        made = AnalyticsSettings(
            database_url=market.reader, accept_keys={"gateway": KEY}, log_level="ERROR", **settings
        )
        self._client = create_app(made).test_client()

    def get(self, path: str, status: int = 200, **headers: str) -> Any:
        """The body of an answer to ``/api/v1/analytics`` + path; of CSV its text."""
        return self._body(self._client.get(f"/api/v1/analytics{path}", headers={**_token(), **headers}), status)

    def post(self, path: str, body: Any, status: int = 200) -> Any:
        """The same of a POST."""
        return self._body(self._client.post(f"/api/v1/analytics{path}", json=body, headers=_token()), status)

    def document(self) -> dict[str, Any]:
        """The service's OpenAPI document."""
        found: dict[str, Any] = self._client.get("/openapi/openapi.json", headers=_token()).json
        return found

    def _body(self, answer: Any, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json if answer.is_json else answer.text


def _token() -> dict[str, str]:
    caller = Caller("gateway", "u", "u", "viewer", "request-01")
    return {HEADER: sign_internal_token(caller, "analytics", {"analytics": KEY})}


Ask = Callable[..., Any]
