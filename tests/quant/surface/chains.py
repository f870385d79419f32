"""Chains made from a known smile, forward and rate, priced by formulas that are not the library's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import QuantLib as ql
from numpy.typing import NDArray
from scipy.stats import norm

Values = NDArray[np.float64]
Smile = Callable[[Values, Values], Values]
"""Volatility from (k, years)."""

SPOT = 100.0


class Chain(NamedTuple):
    """Calls and puts at every strike; arrays of shape (contracts,)."""

    right: Values
    strike: Values
    years: Values
    bid: Values
    ask: Values
    forward: Values
    rate: Values
    volatility: Values

    def where(self, chosen: NDArray[np.bool_]) -> Chain:
        return Chain(*(values[chosen] for values in self))

    @property
    def quotes(self) -> tuple[Values, Values, Values, Values, Values]:
        """What `implied_forwards` takes first."""
        return self.right, self.strike, self.years, self.bid, self.ask


def flat(volatility: float) -> Smile:
    return lambda k, years: np.full(np.broadcast_shapes(k.shape, years.shape), volatility)


def svi(k: Values, years: Values) -> Values:
    """A smile whose slices do not cross: SVI in moneyness scaled by the deviation of a flat 25 %."""
    deviation = 0.25 * np.sqrt(years)
    x = k / deviation
    return 0.25 * np.sqrt(0.5 + 0.4 * (-0.5 * (x - 0.3) + np.sqrt((x - 0.3) ** 2 + 1.2**2)))


def black(right: Values, strike: Values, years: Values, forward: Values, rate: Values, volatility: Values) -> Values:
    """Black (1976)."""
    deviation = volatility * np.sqrt(years)
    d1 = np.log(forward / strike) / deviation + deviation / 2
    value = right * (forward * norm.cdf(right * d1) - strike * norm.cdf(right * (d1 - deviation)))
    return np.asarray(np.exp(-rate * years) * value)


def european_chain(
    years: list[float],
    smile: Smile,
    *,
    strikes: int = 41,
    deviations: float = 2.5,
    rate: float = 0.03,
    dividend_yield: float = 0.01,
    half_spread: float = 0.02,
    spot: float = SPOT,
) -> Chain:
    """Mid prices exact, every quote ``half_spread`` wide to each side (narrower where the price is less)."""
    time = np.repeat(np.array(years), 2 * strikes)
    x = np.tile(np.repeat(np.linspace(-deviations, deviations, strikes), 2), len(years))
    right = np.tile([1.0, -1.0], strikes * len(years))
    forward = spot * np.exp((rate - dividend_yield) * time)
    strike = forward * np.exp(0.25 * np.sqrt(time) * x)
    volatility = smile(np.log(strike / forward), time)
    rates = np.full(time.shape, rate)
    mid = black(right, strike, time, forward, rates, volatility)
    half = np.minimum(half_spread, 0.4 * mid)
    return Chain(right, strike, time, mid - half, mid + half, forward, rates, volatility)


def american_chain(years: list[float], smile: Smile, **options: float) -> Chain:
    """The same contracts with American exercise, priced by QuantLib (Andersen, Lake & Offengenden, accurate scheme)."""
    chain = european_chain(years, smile, **options)  # type: ignore[arg-type]
    spot = options.get("spot", SPOT)
    mid = np.array(
        [
            _quantlib_american(right, spot, strike, time, rate, rate - np.log(forward / spot) / time, volatility)
            for right, strike, time, _, _, forward, rate, volatility in zip(*chain, strict=True)
        ]
    )
    half = (chain.ask - chain.bid) / 2
    return chain._replace(bid=mid - half, ask=mid + half)


def _quantlib_american(
    right: float, spot: float, strike: float, years: float, rate: float, dividend_yield: float, volatility: float
) -> float:
    today = ql.Date(2, 1, 2023)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    days = round(years * 365)
    curves = [ql.YieldTermStructureHandle(ql.FlatForward(today, value, count)) for value in (dividend_yield, rate)]
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)),
        *curves,
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), volatility, count)),
    )
    kind = ql.Option.Call if right > 0 else ql.Option.Put
    option = ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), ql.AmericanExercise(today, today + days))
    option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.accurateScheme()))
    return float(option.NPV())
