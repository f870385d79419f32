"""American prices by QuantLib, one contract at a time: the peer that tests and benchmarks compare with."""

from __future__ import annotations

import QuantLib as ql

TODAY = ql.Date(15, 1, 2024)
DAY_COUNT = ql.Actual365Fixed()


def process(spot: float, rate: float, dividend_yield: float, volatility: float) -> ql.BlackScholesMertonProcess:
    """A flat Black-Scholes-Merton process."""
    ql.Settings.instance().evaluationDate = TODAY
    return ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(TODAY, dividend_yield, DAY_COUNT)),
        ql.YieldTermStructureHandle(ql.FlatForward(TODAY, rate, DAY_COUNT)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(TODAY, ql.NullCalendar(), volatility, DAY_COUNT)),
    )


def contract(right: int, strike: float, days: int) -> ql.VanillaOption:
    """An American option of so many days."""
    kind = ql.Option.Call if right > 0 else ql.Option.Put
    return ql.VanillaOption(ql.PlainVanillaPayoff(kind, strike), ql.AmericanExercise(TODAY, TODAY + days))


def price(
    right: int, spot: float, strike: float, days: int, rate: float, dividend_yield: float, volatility: float
) -> float:
    """By the high-precision scheme of its QD+ fixed-point engine."""
    option = contract(right, strike, days)
    scheme = ql.QdFpAmericanEngine.highPrecisionScheme()
    option.setPricingEngine(ql.QdFpAmericanEngine(process(spot, rate, dividend_yield, volatility), scheme))
    return option.NPV()


def finite_difference_price(
    right: int,
    spot: float,
    strike: float,
    days: int,
    rate: float,
    dividend_yield: float,
    volatility: float,
    dividends: list[tuple[int, float]] | None = None,
) -> float:
    """By finite differences, cash dividends (day, amount) escrowed."""
    schedule = ql.DividendSchedule()
    for day, amount in dividends or []:
        schedule.push_back(ql.FixedDividend(amount, TODAY + day))
    engine = ql.FdBlackScholesVanillaEngine(
        process(spot, rate, dividend_yield, volatility),
        schedule,
        800,
        1600,
        2,
        ql.FdmSchemeDesc.CrankNicolson(),
        False,
        -1.0,
        ql.FdBlackScholesVanillaEngine.Escrowed,
    )
    option = contract(right, strike, days)
    option.setPricingEngine(engine)
    return option.NPV()
