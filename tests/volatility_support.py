"""Closing chains of the seeded market, stored as ingestion stores them, and the process that takes snapshots."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, timedelta
from typing import Any

from databento_dbn import Schema

from data_ingestion_support import Ingestion
from dbn import dbn_file
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.snapshots import Snapshotter
from ots_simulator.market import SeededMarket
from seeded_market import DAY, EQUITIES, MINUTE, OPTIONS, ask

EPOCH = date(1970, 1, 1)


def settings_of(market: Any, **more: Any) -> AnalyticsSettings:
    return AnalyticsSettings(
        database_url=market.snapshots,
        log_level="ERROR",
        **{"market_calendar": "around-the-clock", "market_source": "simulated", **more},
    )


def catch_up(market: Any, now: int, **more: Any) -> int:
    """What a process that runs at ``now`` stores."""
    return Snapshotter(settings_of(market, **more), lambda: now).catch_up()


def import_close(
    service: Ingestion, seeded: SeededMarket, day: int, underlyings: Collection[str], *, minutes: int = 1
) -> None:
    """The last minutes of a UTC day: minute bars of the stocks, sampled quotes of their options."""
    end = (day + 1) * DAY
    import_records(service, seeded, EQUITIES, "ohlcv-1m", day, end - minutes * MINUTE, end, underlyings)
    import_records(service, seeded, OPTIONS, "cbbo-1m", day, end - minutes * MINUTE, end, underlyings)


def import_records(
    service: Ingestion, seeded: SeededMarket, dataset: str, schema: str, day: int, start: int, end: int,
    underlyings: Collection[str],
) -> None:  # fmt: skip
    """Records of [start, end) of a UTC day, through the import path."""
    symbols = sorted(underlyings) if dataset == EQUITIES else [f"{name}.OPT" for name in sorted(underlyings)]
    stype = "raw_symbol" if dataset == EQUITIES else "parent"
    ids = {one.raw_symbol: one.vendor_id for one in seeded.resolve(dataset, symbols, stype, day, day + 1)}
    records = ask(seeded, dataset, schema, start, end, ids)
    body = dbn_file(
        Schema.from_str(schema), [records.tobytes()], day=EPOCH + timedelta(days=day), symbols=ids, dataset=dataset
    )
    assert service.imported(body)["rejected"] == 0
