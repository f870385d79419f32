"""Open interest and volume of a chain by strike, expiration or contract, their put/call ratios, and max pain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_expirations import Columns, days_from, known
from ots_common.tables import Whole
from ots_quant.exposure import MaxPain, max_pain, put_call_ratio

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain

By = Literal["strike", "expiration", "contract"]

DATE_OF_FIGURES = (
    "contracts open at the end of that day's trading, published before the next session opens: a session's own trades"
    " are not in it before the next"
)
_NOT_PUBLISHED = "open interest: not published by the moment"


def published(chain: PricedChain) -> NDArray[np.float64]:
    """Open interest per contract, NaN where it is not known."""
    return np.where(chain.open_interest >= 0, chain.open_interest.astype(np.float64), np.nan)


def dates_of(chain: PricedChain) -> dict[str, Any]:
    """The date of the figures: the newest, and the oldest where contracts differ; None where there are none."""
    dates = chain.open_interest_date[(chain.open_interest >= 0) & ~np.isnat(chain.open_interest_date)]
    return {
        "date": str(dates.max()) if dates.size else None,
        "oldest_date": str(dates.min()) if dates.size else None,
        "contracts": int((chain.open_interest >= 0).sum()),
        "contracts_without": int((chain.open_interest < 0).sum()),
        "meaning": DATE_OF_FIGURES,
        "reason": None if dates.size else _NOT_PUBLISHED,
    }


def ratio_of(right: NDArray[np.float64], contracts: NDArray[np.float64]) -> dict[str, Any]:
    """Puts over calls with both sums; None, and why, where nothing is known or there are no calls."""
    if not np.isfinite(contracts).any():
        return {"put_call_ratio": None, "puts": None, "calls": None, "reason": "not known of any contract"}
    found = put_call_ratio(right, contracts)
    return {
        "put_call_ratio": known(found.ratio),
        "puts": int(found.puts),
        "calls": int(found.calls),
        "reason": found.reason or None,
    }


def totals_of(chain: PricedChain) -> dict[str, Any]:
    """Of all contracts of ``chain``."""
    return {
        "open_interest": ratio_of(chain.right, published(chain)),
        "volume": ratio_of(chain.right, chain.volume.astype(np.float64)),
    }


def max_pain_of(chain: PricedChain) -> MaxPain:
    """Of the contracts of one expiration."""
    return max_pain(chain.right, chain.strike, published(chain))


def max_pain_answer(chain: PricedChain) -> dict[str, Any]:
    """Of a chain of one expiration; for more, why it has none."""
    if len(np.unique(chain.expiration)) > 1:
        return {"strike": None, "highest": None, "reason": "it is of one expiration: expiration=, or by=expiration"}
    found = max_pain_of(chain)
    return {"strike": known(found.strike), "highest": known(found.highest), "reason": found.reason or None}


def open_interest_columns(chain: PricedChain, by: By) -> Columns:
    """A row a strike, an expiration or a contract."""
    if by == "contract":
        return _contracts(chain)
    keys, row = np.unique(getattr(chain, by), return_inverse=True)
    columns: Columns = {by: keys}
    if by == "expiration":
        columns["days_to_expiration"] = days_from(chain, keys)
    calls, puts = chain.right > 0, chain.right < 0
    open_interest, volume = published(chain), chain.volume.astype(np.float64)
    known_interest = np.isfinite(open_interest)
    unknown = np.bincount(row, known_interest, len(keys)) == 0

    def summed(which: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.bincount(row, np.where(which, np.nan_to_num(values), 0.0), len(keys)).astype(np.int64)

    columns |= {
        "call_open_interest": Whole(summed(calls, open_interest), unknown),
        "put_open_interest": Whole(summed(puts, open_interest), unknown),
        "open_interest_put_call_ratio": _ratios(summed, calls, puts, open_interest),
        "call_volume": summed(calls, volume),
        "put_volume": summed(puts, volume),
        "volume_put_call_ratio": _ratios(summed, calls, puts, volume),
        "contracts": np.bincount(row, minlength=len(keys)),
        "contracts_without_open_interest": np.bincount(row, ~known_interest, len(keys)).astype(np.int64),
    }
    said = _reasons(columns)
    if by == "expiration":
        pains = max_pains_of(chain, row, len(keys))
        columns |= max_pain_columns(pains)
        said = [[*reasons, *why_no_max_pain(pain)] for reasons, pain in zip(said, pains, strict=True)]
    columns["reason"] = ["; ".join(reasons) or None for reasons in said]
    return columns


def max_pains_of(chain: PricedChain, row: NDArray[np.intp], expirations: int) -> list[MaxPain]:
    """Of each expiration, ``row`` being that of each contract."""
    return [max_pain_of(chain.take(row == one)) for one in range(expirations)]


def max_pain_columns(pains: Sequence[MaxPain]) -> Columns:
    """The least and the greatest strike of each."""
    return {
        "max_pain": np.array([pain.strike for pain in pains]),
        "max_pain_highest": np.array([pain.highest for pain in pains]),
    }


def why_no_max_pain(pain: MaxPain) -> list[str]:
    """What a row's reason says of it, if anything."""
    return [f"max_pain: {pain.reason}"] if pain.reason else []


def _contracts(chain: PricedChain) -> Columns:
    missing = chain.open_interest < 0
    return {
        "symbol": chain.symbol,
        "expiration": chain.expiration,
        "strike": chain.strike,
        "right": np.where(chain.right > 0, "C", "P"),
        "open_interest": Whole(chain.open_interest, missing),
        "open_interest_date": chain.open_interest_date,
        "volume": chain.volume,
        "reason": [_NOT_PUBLISHED if without else None for without in missing.tolist()],
    }


def _ratios(
    summed: Callable[[NDArray[np.bool_], NDArray[np.float64]], NDArray[np.int64]],
    calls: NDArray[np.bool_],
    puts: NDArray[np.bool_],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    of_calls, of_puts = summed(calls, values), summed(puts, values)
    return np.where(of_calls > 0, of_puts / np.where(of_calls > 0, of_calls, 1), np.nan)


def _reasons(columns: Columns) -> list[list[str]]:
    """Of each row what is to be said of its ratios."""
    unknown = columns["call_open_interest"].unknown
    interest, volume = columns["call_open_interest"].values == 0, columns["call_volume"] == 0
    found = []
    for without, no_calls, no_volume in zip(unknown, interest, volume, strict=True):
        told = [_NOT_PUBLISHED] if without else ["open interest: no calls"] if no_calls else []
        found.append([*told, "volume: no calls traded"] if no_volume else told)
    return found
