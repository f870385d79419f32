"""The multiset checker: what is stored against what the feed said, and the ledger for the difference.

It knows nothing of how ingestion works: it reads the tables as anybody would, and counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from chaos.tape import Key, Tape, quote_key, trade_key
from ots_common.database import Database

_AT_NS = "(extract(epoch FROM ts) * 1000000)::bigint * 1000 + ts_ns"
_MINUTE_NS = 60_000_000_000


@dataclass(frozen=True)
class Hole:
    """An interval of the ledger that is still open; an end of None lasts for ever."""

    dataset: str
    schema: str
    symbol: str | None
    starts_ns: int
    ends_ns: int | None

    def covers(self, key: Key, at_ns: int) -> bool:
        """Whether it names the moment and the subject of a record."""
        dataset, schema, symbol = key[:3]
        subject = self.symbol is None or self.symbol in (symbol, f"{symbol[:6].strip()}.OPT")
        inside = self.starts_ns <= at_ns and (self.ends_ns is None or at_ns < self.ends_ns)
        return (self.dataset, self.schema) == (dataset, schema) and subject and inside


@dataclass
class Verdict:
    """Counts of records, and examples of what is wrong."""

    expected: int = 0
    stored: int = 0
    lost: int = 0
    missing_and_in_the_ledger: int = 0
    duplicated: int = 0
    invented: int = 0
    wrong_bars: int = 0
    holes: list[Hole] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing lost, nothing doubled, nothing invented, every bar right."""
        return not (self.lost or self.duplicated or self.invented or self.wrong_bars)

    def note(self, what: str, key: Key) -> None:
        """Keep a few examples."""
        if len(self.examples) < 10:
            self.examples.append(f"{what} {key}")


def check(database: Database, tape: Tape) -> Verdict:
    """Compare everything stored with everything on the tape."""
    stored = stored_records(database)
    verdict = Verdict(expected=tape.records, stored=sum(stored.values()), holes=open_holes(database))
    for key, number in tape.expected.items():
        missing = number - stored[key]
        if missing < 0:
            verdict.duplicated -= missing
            verdict.note("duplicated", key)
        elif missing and any(hole.covers(key, tape.index_ns[key]) for hole in verdict.holes):
            verdict.missing_and_in_the_ledger += missing
        elif missing:
            verdict.lost += missing
            verdict.note("lost", key)
    for key, number in stored.items():
        if key not in tape.expected:
            verdict.invented += number
            verdict.note("invented", key)
    _check_bars(database, stored, verdict)
    return verdict


def stored_records(database: Database) -> Counter[Key]:
    """How often each record is stored."""
    found: Counter[Key] = Counter()
    for row in database.rows(
        f"SELECT dataset, raw_symbol, {_AT_NS}, recv_at_ns, price, size, sequence FROM trades"
        " JOIN instruments USING (instrument_id)"
    ):
        found[trade_key(*row)] += 1
    for row in database.rows(
        f"SELECT dataset, raw_symbol, {_AT_NS}, event_at_ns, bid, ask, bid_size, ask_size FROM quotes"
        " JOIN instruments USING (instrument_id)"
    ):
        found[quote_key(*row)] += 1
    return found


def open_holes(database: Database) -> list[Hole]:
    """What the ledger says is missing. A closed gap excuses nothing: it says that the records were found."""
    return [
        Hole(*row)
        for row in database.rows("SELECT dataset, schema, symbol, starts_ns, ends_ns FROM gaps WHERE closed_at IS NULL")
    ]


def _check_bars(database: Database, stored: Counter[Key], verdict: Verdict) -> None:
    """Each minute's high, low and volume, from the rows that are stored (what is missing cannot be in a bar)."""
    minutes: defaultdict[tuple[str, str, int], list[tuple[int, int]]] = defaultdict(list)
    for key, number in stored.items():
        if key[1] == "trades":
            dataset, _, symbol, event, _, price, size, _ = key
            minutes[dataset, symbol, event // _MINUTE_NS].append((price, size * number))
    expected = {
        minute: (max(p for p, _ in trades), min(p for p, _ in trades), sum(s for _, s in trades))
        for minute, trades in minutes.items()
    }
    built = {
        tuple(row[:3]): tuple(row[3:])
        for row in database.rows(
            "SELECT dataset, raw_symbol, (extract(epoch FROM ts) / 60)::bigint, high, low, volume FROM bars_1m"
            " JOIN instruments USING (instrument_id)"
        )
    }
    for minute in expected.keys() | built.keys():
        if expected.get(minute) != built.get(minute):
            verdict.wrong_bars += 1
            verdict.note(f"bar {built.get(minute)} instead of {expected.get(minute)} at", minute)
