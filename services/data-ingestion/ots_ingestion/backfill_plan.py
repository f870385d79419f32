"""Cutting a question to history into downloads: which days, which symbols, the most recent first.

Pure arithmetic: what the vendor says of prices and counts comes in as :class:`Estimate`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ots_ingestion.vendor import Request
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS, MINUTE_NS

MAX_SYMBOLS = 2000  # the vendor's limit of one request
_HOUR_NS = 60 * MINUTE_NS
# a part may be so many times larger than asked for before a day is cut into hours
_LARGEST = 5

Window = tuple[int, int]


@dataclass(frozen=True)
class Want:
    """Records of one schema, of at most 2,000 symbols, in windows [start, end) ns in order of time.

    ``stage``: all of an earlier stage is fetched before anything of a later one.
    """

    dataset: str
    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    windows: tuple[Window, ...]
    stage: int = 0

    def request(self, window: Window) -> Request:
        """The question for one window."""
        return Request(self.dataset, self.schema, self.stype_in, self.symbols, *window)


@dataclass(frozen=True)
class Estimate:
    """What a :class:`Want` holds: records, bytes without compression, US dollars.

    ``sampled``: some of its many windows were asked for, and the rest taken to be like them.
    """

    records: int
    bytes: int
    usd: float
    sampled: bool = False


@dataclass(frozen=True)
class Part:
    """One download, and about how many records it brings."""

    request: Request
    estimated_records: int


def by_groups(wants: Sequence[Want]) -> list[Want]:
    """The same with no more than 2,000 symbols each."""
    return [
        replace(want, symbols=want.symbols[i : i + MAX_SYMBOLS])
        for want in wants
        for i in range(0, len(want.symbols), MAX_SYMBOLS)
    ]


def closing_windows(sessions: Sessions, start_ns: int, end_ns: int, minutes: int) -> tuple[Window, ...]:
    """The last ``minutes`` of each session that closes in [start, end], with the sample that is stamped at the close.

    A close at midnight UTC is left out: its stamp belongs to the next day, whose vendor ids are others.
    """
    found = []
    for i in range(*sessions.between(start_ns, end_ns).indices(len(sessions.dates))):
        opens, closes = int(sessions.opens[i]), int(sessions.closes[i])
        if closes > end_ns:
            continue
        begin = max(opens, closes - minutes * MINUTE_NS, start_ns)
        found.append((begin, closes + 1 if closes % DAY_NS else closes))
    return tuple(window for window in found if window[0] < window[1])


def plan(estimated: Sequence[tuple[Want, Estimate]], sessions: Sessions, part_records: int) -> list[Part]:
    """All parts by stage, then the most recent first; of equal age, those of earlier wants first."""
    parts = [
        (want.stage, -part.request.end_ns, order, i, part)
        for order, (want, estimate) in enumerate(estimated)
        for i, part in enumerate(_parts(want, estimate, sessions, part_records))
    ]
    return [part for *_, part in sorted(parts, key=lambda one: one[:4])]


def fingerprint(wants: Sequence[Want]) -> str:
    """The same for the same question, in whatever order it names things."""
    said = sorted([w.dataset, w.schema, w.stype_in, sorted(w.symbols), [list(one) for one in w.windows]] for w in wants)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _parts(want: Want, estimate: Estimate, sessions: Sessions, part_records: int) -> Iterator[Part]:
    weights = [_sessions_in(window, sessions) for window in want.windows]
    per_session = estimate.records / max(1.0, sum(weights))
    # what cannot be cut by days: a session, or a window that is shorter
    least = per_session * min(1.0, max(weights, default=1.0) or 1.0)
    groups = min(len(want.symbols), max(1, round(least / part_records)))
    slices = min(24, max(1, -(-int(least) // (groups * part_records * _LARGEST))))
    for symbols in _groups(want.symbols, groups):
        share = per_session * len(symbols) / len(want.symbols)
        for window in want.windows:
            for cut in _cut(window, sessions, part_records / max(share, 1e-9), slices):
                records = round(share * _sessions_in(cut, sessions))
                yield Part(replace(want.request(cut), symbols=symbols), records)


def _groups(symbols: tuple[str, ...], number: int) -> list[tuple[str, ...]]:
    """``number`` groups of nearly equal size."""
    edges = [len(symbols) * i // number for i in range(number + 1)]
    return [symbols[a:b] for a, b in pairwise(edges) if a < b]


def _cut(window: Window, sessions: Sessions, sessions_a_part: float, slices: int) -> Iterator[Window]:
    """The window in pieces of so many sessions, from its end backwards, cut at midnights UTC, or at hours."""
    start, end = window
    if slices > 1:
        step = max(_HOUR_NS, DAY_NS // slices // _HOUR_NS * _HOUR_NS)
        while end > start:
            begin = max(start, (end - 1) // step * step)
            yield begin, end
            end = begin
        return
    begin = end
    while begin > start:
        midnight = max(start, (begin - 1) // DAY_NS * DAY_NS)
        if begin < end and _sessions_in((midnight, end), sessions) > sessions_a_part:
            yield begin, end
            end = begin
        begin = midnight
    if begin < end:
        yield begin, end


def _sessions_in(window: Window, sessions: Sessions) -> float:
    """How many sessions lie in the window, those that are cut counted in part."""
    found = sessions.between(*window)
    total = 0.0
    for i in range(*found.indices(len(sessions.dates))):
        opens, closes = int(sessions.opens[i]), int(sessions.closes[i])
        total += (min(closes, window[1]) - max(opens, window[0])) / (closes - opens)
    return total
