"""American option chains against QuantLib: speed, and the error of both against its high-precision scheme.

PYTHONPATH=services/quant python tests/benchmarks/bench_american.py  prints the tables; exit code 1: a floor is missed

A chain is 12 expirations x 84 strikes x call and put of one underlying, with a smile. QuantLib takes one contract a
call: its contracts and engines are made beforehand, and only the calculation is timed, on some of each chain.
"""

from __future__ import annotations

import statistics
import sys

import harness  # before numpy: it sets the number of threads
import numpy as np

from ots_quant import american
from ots_quant.american_tree import Terms

ROTATIONS = 9
DAYS = np.array([7, 14, 21, 35, 63, 91, 126, 182, 273, 365, 546, 730])
STRIKES = 84
TIMED = 120  # contracts that QuantLib is timed on
CHECKED = 300  # contracts compared with its high-precision scheme
WELL_POSED = 0.01  # vega in spots per 1.00 of volatility from which a price tells its volatility

quantlib = harness.peer("QuantLib")


def chain(seed: int) -> Terms:
    """2,016 contracts on one underlying: strikes from 60 to 150 % of the spot, smile steeper the shorter."""
    chance = np.random.default_rng(seed)
    spot, level = chance.uniform(50.0, 600.0), chance.uniform(0.18, 0.4)
    moneyness = np.linspace(0.6, 1.5, STRIKES)
    right, days, moneyness = (a.ravel() for a in np.meshgrid([1.0, -1.0], DAYS, moneyness, indexing="ij"))
    years = days / 365.0
    k = np.log(moneyness)
    volatility = level - 0.1 * k + 0.06 * k * k / np.sqrt(np.maximum(years, 0.05))
    rate, dividend_yield = np.full(k.shape, chance.uniform(0.02, 0.05)), np.full(k.shape, chance.uniform(0.005, 0.02))
    return Terms(right, np.full(k.shape, spot), spot * moneyness, years, rate, dividend_yield, volatility)


def quantlib_option(terms: Terms, i: int, scheme: object) -> object:
    """One contract with its engine."""
    today = quantlib.Date(15, 1, 2024)
    quantlib.Settings.instance().evaluationDate = today
    day_count = quantlib.Actual365Fixed()
    flat = [
        quantlib.YieldTermStructureHandle(quantlib.FlatForward(today, float(value), day_count))
        for value in (terms.dividend_yield[i], terms.rate[i])
    ]
    volatility = quantlib.BlackConstantVol(today, quantlib.NullCalendar(), float(terms.volatility[i]), day_count)
    process = quantlib.BlackScholesMertonProcess(
        quantlib.QuoteHandle(quantlib.SimpleQuote(float(terms.spot[i]))),
        *flat,
        quantlib.BlackVolTermStructureHandle(volatility),
    )
    kind = quantlib.Option.Call if terms.right[i] > 0 else quantlib.Option.Put
    exercise = quantlib.AmericanExercise(today, today + round(float(terms.years[i]) * 365))
    option = quantlib.VanillaOption(quantlib.PlainVanillaPayoff(kind, float(terms.strike[i])), exercise)
    option.setPricingEngine(quantlib.QdFpAmericanEngine(process, scheme))
    return option


def spread_out(terms: Terms, count: int) -> np.ndarray:
    """So many contracts, evenly over the chain."""
    return np.linspace(0, len(terms.spot) - 1, count).astype(int)


def speed(report: harness.Report) -> None:
    """Microseconds a contract, and the largest error in units of the spot."""
    chains = [chain(seed) for seed in range(ROTATIONS + 1)]
    size = len(chains[0].spot)
    report.head("American chains", "what", "who", "ours, µs a contract", "theirs", "ratio", "floor / goal")
    own, theirs = [], []
    american.price(*chains[-1])
    for terms in chains[:-1]:
        own.append(harness.seconds([lambda t: american.price(*t)], [terms] * 3)[0])
        if quantlib:
            options = [
                quantlib_option(terms, i, quantlib.QdFpAmericanEngine.fastScheme()) for i in spread_out(terms, TIMED)
            ]
            theirs.append(harness.seconds([lambda os: [o.recalculate() for o in os]], [options])[0])
    ours = [min(times) / size * 1e6 for times in own]
    if not quantlib:
        report.row("price", "QuantLib QdFp fast", f"{statistics.median(ours):.2f}", "not installed", "", "")
        return
    peer = [min(times) / TIMED * 1e6 for times in theirs]
    ratio = statistics.median(b / a for a, b in zip(ours, peer, strict=True))
    median, peer_median = statistics.median(ours), statistics.median(peer)
    judged = report.judge(ratio, 5.0, 20.0)
    report.row("price", "QuantLib QdFp fast", f"{median:.2f}", f"{peer_median:.1f}", f"{ratio:.0f}", judged)


def accuracy(report: harness.Report) -> None:
    """The largest error of prices, in units of the spot, and of volatilities that the exact prices imply."""
    report.head("American accuracy", "what", "value", "floor / goal")
    mine, fast, volatility = [], [], []
    for seed in (100, 101):
        terms = chain(seed)
        chosen = spread_out(terms, CHECKED)
        picked = Terms(*(values[chosen] for values in terms))
        scheme = quantlib.QdFpAmericanEngine.highPrecisionScheme()
        exact = np.array([quantlib_option(terms, i, scheme).NPV() for i in chosen])
        scheme = quantlib.QdFpAmericanEngine.fastScheme()
        quick = np.array([quantlib_option(terms, i, scheme).NPV() for i in chosen])
        mine.append(np.abs(american.price(*picked) - exact) / picked.spot)
        fast.append(np.abs(quick - exact) / picked.spot)
        well = american.greeks(*picked).vega > WELL_POSED * picked.spot
        volatility.append(np.abs(american.implied_volatility(exact, *picked[:6]) - picked.volatility)[well])
    worst = float(np.concatenate(mine).max())
    report.row("price, largest error / spot", f"{worst:.1e}", report.judge(worst, 5e-5, 5e-6, more_is_better=False))
    report.row("price, QuantLib QdFp fast", f"{np.concatenate(fast).max():.1e}", "")
    worst = float(np.concatenate(volatility).max())
    verdict = report.judge(worst, 1e-6, 1e-6, more_is_better=False)
    report.row(f"implied volatility, largest error where vega > {WELL_POSED} spots", f"{worst:.1e}", verdict)


def whole_chains(report: harness.Report) -> None:
    """Milliseconds for a whole chain of prices, of implied volatilities, of Greeks."""
    chains = [chain(seed) for seed in range(ROTATIONS + 1)]
    priced = [(american.price(*terms), *terms[:6]) for terms in chains]
    report.head(f"A whole American chain, {len(chains[0].spot):,} contracts", "what", "ms", "floor / goal")
    (prices,) = harness.seconds([lambda t: american.price(*t)], chains)
    (greeks,) = harness.seconds([lambda t: american.greeks(*t)], chains)
    (implied,) = harness.seconds([lambda q: american.implied_volatility(*q)], priced)
    report.row("prices", f"{statistics.median(prices) * 1e3:.1f}", "")
    median = statistics.median(implied) * 1e3
    report.row("implied volatilities", f"{median:.1f}", report.judge(median, 50.0, 15.0, more_is_better=False))
    report.row("price and 8 Greeks", f"{statistics.median(greeks) * 1e3:.1f}", "")


def measure(report: harness.Report) -> None:
    """The American tables."""
    speed(report)
    whole_chains(report)
    if quantlib:
        accuracy(report)


def main() -> int:
    """Print the tables; 1 when a floor is missed."""
    print(harness.versions("numpy", "numba", "QuantLib"))
    report = harness.Report()
    measure(report)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
