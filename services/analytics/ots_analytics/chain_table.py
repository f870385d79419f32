"""A priced chain as a table: a row a contract, in the units that clients read; and a row an expiration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_expirations import days_from, expirations_of, known
from ots_chains.priced_chains import PricedChain
from ots_chains.told_numbers import ToldNumbers
from ots_common.tables import Times, Whole
from ots_common.times import NS_PER_S

MODEL = "american"
UNITS = {
    "strike, bid, ask, mid, last, theoretical, forward": "dollars a share",
    "spread_pct": "per cent of the mid",
    "bid_size, ask_size, volume, open_interest": "contracts",
    "quote_age_s": "seconds before as_of",
    "years": "of 365 days, to the close of the expiration's session",
    "days_to_expiration": "calendar days from the session's date to the expiration's",
    "implied_volatility, bid_implied_volatility, ask_implied_volatility": "decimals a year",
    "rate, dividend_yield": "continuously compounded decimals a year",
    "delta, gamma": "per dollar of the underlying",
    "theta": "dollars per calendar day",
    "vega": "dollars per percentage point of volatility",
    "rho": "dollars per percentage point of the rate",
    "model": f"{MODEL}: Black-Scholes-Merton with early exercise, dividends as a continuous yield",
    "theoretical": "the contract at the volatility of the surface fitted to all, within the quoted strikes",
}

CONTRACT_COLUMNS = (
    "symbol", "expiration", "days_to_expiration", "strike", "right", "bid", "ask", "bid_size", "ask_size", "mid",
    "spread_pct", "quote_time", "quote_age_s", "last", "last_time", "volume", "open_interest", "open_interest_date",
    "implied_volatility", "bid_implied_volatility", "ask_implied_volatility", "delta", "gamma", "theta", "vega", "rho",
    "theoretical", "model", "reason",
)  # fmt: skip


def contract_columns(chain: PricedChain) -> dict[str, Any]:
    """The columns of `CONTRACT_COLUMNS`, for `ots_common.tables.columns_response`."""
    told = ToldNumbers.of(chain)
    quoted = chain.quoted_at > 0
    with np.errstate(invalid="ignore", divide="ignore"):  # no mid: no spread
        spread = np.where(chain.mid > 0, (chain.ask - chain.bid) / chain.mid * 100, np.nan)
    age = np.where(quoted, (chain.moment.at_ns - chain.quoted_at) / NS_PER_S, np.nan)
    priced = np.isfinite(chain.implied_volatility)
    return {
        "symbol": chain.symbol,
        "expiration": chain.expiration,
        "days_to_expiration": days_to_expiration(chain),
        "strike": chain.strike,
        "right": np.where(chain.right > 0, "C", "P"),
        "bid": chain.bid,
        "ask": chain.ask,
        "bid_size": Whole(chain.bid_size, chain.bid_size < 0),
        "ask_size": Whole(chain.ask_size, chain.ask_size < 0),
        "mid": told.mid,
        "spread_pct": np.round(spread, 4),
        "quote_time": Times(chain.quoted_at),
        "quote_age_s": age,
        "last": chain.last,
        "last_time": Times(chain.last_at),
        "volume": chain.volume,
        "open_interest": Whole(chain.open_interest, chain.open_interest < 0),
        "open_interest_date": chain.open_interest_date,
        "implied_volatility": told.implied_volatility,
        "bid_implied_volatility": told.bid_implied_volatility,
        "ask_implied_volatility": told.ask_implied_volatility,
        "delta": told.delta,
        "gamma": told.gamma,
        "theta": told.theta,
        "vega": told.vega,
        "rho": told.rho,
        "theoretical": told.theoretical,
        "model": [MODEL if one else None for one in priced.tolist()],
        "reason": [one or None for one in chain.reason.tolist()],
    }


def days_to_expiration(chain: PricedChain) -> NDArray[np.int64]:
    """Calendar days from the session's date, of each contract."""
    return days_from(chain, chain.expiration)


def expiration_rows(chain: PricedChain) -> list[dict[str, Any]]:
    """What the contracts of each expiration were priced with, and how that was found."""
    found = expirations_of(chain)
    rows = []
    for i, day in enumerate(found.date):
        own = chain.reason[chain.expiration == day]
        missing, counts = np.unique(own[own != ""], return_counts=True)
        rate = known(found.rate[i])
        low, high = chain.rate.interval(rate) if rate is not None else (None, None)
        rows.append(
            {
                "expiration": str(day),
                "days_to_expiration": int(found.days[i]),
                "years": float(found.years[i]),
                "forward": known(found.forward[i]),
                "forward_low": known(found.forward_low[i]),
                "forward_high": known(found.forward_high[i]),
                "forward_method": _forward_method(chain, float(found.years[i])),
                "rate": rate,
                "rate_low": low,
                "rate_high": high,
                "rate_method": chain.rate.kind,
                "dividend_yield": known(found.dividend_yield[i]),
                "dividend_yield_method": None if rate is None else "rate - ln(forward / spot) / years",
                "shape": found.shape[i],
                "contracts": len(own),
                "with_volatility": int((own == "").sum()),
                "without_volatility": dict(zip(missing.tolist(), counts.tolist(), strict=True)),
                "reason": found.reason[i],
            }
        )
    return rows


def _forward_method(chain: PricedChain, years: float) -> str | None:
    """Where the forward comes from, None without one."""
    if chain.forwards is None:
        return None
    row = int(chain.forwards.rows_of(np.array([years]))[0])
    if row < 0 or not np.isfinite(chain.forwards.forward[row]):
        return None
    used, quoted = int(chain.forwards.pairs_used[row]), int(chain.forwards.pairs_quoted[row])
    return f"put-call parity of {used} of {quoted} pairs quoted on two sides"
