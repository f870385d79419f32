"""European options with 60 digits, and contracts to compare on: from the definitions, by no code of ours."""

from __future__ import annotations

from typing import NamedTuple

import mpmath
import numpy as np

from ots_quant.european_numpy import Contracts

DIGITS = 60
LEAST_NORMAL = mpmath.mpf("1e-290")


class Exact(NamedTuple):
    """A price and its derivatives, and for those that are sums of both signs the size of what is summed."""

    values: dict[str, mpmath.mpf]
    sizes: dict[str, mpmath.mpf]
    scale: mpmath.mpf  # max(S e^-qT, K e^-rT)


def exact(right, spot, strike, years, rate, dividend_yield, volatility) -> Exact:
    """Merton's formula and its derivatives as in Haug (2007), chapter 2."""
    with mpmath.workdps(DIGITS):
        w, s, k, t, r, q, v = (
            mpmath.mpf(float(x)) for x in (right, spot, strike, years, rate, dividend_yield, volatility)
        )
        carry, discount, root = mpmath.exp(-q * t), mpmath.exp(-r * t), mpmath.sqrt(t)
        deviation = v * root
        d1 = (mpmath.log(s / k) + (r - q) * t) / deviation + deviation / 2
        d2 = d1 - deviation
        density = mpmath.exp(-d1 * d1 / 2) / mpmath.sqrt(2 * mpmath.pi)
        asset = w * s * carry * mpmath.erfc(-w * d1 / mpmath.sqrt(2)) / 2
        cash = w * k * discount * mpmath.erfc(-w * d2 / mpmath.sqrt(2)) / 2
        decay = s * carry * density * v / (2 * root)
        vega = s * carry * density * root
        drift, spread = (r - q) * t, d2 * deviation / 2
        turn = carry * density / (t * deviation)
        values = {
            "price": asset - cash,
            "delta": asset / s,
            "gamma": carry * density / (s * deviation),
            "theta": q * asset - r * cash - decay,
            "vega": vega,
            "rho": t * cash,
            "vanna": -carry * density * d2 / v,
            "charm": q * asset / s - turn * (drift - spread),
            "vomma": vega * d1 * d2 / v,
        }
        sizes = {
            "theta": abs(q * asset) + abs(r * cash) + decay,
            "vanna": carry * density / v,
            "charm": abs(q * asset / s) + turn * (abs(drift) + abs(spread)),
            "vomma": vega / v,
        }
        return Exact(values, sizes, max(s * carry, k * discount))


def usual(size: int, seed: int) -> Contracts:
    """An option chain and somewhat more: a day to five years, 5 % to 200 %, five standard deviations."""
    chance = np.random.default_rng(seed)
    years, volatility = 10.0 ** chance.uniform(-2.5, 0.7, size), 10.0 ** chance.uniform(-1.3, 0.3, size)
    rate, dividend_yield = chance.uniform(-0.02, 0.1, size), chance.uniform(0.0, 0.08, size)
    spot = np.exp(chance.uniform(0.0, 8.5, size))
    away = chance.uniform(-5.0, 5.0, size) * volatility * np.sqrt(years)
    strike = spot * np.exp((rate - dividend_yield) * years + away)
    return Contracts(chance.choice([-1.0, 1.0], size), spot, strike, years, rate, dividend_yield, volatility)


def extreme(size: int, seed: int) -> Contracts:
    """A second to a century, 0.1 % to 1000 %, rates of +-100 %, 38 standard deviations in and out of the money."""
    chance = np.random.default_rng(seed)
    years, volatility = 10.0 ** chance.uniform(-7.5, 2.0, size), 10.0 ** chance.uniform(-3.0, 1.0, size)
    rate, dividend_yield = chance.uniform(-1.0, 1.0, size), chance.uniform(-1.0, 1.0, size)
    spot = np.exp(chance.uniform(0.0, 8.5, size))
    away = chance.uniform(-38.0, 38.0, size) * volatility * np.sqrt(years)
    exponent = np.clip((rate - dividend_yield) * years + away, -300.0, 300.0)
    return Contracts(
        chance.choice([-1.0, 1.0], size), spot, spot * np.exp(exponent), years, rate, dividend_yield, volatility
    )
