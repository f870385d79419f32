"""Options against their peers and against 60 digits, speed and accuracy: European, American and surface tables.

python -m pip install --require-hashes --no-deps -r tests/benchmarks/requirements.txt    into a fresh environment
PYTHONPATH=services/quant python tests/benchmarks/bench_options.py     prints the tables; exit code 1: a floor is missed

Without a peer its rows say so. QuantLib and vollib take one contract a call, so they are timed on the first ones of
each input only.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import bench_american  # the benchmarks before numpy: harness sets the number of threads
import bench_surface
import harness
import mpmath
import numpy as np

from ots_quant import european, european_numpy
from ots_quant.european_numpy import Contracts, Quotes
from ots_quant.greeks import Greeks

OPTIONS, ROTATIONS = 10_000, 9
SCALAR = 300  # contracts that scalar peers are timed on
MANY = 1_000_000
CHECKED = 2_000  # contracts computed with 60 digits

pyvolr = harness.peer("pyvolr.bs")
fast_vollib = harness.peer("fast_vollib")
quantlib = harness.peer("QuantLib")
vollib = harness.peer("vollib.black_scholes_merton.implied_volatility")


def chain(seed: int, size: int = OPTIONS) -> Contracts:
    """Contracts as an option chain has them: 2 days to 2 years, strikes within 2.5 standard deviations mostly.

    Calls come before puts: rights in random order would double the time of peers that branch on them.
    """
    chance = np.random.default_rng(seed)
    years = chance.uniform(2 / 365, 2.0, size)
    volatility = chance.uniform(0.1, 0.8, size)
    spot = chance.uniform(20.0, 600.0, size)
    return Contracts(
        right=np.sort(chance.choice([-1.0, 1.0], size))[::-1].copy(),
        spot=spot,
        strike=spot * np.exp(chance.normal(0.0, 1.2, size) * volatility * np.sqrt(years)),
        years=years,
        rate=chance.uniform(0.0, 0.06, size),
        dividend_yield=chance.uniform(0.0, 0.03, size),
        volatility=volatility,
    )


def wild(seed: int, size: int) -> Contracts:
    """Five minutes to a century, volatility 0.1 % to 1000 %, 38 standard deviations in and out, rates to 100 %."""
    chance = np.random.default_rng(seed)
    years = 10.0 ** chance.uniform(-5.0, 2.0, size)
    volatility = 10.0 ** chance.uniform(-3.0, 1.0, size)
    rate, dividend_yield = chance.uniform(-1.0, 1.0, size), chance.uniform(-0.5, 0.5, size)
    spot = np.exp(chance.uniform(0.0, 8.0, size))
    away = chance.uniform(-38.0, 38.0, size) * volatility * np.sqrt(years)
    strike = spot * np.exp((rate - dividend_yield) * years + np.clip(away, -200.0, 200.0))
    return Contracts(chance.choice([-1.0, 1.0], size), spot, strike, years, rate, dividend_yield, volatility)


def quotes(contracts: Contracts) -> Quotes:
    """The contracts with their prices."""
    return Quotes(european.price(*contracts), *contracts[:6])


def flags(right: np.ndarray) -> np.ndarray:
    """Rights as the peers name them."""
    return np.where(right > 0, "c", "p")


def pyvolr_greeks(c: Contracts) -> object:
    """Price and five derivatives."""
    signs = c.right.astype(np.int8)
    contract = (c.spot, c.strike, c.years, c.rate, c.volatility, c.dividend_yield)
    return pyvolr.price(signs, *contract), pyvolr.greeks(signs, *contract)


def pyvolr_volatility(q: Quotes) -> object:
    """Implied volatility."""
    signs = q.right.astype(np.int8)
    return pyvolr.implied_vol(q.price, signs, q.spot, q.strike, q.years, q.rate, q.dividend_yield, on_error="ignore")


def fast_vollib_volatility(q: Quotes) -> object:
    """Implied volatility."""
    contract = (q.price, q.spot, q.strike, q.years, q.rate, flags(q.right), q.dividend_yield)
    return fast_vollib.fast_implied_volatility(
        *contract, model="black_scholes_merton", return_as="numpy", on_error="ignore"
    )


def quantlib_volatility(q: Quotes) -> object:
    """Implied volatility of the first contracts, by QuantLib's own formula for a forward."""
    found = []
    for price, right, spot, strike, years, rate, dividend_yield in zip(*(v[:SCALAR].tolist() for v in q), strict=True):
        kind = quantlib.Option.Call if right > 0 else quantlib.Option.Put
        discount = float(np.exp(-rate * years))
        forward = spot * float(np.exp((rate - dividend_yield) * years))
        try:
            deviation = quantlib.blackFormulaImpliedStdDev(kind, strike, forward, price, discount)
        except RuntimeError:  # it refuses some prices; it is timed, not judged
            deviation = np.nan
        found.append(deviation / years**0.5)
    return found


def vollib_volatility(q: Quotes) -> object:
    """Implied volatility of the first contracts."""
    return [
        vollib.implied_volatility(price, spot, strike, years, rate, dividend_yield, "c" if right > 0 else "p")
        for price, right, spot, strike, years, rate, dividend_yield in zip(
            *(v[:SCALAR].tolist() for v in q), strict=True
        )
    ]


def european_speed(report: harness.Report) -> float:
    """Races of the European functions; returns nanoseconds an option with ``out=``."""
    chains = [chain(seed) for seed in range(ROTATIONS)]
    priced = [quotes(c) for c in chains]
    out = Greeks.empty(OPTIONS)
    report.head(f"European, {OPTIONS:,} options", "what", "by", "ns/option", "times ours, same run", "floor / goal")
    peers = {"pyvolr, price + 5 Greeks": None if pyvolr is None else pyvolr_greeks}
    against = "pyvolr, price + 5 Greeks"
    reused = report.race(
        "price + 8 Greeks, out=",
        lambda c: european.greeks(*c, out=out),
        peers,
        chains,
        OPTIONS,
        against=against,
        floor=2.0,
        goal=15.0,
    )
    report.race("price + 8 Greeks, new arrays", lambda c: european.greeks(*c), peers, chains, OPTIONS)
    report.race(
        "the same by numpy",
        lambda c: european_numpy.greeks(c, out),
        peers,
        chains,
        OPTIONS,
        against=against,
        floor=2.0,
        goal=2.0,
    )
    volatility = "implied volatility"
    report.race(
        volatility,
        lambda q: european.implied_volatility(*q),
        {
            "pyvolr": None if pyvolr is None else pyvolr_volatility,
            "fast-vollib": None if fast_vollib is None else fast_vollib_volatility,
        },
        priced,
        OPTIONS,
        against="pyvolr",
        floor=2.5,
        goal=4.5,
    )
    few = [Quotes(*(v[:SCALAR] for v in q)) for q in priced]
    report.race(
        f"{volatility}, {SCALAR} contracts",
        lambda q: european.implied_volatility(*q),
        {
            "QuantLib": None if quantlib is None else quantlib_volatility,
            "vollib": None if vollib is None else vollib_volatility,
        },
        few,
        SCALAR,
    )
    return reused


def european_at_size(report: harness.Report, reused: float) -> None:
    """What an option costs among a million, against what it costs among ten thousand."""
    many, out = chain(99, MANY), Greeks.empty(MANY)
    (taken,) = harness.seconds([lambda c: european.greeks(*c, out=out)], [many] * 5)
    each = float(np.median(taken)) / MANY * 1e9
    report.head(f"{MANY:,} options, out=", "ns/option", f"over {OPTIONS:,}", "floor / goal")
    ratio = each / reused
    report.row(f"{each:.1f}", f"{ratio:.2f}", report.judge(ratio, 3.0, 1.5, more_is_better=False))


def sixty_digits(contract: list[float]) -> tuple[list[mpmath.mpf], list[mpmath.mpf], mpmath.mpf]:
    """Price and derivatives; of what sums each is made, where those may cancel; the scale max(S e^-qT, K e^-rT)."""
    with mpmath.workdps(60):
        w, s, k, t, r, q, v = (mpmath.mpf(x) for x in contract)
        forward, discounted, root = s * mpmath.exp(-q * t), k * mpmath.exp(-r * t), mpmath.sqrt(t)
        deviation, drift = v * root, (r - q) * t
        d1 = (mpmath.log(s / k) + drift) / deviation + deviation / 2
        d2 = d1 - deviation
        density = forward * mpmath.exp(-d1 * d1 / 2) / mpmath.sqrt(2 * mpmath.pi)
        asset = w * forward * mpmath.erfc(-w * d1 / mpmath.sqrt(2)) / 2
        cash = w * discounted * mpmath.erfc(-w * d2 / mpmath.sqrt(2)) / 2
        decay, vega, turn = density * v / (2 * root), density * root, density / (s * t * deviation)
        values = [
            asset - cash,
            asset / s,
            density / (s * s * deviation),
            q * asset - r * cash - decay,
            vega,
            t * cash,
            -density * d2 / (s * v),
            q * asset / s - turn * (drift - d2 * deviation / 2),
            vega * d1 * d2 / v,
        ]
        zero = mpmath.mpf(0)
        sums = [zero, zero, zero, abs(q * asset) + abs(r * cash) + decay, zero, zero, density / (s * v)]
        sums += [abs(q * asset / s) + turn * (abs(drift) + abs(d2 * deviation / 2)), vega / v]
        return values, sums, max(forward, discounted)


def numpy_greeks(contracts: Contracts) -> Greeks:
    """By the reference, which does the work where numba is missing."""
    result = Greeks.empty(len(contracts.spot))
    european_numpy.greeks(contracts, result)
    return result


def european_accuracy(report: harness.Report) -> None:
    """Prices and derivatives against 60 digits, on chains and on wild contracts, compiled and by numpy."""
    report.head(
        f"European accuracy, {CHECKED:,} contracts against 60 digits",
        "contracts",
        "what",
        "largest error",
        "floor",
        "by numpy",
        "floor",
    )
    for name, contracts in (("chain", chain(7, CHECKED)), ("wild", wild(7, CHECKED))):
        exact = [sixty_digits(list(row)) for row in zip(*(v.tolist() for v in contracts), strict=True)]
        growth = np.maximum(1.0, contracts.years * np.maximum(abs(contracts.rate), abs(contracts.dividend_yield)))
        engines: list[Callable[[Contracts], Greeks]] = [lambda c: european.greeks(*c), numpy_greeks]
        errors = np.array([largest_errors(np.array(engine(contracts)), exact, growth) for engine in engines])
        of = ["price, of max(S e^-qT, K e^-rT) max(1, |rT|, |qT|)", *(f"{field}, relative" for field in Greeks._fields)]
        for what, floor, pair in zip(of, [1e-15] + [1e-10] * len(Greeks._fields), errors.T.tolist(), strict=True):
            judged = [(f"{error:.1e}", report.judge(error, floor, floor, more_is_better=False)) for error in pair]
            report.row(name, what, *judged[0], *judged[1])


def largest_errors(found: np.ndarray, exact: list, growth: np.ndarray) -> list[float]:
    """Of the price in units of the scale; then of each output, relative to it or to a thousandth of what it sums."""
    of_scale, relative = 0.0, [0.0] * len(found)
    for column, (values, sums, scale) in enumerate(exact):
        of_scale = max(of_scale, float(abs(found[0, column] - values[0]) / scale) / growth[column])
        for i, (value, size) in enumerate(zip(values, sums, strict=True)):
            if abs(value) > 1e-290:
                error = float(abs(found[i, column] - value) / max(abs(value), size / 1000))
                relative[i] = max(relative[i], error) if error == error else np.inf
    return [of_scale if np.isfinite(found).all() else np.inf, *relative]


def allowed_by_rounding(contracts: Contracts, price: np.ndarray, volatility: np.ndarray) -> np.ndarray:
    """Eight times what one rounding of the price, of its two legs and of the volatility may move a price."""
    greeks = european.greeks(*contracts[:6], volatility)
    asset = np.abs(greeks.delta) * contracts.spot
    cash = np.abs(contracts.right * greeks.delta * contracts.spot - greeks.price)
    exponents = np.abs(np.log(contracts.spot / contracts.strike)) + contracts.years * (
        np.abs(contracts.rate) + np.abs(contracts.dividend_yield)
    )
    moved = price + (asset + cash) * (1.0 + exponents) + greeks.vega * volatility
    return 8.0 * np.maximum(np.finfo(float).eps * moved, 1e-300)


def implied_accuracy(report: harness.Report) -> None:
    """Volatilities against those that made the prices; on hard cases, whether they give the price back."""
    report.head("European implied volatility, accuracy", "prices", "by", "what", "value", "floor")
    contracts = chain(8, 100_000)
    greeks = european.greeks(*contracts)
    implied = european.implied_volatility(greeks.price, *contracts[:6])
    well_posed = greeks.vega > 1e-6 * np.maximum(contracts.spot, contracts.strike)
    error = float(np.abs(implied - contracts.volatility)[well_posed].max())
    judged = report.judge(error, 1e-9, 1e-9, more_is_better=False)
    report.row(f"chain, {int(well_posed.sum()):,} well-posed", "ots_quant", "largest error", f"{error:.1e}", judged)
    hard = wild(9, 100_000)
    price = european.price(*hard)
    known = (european.why_no_volatility(price, *hard[:6]) == 0) & (price > 1e-290)
    hard, price = Contracts(*(v[known] for v in hard)), price[known]
    solvers = {"ots_quant": lambda q: european.implied_volatility(*q)}
    solvers |= {} if pyvolr is None else {"pyvolr": pyvolr_volatility}
    solvers |= {} if fast_vollib is None else {"fast-vollib": fast_vollib_volatility}
    for name, solve in solvers.items():
        found = np.asarray(solve(Quotes(price, *hard[:6])), dtype=np.float64)
        usable = np.isfinite(found) & (found >= 0.0) & (found <= 1e4)
        part = Contracts(*(v[usable] for v in hard))
        again = european.price(*part[:6], found[usable])
        off = np.abs(again - price[usable]) > allowed_by_rounding(part, price[usable], found[usable])
        wrong, none = int(off.sum()), int((~usable).sum())
        judged = report.judge(wrong, 0, 0, more_is_better=False) if name == "ots_quant" else ""
        report.row(f"hard, {len(price):,}", name, "wrong / no answer", f"{wrong:,} / {none:,}", judged)


def measure(report: harness.Report) -> None:
    """The European tables."""
    reused = european_speed(report)
    european_at_size(report, reused)
    european_accuracy(report)
    implied_accuracy(report)


def main() -> int:
    """Print the tables; 1 when a floor is missed."""
    warnings.simplefilter("ignore")  # peers warn of prices that they cannot solve; they are counted below
    print(harness.versions("numpy", "scipy", "numba", "pyvolr", "fast-vollib", "QuantLib", "vollib"))
    print(f"one process, one thread; medians over {ROTATIONS} different inputs, best of 5 turns on each")
    report = harness.Report()
    measure(report)
    bench_american.measure(report)
    bench_surface.measure(report)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
