"""Ingestion with a worker, on a database of the module's own."""

from collections.abc import Iterator

import pytest

from data_ingestion_support import Ingestion, settings_for


@pytest.fixture(scope="module")
def ingestion(market, redis_server, tmp_path_factory) -> Iterator[Ingestion]:
    service = Ingestion(settings_for(market, redis_server, tmp_path_factory.mktemp("spool"), batch_records=1000))
    with service.working():
        yield service
