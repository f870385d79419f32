"""What a historical call asks for, checked as the vendor checks it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ots_simulator.settings import SimulatorSettings
from ots_simulator.sources import ALL_SYMBOLS, Source
from ots_simulator.wire import BAR_NS, DAY_NS, LAYOUTS

_MAX_SYMBOLS = 2000
_LAST_NS = 2**63 - 2 * DAY_NS
STYPES_IN = ("raw_symbol", "parent", "instrument_id")
# by the length of what was written: a date alone ends a day later, and so on
_ZONED = re.compile(
    r"(?P<local>\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?)(?P<zone>Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_FORWARD_NS = {10: DAY_NS, 13: 3600 * 10**9, 16: 60 * 10**9, 19: 10**9}


class ApiError(Exception):
    """An answer that is an error, in the vendor's shape."""

    def __init__(self, status: int, case: str, message: str, **payload: str) -> None:
        super().__init__(message)
        self.status = status
        self.case = case
        self.message = message
        self.payload = payload


@dataclass(frozen=True)
class Query:
    """Records asked for: [``start_ns``, ``end_ns``) of one schema. ``symbols``: ``(ALL_SYMBOLS,)`` is everything.

    ``known_ns``: records from there on are not known yet, though asked for: a bar before its interval is over.
    """

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str
    start_ns: int
    end_ns: int
    known_ns: int
    limit: int | None


def parse_query(form: Mapping[str, str], source: Source, settings: SimulatorSettings, now_ns: int) -> Query:
    """The query of a form. Raises :class:`ApiError`."""
    dataset = parse_dataset(form, source, settings)
    schema = form.get("schema", "trades")
    if schema not in LAYOUTS:
        raise ApiError(422, "schema_invalid", f"The schema {schema!r} is not known.")
    if schema not in source.schemas()[dataset]:
        raise ApiError(422, "data_schema_not_available", f"The schema {schema} is not available for {dataset}.")
    if form.get("stype_out", "instrument_id") != "instrument_id":
        raise ApiError(422, "symbology_invalid_request", "The simulator's records carry stype_out=instrument_id only.")
    first, last = available(source, dataset, settings, now_ns)
    start, implied_end = parse_time(form, "start")
    end = parse_time(form, "end")[0] if form.get("end") else min(implied_end, last)
    if start < first:
        raise ApiError(
            422,
            "data_start_before_available_start",
            f"The dataset {dataset} has data from {iso(first)}, `start` is {iso(start)}.",
            available_start=iso(first),
        )
    if end > last:
        raise ApiError(
            422,
            "data_end_after_available_end",
            f"The dataset {dataset} has data available up to '{iso(last)}'. "
            f"The `end` in the query ('{iso(end)}') is after the available range.",
            available_end=iso(last),
        )
    if start >= end:
        raise ApiError(
            422, "data_time_range_start_on_or_after_end", f"`start` {iso(start)} must be before `end` {iso(end)}."
        )
    known = min(end, last - BAR_NS[schema] + 1) if schema in BAR_NS else end
    return Query(dataset, schema, *parse_symbols(form), start, end, known, _limit(form))


def parse_dataset(form: Mapping[str, str], source: Source, settings: SimulatorSettings) -> str:
    """The dataset, which exists and is granted. Raises :class:`ApiError`."""
    dataset = form.get("dataset", "")
    if dataset not in source.schemas():
        raise ApiError(422, "data_dataset_not_found", f"The dataset {dataset!r} does not exist.")
    if dataset in settings.simulator_denied_datasets:
        raise ApiError(403, "auth_no_dataset_entitlement", f"Your key has no entitlement for {dataset}.")
    return dataset


def parse_symbols(form: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The symbols asked for, and their type. Raises :class:`ApiError`."""
    stype_in = form.get("stype_in", "raw_symbol")
    if stype_in not in STYPES_IN:
        raise ApiError(422, "symbology_invalid_request", f"stype_in={stype_in} cannot be resolved here.")
    symbols = tuple(dict.fromkeys(s.strip() for s in form.get("symbols", "").split(",") if s.strip()))
    if not symbols or ALL_SYMBOLS in symbols:
        return (ALL_SYMBOLS,), stype_in
    if len(symbols) > _MAX_SYMBOLS:
        raise ApiError(422, "symbology_too_many_symbols", f"{len(symbols)} symbols; at most {_MAX_SYMBOLS} a request.")
    if stype_in == "parent" and not all(re.fullmatch(r"[^.]+\.[A-Z]{2,6}", s) for s in symbols):
        raise ApiError(422, "symbology_invalid_symbol", "A parent symbol looks like AAPL.OPT.")
    if stype_in == "instrument_id" and not all(re.fullmatch(r"[0-9]{1,10}", s) for s in symbols):
        raise ApiError(422, "symbology_invalid_symbol", "An instrument_id is a whole number.")
    return symbols, stype_in


def available(source: Source, dataset: str, settings: SimulatorSettings, now_ns: int) -> tuple[int, int]:
    """[first, end) ns of what history has; nothing happens in a tape once it is over, and that is known too."""
    first = source.span(dataset)[0]
    return first, max(first, now_ns - int(settings.simulator_historical_lag_s * 1e9))


def parse_time(form: Mapping[str, str], name: str) -> tuple[int, int]:
    """A time in ns, and the end it implies by how precisely it was written. Raises :class:`ApiError`."""
    text = form.get(name, "").strip()
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise ApiError(422, "data_time_invalid", f"`{name}` is no time: {text!r} ({error}).") from None


def parse_timestamp(text: str) -> tuple[int, int]:
    """A time in ns, or ISO 8601 and then UTC unless it says otherwise, and the end it implies. Raises ValueError."""
    if re.fullmatch(r"[0-9]{12,19}", text):
        return _in_range(int(text)), int(text) + 1
    found = _ZONED.fullmatch(text)
    if found is None:
        raise ValueError("neither ISO 8601 nor nanoseconds")
    written, zone = found["local"], found["zone"] or "Z"
    # numpy takes years that nanoseconds do not reach, and wraps around
    _in_range(int(np.datetime64(written, "s").astype(np.int64)) * 10**9)
    at = int(np.datetime64(written, "ns").astype(np.int64))
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        at -= (-1 if zone[0] == "-" else 1) * (hours * 60 + minutes) * 60 * 10**9
    return at, at + _FORWARD_NS.get(len(written), 1)


def _in_range(at_ns: int) -> int:
    if not 0 <= at_ns < _LAST_NS:
        raise ValueError("out of range")
    return at_ns


def parse_day(text: str, name: str) -> int:
    """A date as days since 1970. Raises :class:`ApiError`."""
    return parse_time({name: text}, name)[0] // DAY_NS


def iso(at_ns: int) -> str:
    """RFC 3339 with nanoseconds, as the vendor writes."""
    return f"{np.datetime64(at_ns, 'ns')}Z"


def _limit(form: Mapping[str, str]) -> int | None:
    text = form.get("limit")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text) or not int(text):
        raise ApiError(422, "limit_invalid", f"`limit` must be a positive whole number, not {text!r}.")
    return int(text)
