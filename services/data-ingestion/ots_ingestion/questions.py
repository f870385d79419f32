"""What a person asks of history, in the vendor's terms: which dataset, which schema, which symbols, which hours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ots_common.times import rfc3339
from ots_ingestion.backfill_plan import Want, Window, by_groups, closing_windows
from ots_ingestion.schemas_offered import choose
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import Vendor
from ots_market.sessions import sessions_of
from ots_market.symbols import canonical_symbol, parse_option_symbol
from ots_market.timeframes import DAY_NS, MINUTE_NS

_PARENT = re.compile(r"^[A-Z0-9]{1,6}\.OPT$")
_TICKER = re.compile(r"^[A-Z][A-Z0-9.]{0,9}$")
_BAR_NS = {"ohlcv-1m": MINUTE_NS, "ohlcv-1h": 60 * MINUTE_NS, "ohlcv-1d": DAY_NS}


class InvalidQuestion(ValueError):
    """Nothing can answer it. ``field``: what of the question is wrong; ``unknown``: symbols that the vendor lacks."""

    def __init__(self, field: str, message: str, unknown: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.field = field
        self.unknown = frozenset(unknown)


@dataclass(frozen=True)
class Question:
    """[start_ns, end_ns) of some symbols; ``end_ns`` None: until what there is now.

    ``symbols``: tickers, parents (``AAPL.OPT``: all its options) and options as OSI writes them. ``option_schemas``:
    asked of the options of ``option_symbols``, tickers or parents. ``closing_minutes``: of options' sampled quotes only
    the last minutes of each session.
    """

    symbols: tuple[str, ...]
    schemas: tuple[str, ...]
    start_ns: int
    end_ns: int | None = None
    option_symbols: tuple[str, ...] = ()
    option_schemas: tuple[str, ...] = ()
    closing_minutes: int | None = None


@dataclass(frozen=True)
class Wanted:
    """A question as the vendor can answer it. ``notes``: where that is not what was asked for."""

    wants: tuple[Want, ...]
    notes: tuple[str, ...]

    @property
    def span(self) -> Window:
        """From the first to the last moment."""
        windows = [window for want in self.wants for window in want.windows]
        return min(start for start, _ in windows), max(end for _, end in windows)


def wanted(question: Question, vendor: Vendor, settings: IngestionSettings) -> Wanted:
    """The question in the vendor's terms, cut to what there is.

    Raises :class:`InvalidQuestion`, :class:`~ots_ingestion.schemas_offered.SchemaNotOffered` and
    :class:`~ots_ingestion.vendor.VendorError`.
    """
    wants: list[Want] = []
    notes: list[str] = []
    for (dataset, stype_in), symbols, schemas in _subjects(question, settings):
        chosen = choose(schemas, dataset, vendor.list_schemas(dataset))
        notes += chosen.notes
        for schema in chosen.schemas:
            window, note = _available(question, vendor, dataset, schema)
            notes += note
            windows = _windows(question, dataset, schema, window, settings)
            if windows:
                wants += by_groups([Want(dataset, schema, stype_in, symbols, windows)])
            else:
                notes.append(f"{dataset} has no {schema} in that time yet: nothing is asked for")
        if stype_in == "raw_symbol":
            _check_known(vendor, dataset, symbols, question)
    if not wants:
        raise InvalidQuestion("end", "; ".join(dict.fromkeys(notes)) or "nothing is asked for")
    return Wanted(tuple(wants), tuple(dict.fromkeys(notes)))


def _subjects(
    question: Question, settings: IngestionSettings
) -> list[tuple[tuple[str, str], tuple[str, ...], tuple[str, ...]]]:
    """(dataset, stype_in), symbols and schemas, one after the other. Raises :class:`InvalidQuestion`."""
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for symbol, schemas in [
        *((_subject(one, "symbols", settings), question.schemas) for one in question.symbols),
        *((_parent(one, settings), question.option_schemas) for one in question.option_symbols),
    ]:
        dataset, stype_in, name = symbol
        if schemas:
            found.setdefault((dataset, stype_in, schemas), []).append(name)
    if not found:
        raise InvalidQuestion("schemas", "name at least one symbol and one schema")
    return [((d, s), tuple(dict.fromkeys(names)), schemas) for (d, s, schemas), names in found.items()]


def _subject(symbol: str, field: str, settings: IngestionSettings) -> tuple[str, str, str]:
    name = canonical_symbol(symbol)
    if parse_option_symbol(name):
        return settings.option_dataset, "raw_symbol", name
    if _PARENT.match(name):
        return settings.option_dataset, "parent", name
    if _TICKER.match(name):
        return settings.equity_dataset, "raw_symbol", name
    raise InvalidQuestion(field, f"{symbol} is no ticker, no parent such as AAPL.OPT and no OSI option symbol")


def _parent(symbol: str, settings: IngestionSettings) -> tuple[str, str, str]:
    name = canonical_symbol(symbol)
    parent = name if _PARENT.match(name) else f"{name}.OPT"
    if not _PARENT.match(parent):
        raise InvalidQuestion("options", f"{symbol} is no ticker and no parent such as AAPL.OPT")
    return settings.option_dataset, "parent", parent


def _available(question: Question, vendor: Vendor, dataset: str, schema: str) -> tuple[Window, list[str]]:
    """The part of the question that history has, and what was cut off. Raises :class:`InvalidQuestion`."""
    first, last = vendor.dataset_range(dataset, schema)
    if question.end_ns is not None and question.end_ns <= first:
        raise InvalidQuestion("end", f"{dataset} begins at {rfc3339(first)}")
    if question.start_ns >= last:
        raise InvalidQuestion("start", f"{dataset} has data up to {rfc3339(last)}")
    notes = []
    if question.start_ns < first:
        notes.append(f"{dataset} begins at {rfc3339(first)}: what is earlier is left out")
    if question.end_ns is not None and question.end_ns > last:
        notes.append(f"{dataset} has data up to {rfc3339(last)}: what is later is left out")
    end = last if question.end_ns is None else min(last, question.end_ns)
    if end == last and schema in _BAR_NS:
        end = end // _BAR_NS[schema] * _BAR_NS[schema]  # a bar that is not over is no bar yet
    return (max(first, question.start_ns), end), notes


def _windows(
    question: Question, dataset: str, schema: str, window: Window, settings: IngestionSettings
) -> tuple[Window, ...]:
    if question.closing_minutes and dataset == settings.option_dataset and schema.startswith(("cbbo-", "bbo-")):
        return closing_windows(sessions_of(settings.market_calendar), *window, question.closing_minutes)
    return (window,) if window[0] < window[1] else ()


def _check_known(vendor: Vendor, dataset: str, symbols: Sequence[str], question: Question) -> None:
    first, last = vendor.dataset_range(dataset)
    start, end = max(first, question.start_ns), min(last, question.end_ns or last)
    if unknown := vendor.unknown_symbols(dataset, symbols, "raw_symbol", start, end):
        raise InvalidQuestion("symbols", f"{dataset} does not know {', '.join(unknown)} in that time", unknown)


def merged(parts: Iterable[Wanted]) -> Wanted:
    """Several questions as one."""
    parts = list(parts)
    wants = dict.fromkeys(want for part in parts for want in part.wants)
    return Wanted(tuple(wants), tuple(dict.fromkeys(note for part in parts for note in part.notes)))
