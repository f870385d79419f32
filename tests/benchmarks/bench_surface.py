"""A surface of 30 expirations x 200 strikes against scipy's least squares slice by slice.

PYTHONPATH=services/quant python tests/benchmarks/bench_surface.py  prints the table; exit code 1 when a floor is missed

Both fit the five parameters of raw SVI to the same noisy volatilities. scipy is given the analytic Jacobian and a start
from the data, which is the faster of its ways here. Ours is timed with all that makes a surface of it: independent
slices, the scan for arbitrage, and the coupled fit where the scan finds any; scipy's slices are left as they are.
"""

from __future__ import annotations

import statistics
import sys
from typing import NamedTuple

import harness  # before numpy: it sets the number of threads
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ots_quant.surface import fit, normal
from ots_quant.surface.certificate import Range, scan
from ots_quant.surface.coupling import without_arbitrage
from ots_quant.surface.fit import Targets, descend_reference, fit_independent
from ots_quant.surface.slices import Slices, total_variance

Values = NDArray[np.float64]

EXPIRATIONS, STRIKES, ROTATIONS = 30, 200, 9
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


def violations(chain: Quoted, slices: Slices) -> int:
    """Points of the certificate's dense grid that fail."""
    theta = (chain.volatility**2 * chain.years[:, None])[np.arange(EXPIRATIONS), np.argmin(np.abs(chain.k), axis=1)]
    return scan(slices, chain.years, Range.of(chain.k[:, 0], chain.k[:, -1], theta)).failing


def race(report: harness.Report, name: str, slope: float, *, judged: bool) -> None:
    """One row: all rotations of one kind of surface."""
    chains = [quoted(rotation, slope) for rotation in range(ROTATIONS)]
    times = harness.seconds([ours, lambda chain: ours(chain, compiled=False), scipy_slices], chains)
    milliseconds = [f"{1e3 * statistics.median(taken):.1f}" for taken in times]
    ratio = statistics.median(scipy / own for own, scipy in zip(times[0], times[2], strict=True))
    fits = [(chain, ours(chain), scipy_slices(chain)) for chain in chains]
    worse = max(rms(chain, own) / rms(chain, scipy) for chain, own, scipy in fits)
    left = sum(violations(chain, own) for chain, own, _ in fits)
    of_scipy = sum(violations(chain, scipy) for chain, _, scipy in fits)
    report.met = report.met and left == 0 and (worse <= WORSE_FIT or not judged)
    verdict = report.judge(ratio, FLOOR, GOAL) if judged else "not of equal error"
    report.row(name, *milliseconds, f"{ratio:.1f}", f"{worse:.4f}", str(left), str(of_scipy), verdict)


def measure(report: harness.Report) -> None:
    """The table of surfaces."""
    report.head(
        f"Surface, {EXPIRATIONS} x {STRIKES}, noise {NOISE} of volatility, medians of {ROTATIONS}",
        "slices",
        "ots_quant, ms",
        "its array form, ms",
        "scipy, ms",
        "times faster",
        "worst rms / scipy's",
        "violations left",
        "of scipy's slices",
        "floor / goal",
    )
    race(report, "apart", 0.0, judged=True)
    race(report, "that cross", -0.49, judged=False)


def main() -> int:
    """Print the table; 1 when a floor is missed."""
    print(harness.versions("numpy", "scipy", "numba"))
    report = harness.Report()
    measure(report)
    return 0 if report.met else 1


if __name__ == "__main__":
    sys.exit(main())
