"""Finding the instrument that a symbol means."""

from __future__ import annotations

from dataclasses import dataclass

from ots_common.database import Database
from ots_common.problems import Problem
from ots_market.symbols import canonical_symbol

# where a symbol came in by several datasets, the consolidated one answers unless another is asked for
PREFERRED_DATASETS = ("EQUS.MINI", "OPRA.PILLAR")

# what to do when nothing is stored, by market source: the simulated market takes no imports
_NOTHING_YET = {
    "databento": (
        "nothing is stored yet: import a DBN file first",
        'curl -X POST --data-binary @FILE.dbn.zst -H "Authorization: Bearer $TOKEN" '
        '-H "Content-Type: application/vnd.databento.dbn" "http://localhost:8000/api/v1/data/imports?wait=60"',
    ),
    "simulated": (
        "nothing is stored yet: the first history may still be on its way",
        'curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/data/backfills" says how far it is, and'
        " .../api/v1/data/collection/status what is being collected",
    ),
}


@dataclass(frozen=True)
class Instrument:
    """An instrument of one dataset, by our own lasting id."""

    instrument_id: int
    dataset: str
    raw_symbol: str
    underlying: str
    is_option: bool


def find_instrument(
    database: Database, symbol: str, dataset: str | None = None, *, source: str = "databento"
) -> Instrument:
    """The instrument of ``symbol``. Raises a 404 problem that says what there is; ``source``: MARKET_SOURCE."""
    canonical = canonical_symbol(symbol)
    rows = database.rows(
        """
        SELECT instrument_id, dataset, raw_symbol, underlying, expiration IS NOT NULL FROM instruments
        WHERE raw_symbol = %(symbol)s AND (%(dataset)s::text IS NULL OR dataset = %(dataset)s)
        ORDER BY array_position(%(preferred)s, dataset) NULLS LAST, dataset LIMIT 1
        """,
        {"symbol": canonical, "dataset": dataset, "preferred": list(PREFERRED_DATASETS)},
    )
    if rows:
        return Instrument(*rows[0])
    raise unknown_symbol(database, canonical, dataset, source=source)


def nothing_stored(source: str) -> tuple[str, str]:
    """What to say, and what to try, where nothing at all is stored; ``source``: MARKET_SOURCE."""
    return _NOTHING_YET[source]


def unknown_symbol(database: Database, symbol: str, dataset: str | None, *, source: str = "databento") -> Problem:
    """The 404 for a symbol of which nothing is stored, with the symbols of which something is."""
    known = [
        row[0]
        for row in database.rows(
            "SELECT DISTINCT raw_symbol FROM instruments WHERE expiration IS NULL ORDER BY raw_symbol LIMIT 20"
        )
    ]
    where = f" in {dataset}" if dataset else ""
    nothing, hint = nothing_stored(source)
    there = f"stored are {', '.join(known)}" if known else nothing
    return Problem(
        404,
        "unknown-symbol",
        f"no data of {symbol}{where}; {there}",
        hint=None if known else hint,
        extra={"available": known},
    )
