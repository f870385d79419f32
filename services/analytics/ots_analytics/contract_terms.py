"""Options as a request states them: terms in arrays, priced, and a reason for each that cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS
from ots_quant import american, european
from ots_quant.american import CashDividends
from ots_quant.european import NoVolatility
from ots_quant.greeks import Greeks

Values = NDArray[np.float64]

YEAR_NS = 365 * DAY_NS
# per calendar day, per percentage point: how Greeks are quoted, against the raw ones of `Greeks`
STATED = {
    "price": 1.0,
    "delta": 1.0,
    "gamma": 1.0,
    "theta": 1 / 365,
    "vega": 1 / 100,
    "rho": 1 / 100,
    "vanna": 1 / 100,
    "charm": 1 / 365,
    "vomma": 1 / 10_000,
}
GREEK_UNITS = {
    "delta": "dollars of the option per dollar of the underlying",
    "gamma": "change of delta per dollar of the underlying",
    "theta": "dollars per calendar day that passes",
    "vega": "dollars per percentage point of volatility",
    "rho": "dollars per percentage point of the rate",
    "vanna": "change of delta per percentage point of volatility",
    "charm": "change of delta per calendar day that passes",
    "vomma": "change of vega per percentage point of volatility",
}
REASONS = {
    "expired": "the expiration's close is not after as_of; with years 0 a price tells no volatility",
    "beyond_calendar": "the expiration lies after the last session of the calendar",
    "undefined_greeks": "priced; at volatility 0, or years 0 at the strike, the derivatives that are null do not exist",
    "below_intrinsic": "the price is not above what the contract is worth without volatility",
    "above_bound": "the price is not below what any volatility explains: the stock for a call, the strike for a put",
    "bad_input": "the numbers lie outside of what the formulas take",
}


@dataclass(frozen=True)
class Terms:
    """Contracts: arrays of one shape (n,), NaN for what was not told. ``right``: +1 call, -1 put."""

    right: Values
    spot: Values
    strike: Values
    years: Values
    rate: Values
    dividend_yield: Values

    def __len__(self) -> int:
        return len(self.spot)

    def columns(self, chosen: NDArray[np.bool_]) -> tuple[Values, Values, Values, Values, Values, Values]:
        """Those of a mask, in the order that ``ots_quant`` takes."""
        return (
            self.right[chosen],
            self.spot[chosen],
            self.strike[chosen],
            self.years[chosen],
            self.rate[chosen],
            self.dividend_yield[chosen],
        )


@dataclass(frozen=True)
class Priced:
    """Results of shape (n,): NaN where ``reason`` tells why, which is empty where all is known."""

    values: Mapping[str, Values]
    reason: NDArray[np.str_]

    def counts(self) -> dict[str, int]:
        """Contracts by reason."""
        return dict(sorted(Counter(reason for reason in self.reason.tolist() if reason).items()))


def years_until(sessions: Sessions, expirations: Sequence[date | None], at_ns: int) -> tuple[Values, NDArray[np.str_]]:
    """Years of 365 days to the closes of the expirations' sessions, and why not.

    A date without a session is over at the close of the session before it. ``expired`` has NaN years too.
    """
    dates = np.array(expirations, "datetime64[D]")
    unknown = np.isnat(dates)
    index = np.searchsorted(sessions.dates, dates, side="right") - 1
    beyond = ~unknown & ((dates > sessions.dates[-1]) | (index < 0))
    years = (sessions.closes[np.clip(index, 0, None)] - at_ns) / YEAR_NS
    reason = np.select([unknown, beyond, years <= 0], ["unknown_expiration", "beyond_calendar", "expired"], "")
    return np.where(reason == "", years, np.nan), reason


def ex_dates_in_years(sessions: Sessions, ex_dates: Sequence[date], at_ns: int) -> Values:
    """Years of 365 days to the opens of the sessions from which a share is without the dividend; (m,).

    A date without a session counts as the next one with one; NaN after the calendar's last.
    """
    index = np.searchsorted(sessions.dates, np.array(ex_dates, "datetime64[D]"), side="left")
    inside = index < len(sessions.dates)
    opens = sessions.opens[np.where(inside, index, 0)]
    return np.where(inside, (opens - at_ns) / YEAR_NS, np.nan)


def price_contracts(
    terms: Terms, volatility: Values, style: str, dividends: CashDividends | None, reason: NDArray[np.str_]
) -> Priced:
    """Prices and Greeks in the units of `GREEK_UNITS`; ``reason`` names those that are known to have none."""
    reason = _stated(terms, {"volatility": volatility}, reason)
    good = reason == ""
    table = np.full((len(Greeks._fields), len(terms)), np.nan)
    columns = (*terms.columns(good), volatility[good])
    with np.errstate(all="ignore"):  # what is out of range is NaN, and told
        if style == "european":
            table[:, good] = european.greeks(*columns)
        else:
            table[:, good] = american.greeks(*columns, dividends=dividends)
    table[~np.isfinite(table)] = np.nan
    priced = np.isfinite(table[0])
    reason = np.where(good & ~priced, "bad_input", reason)
    reason = np.where(priced & ~np.isfinite(table).all(axis=0), "undefined_greeks", reason)
    return Priced({name: table[i] * STATED[name] for i, name in enumerate(Greeks._fields)}, reason)


def imply_volatilities(
    terms: Terms, price: Values, style: str, dividends: CashDividends | None, reason: NDArray[np.str_]
) -> Priced:
    """Volatilities, decimals a year, with the names of `NoVolatility` where there is none."""
    reason = _stated(terms, {"price": price}, reason)
    good = reason == ""
    columns = terms.columns(good)
    found = np.full(len(terms), np.nan)
    with np.errstate(all="ignore"):  # what is out of range is NaN, and told
        if style == "european":
            found[good] = european.implied_volatility(price[good], *columns)
            codes = european.why_no_volatility(price[good], *columns)
        else:
            found[good] = american.implied_volatility(price[good], *columns, dividends=dividends)
            codes = american.why_no_volatility(price[good], *columns, dividends=dividends)
    # a volatility that the tree does not find, though the price lies within its bounds, is out of its range
    names = np.array([code.name.lower() for code in NoVolatility], "U24")
    names[NoVolatility.HAS_ONE] = "bad_input"
    reason[good] = names[codes]
    return Priced({"implied_volatility": found}, np.where(np.isfinite(found), "", reason))


def _stated(terms: Terms, also: Mapping[str, Values], reason: NDArray[np.str_]) -> NDArray[np.str_]:
    """``reason``, or ``unknown_strike`` and so on for the first number of a contract that was not told."""
    found = reason.astype("U24")
    named = {field.name: getattr(terms, field.name) for field in fields(terms)} | dict(also)
    for name, values in named.items():
        found = np.where((found == "") & np.isnan(values), f"unknown_{name}", found)
    return found
