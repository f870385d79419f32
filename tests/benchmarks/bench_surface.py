"""A surface of 30 expirations x 200 strikes against scipy's least squares slice by slice; one process, one thread.

python tests/benchmarks/bench_surface.py     prints the table; exit code 1 when a floor is missed

Both fit the five parameters of raw SVI to the same noisy volatilities. scipy is given the analytic Jacobian and a start
from the data, which is the faster of its ways here. Ours is timed with all that makes a surface of it: independent
slices, the scan for arbitrage, and the coupled fit where the scan finds any. Each rotation has a surface of its own;
within a rotation all sides are timed in turns, and the best of their turns counts; a figure is a median of rotations.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ots_quant.surface import fit, normal
from ots_quant.surface.certificate import Range, scan
from ots_quant.surface.coupling import without_arbitrage
from ots_quant.surface.fit import Targets, descend_reference, fit_independent
from ots_quant.surface.slices import Slices, total_variance

Values = NDArray[np.float64]

EXPIRATIONS, STRIKES, ROTATIONS, TURNS = 30, 200, 7, 3
NOISE = 0.002  # of volatility, and the half-spread
FLOOR, GOAL = 5.0, 12.0
WORSE_FIT = 1.001  # of scipy's root mean square: what counts as equal error


class Quoted(NamedTuple):
    """Volatilities (expirations, strikes) by log-moneyness."""

    years: Values
    k: Values
    volatility: Values


def quoted(seed: int, slope: float) -> Quoted:
    """SVI smiles whose deviation grows with ``slope`` of volatility over time; a negative one makes slices cross."""
    random = np.random.default_rng(seed)
    years = np.geomspace(7 / 365, 2.5, EXPIRATIONS)
    level = 0.22 * (years / years[0]) ** slope
    deviation = level * np.sqrt(years)
    x = np.sort(random.uniform(-4.5, 3.5, (EXPIRATIONS, STRIKES)), axis=1)
    k = x * deviation[:, None]
    smile = Slices(
        deviation**2 * random.uniform(0.4, 0.6),
        deviation * 0.45,
        np.full(EXPIRATIONS, -0.45),
        deviation * 0.1,
        deviation * random.uniform(0.8, 1.2),
    )
    volatility = np.sqrt(total_variance(smile, k).w / years[:, None])
    return Quoted(years, k, volatility + random.normal(0, NOISE, volatility.shape))


def ours(chain: Quoted, *, compiled: bool = True) -> Slices:
    """Everything from volatilities to a surface whose scan is clean."""
    targets, theta = _targets(chain)
    parameters, trust = fit_independent(targets) if compiled else _reference(targets)
    inside = Range.of(chain.k[:, 0], chain.k[:, -1], theta)
    return normal.raw(without_arbitrage(parameters, targets, trust, chain.years, inside), theta)


def _targets(chain: Quoted) -> tuple[Targets, Values]:
    middle = np.argmin(np.abs(chain.k), axis=1)
    years = chain.years[:, None]
    w = chain.volatility**2 * years
    theta = w[np.arange(EXPIRATIONS), middle]
    weight = theta[:, None] / (2 * chain.volatility * years * NOISE)
    return Targets(chain.k / np.sqrt(theta)[:, None], w / theta[:, None], weight, theta), theta


def _reference(targets: Targets) -> tuple[Values, Values]:
    compiled, fit.descend = fit.descend, descend_reference
    try:
        return fit_independent(targets)
    finally:
        fit.descend = compiled


def scipy_slices(chain: Quoted) -> Slices:
    """`scipy.optimize.least_squares` on volatility, slice by slice."""
    return Slices(*np.array([_scipy_slice(*row) for row in zip(*chain, strict=True)]).T)


def _scipy_slice(years: float, k: Values, volatility: Values) -> Values:
    w = volatility**2 * years
    deviation = np.sqrt(w[np.argmin(np.abs(k))])

    def model(p: Values) -> tuple[Values, Values, Values]:
        distance = k - p[3]
        root = np.sqrt(distance**2 + p[4] ** 2)
        return np.maximum(p[0] + p[1] * (p[2] * distance + root), 1e-12), distance, root

    def residual(p: Values) -> Values:
        return np.asarray((np.sqrt(model(p)[0] / years) - volatility) / NOISE)

    def jacobian(p: Values) -> Values:
        value, distance, root = model(p)
        by = np.stack(
            [
                np.ones(k.size),
                p[2] * distance + root,
                p[1] * distance,
                -p[1] * (p[2] + distance / root),
                p[1] * p[4] / root,
            ]
        )
        return np.asarray((by / (2 * np.sqrt(value * years) * NOISE)).T)

    start = [w.min() / 2, deviation / 2, -0.3, 0.0, deviation]
    scale = [deviation**2, deviation, 1.0, deviation, deviation]
    low, high = [-1.0, 0.0, -0.999, -2.0, 1e-4], [4.0, 4.0, 0.999, 2.0, 4.0]
    return np.asarray(least_squares(residual, start, jacobian, bounds=(low, high), x_scale=scale).x)


def rms(chain: Quoted, slices: Slices) -> float:
    """Root mean square of model less quoted volatility."""
    model = np.sqrt(total_variance(slices, chain.k).w / chain.years[:, None])
    return float(np.sqrt(np.mean((model - chain.volatility) ** 2)))


def best_of_turns(sides: list[Callable[[], object]]) -> list[float]:
    """Seconds of each side, in turns so that both see the same machine."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(TURNS):
        for side, taken in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            side()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in seconds]


class Row(NamedTuple):
    """Milliseconds and root mean squares of one kind of surface, medians over rotations."""

    name: str
    ours: float
    array: float
    scipy: float
    ratio: float
    worse: float
    violations: int
    of_scipy: int


def measure(name: str, slope: float) -> Row:
    """All rotations of one kind."""
    times, worse, violations, of_scipy = [], [], 0, 0
    for rotation in range(ROTATIONS):
        chain = quoted(rotation, slope)
        times.append(
            best_of_turns(
                [
                    lambda chain=chain: ours(chain),
                    lambda chain=chain: ours(chain, compiled=False),
                    lambda chain=chain: scipy_slices(chain),
                ]
            )
        )
        mine, theirs = ours(chain), scipy_slices(chain)
        worse.append(rms(chain, mine) / rms(chain, theirs))
        inside = Range.of(chain.k[:, 0], chain.k[:, -1], chain.k[:, -1] ** 2)
        violations += scan(mine, chain.years, inside).failing
        of_scipy += scan(theirs, chain.years, inside).failing
    columns = [1e3 * statistics.median(column) for column in zip(*times, strict=True)]
    ratio = statistics.median(scipy / own for own, _, scipy in times)
    return Row(name, *columns, ratio, max(worse), violations, of_scipy)


def main() -> int:
    """Print the table."""
    rows = [measure("slices apart", 0.0), measure("slices that cross", -0.49)]
    print(f"{EXPIRATIONS} x {STRIKES}, noise {NOISE}: median ms of {ROTATIONS} surfaces")
    print(
        "| surface | ots_quant | its array form | scipy per slice | ratio | rms against scipy | violations | scipy's |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.name} | {row.ours:.1f} | {row.array:.1f} | {row.scipy:.1f} | {row.ratio:.1f} "
            f"| {row.worse:.4f} | {row.violations} | {row.of_scipy} |"
        )
    equal = rows[0]
    met = equal.ratio >= FLOOR and equal.worse <= WORSE_FIT and not any(row.violations for row in rows)
    print(f"floor {FLOOR:g}x {'met' if met else 'MISSED'}, goal {GOAL:g}x {'met' if equal.ratio >= GOAL else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
