"""Ingestion as it runs: the web app on a real database and Redis, and a worker on its spool."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ots_common.tokens import HEADER, Caller, sign_internal_token
from ots_ingestion.app import create_app
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.worker import Worker

KEY = SecretStr("k" * 40)
MEDIA_TYPE = "application/vnd.databento.dbn"


class Ingestion:
    """The service and its worker."""

    def __init__(self, settings: IngestionSettings) -> None:
        self.settings = settings
        self.client = create_app(settings).test_client()

    def headers(self) -> dict[str, str]:
        caller = Caller("gateway", "user-1", "somebody", "operator", "request-0001")
        return {HEADER: sign_internal_token(caller, "data-ingestion", {"data-ingestion": KEY})}

    def get(self, url: str, **headers: str) -> Any:
        return self.client.get(f"/api/v1/data{url}", headers={**self.headers(), **headers})

    def post(self, url: str, **arguments: Any) -> Any:
        headers = {**self.headers(), **arguments.pop("headers", {})}
        return self.client.post(f"/api/v1/data{url}", headers=headers, **arguments)

    def upload(self, body: bytes, wait: float = 60) -> Any:
        return self.post(f"/imports?wait={wait}", data=body, headers={"Content-Type": MEDIA_TYPE})

    def imported(self, body: bytes) -> dict[str, Any]:
        """The run of an import that must succeed."""
        answer = self.upload(body)
        assert answer.status_code == 200, answer.text
        assert answer.json["status"] == "done", answer.text
        run = answer.json
        assert run["read"] == run["stored"] + run["revised"] + run["duplicate"] + run["rejected"] + run["control"]
        assert run["read"] == run["total"]
        return run

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker in a thread."""
        worker = Worker(self.settings)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield
        finally:
            worker.stop()
            thread.join(30)


def settings_for(market, redis_server, spool: Path, **more: Any) -> IngestionSettings:
    return IngestionSettings(
        database_url=market.owner,
        redis_url=redis_server.url,
        spool_dir=spool,
        accept_keys={"gateway": KEY},
        log_level="WARNING",
        # a test asks for a self-check when it wants one
        **{"self_check_every_s": 0, **more},
    )
