"""Early-exercise premia on a Leisen-Reimer tree: for cash dividends, for the rates at which the exercise region has two
boundaries, and as an independent check of `kernels.american`.

The tree prices the American and the European option side by side; their difference is smoother in the number of steps
than either, and is what the caller adds to the exact European price.

Cash dividends are escrowed: what diffuses is the spot less the present value of the dividends that go ex before the
option expires, and exercise is paid on the whole spot (Hull, Options, Futures, and Other Derivatives, section 21.3).

References:
    D. Leisen, M. Reimer, Binomial models for option valuation: examining and improving convergence, Applied
    Mathematical Finance 3 (1996), with Peizer and Pratt's second inversion.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from ots_quant.compiled import INT, READ, WRITE_TABLE, inline, kernel


@inline
def _peizer_pratt(z: float, steps: int) -> float:
    a = z / (steps + 1.0 / 3.0 + 0.1 / (steps + 1.0))
    half = math.sqrt(0.25 - 0.25 * math.exp(-a * a * (steps + 1.0 / 6.0)))
    return 0.5 + half if z >= 0.0 else 0.5 - half


@kernel(types.void(READ, READ, READ, READ, READ, READ, READ, READ, READ, INT, WRITE_TABLE))
def premium(
    right: Any,
    spot: Any,
    strike: Any,
    years: Any,
    rate: Any,
    dividend_yield: Any,
    volatility: Any,
    ex_years: Any,
    amounts: Any,
    steps: int,
    out: Any,
) -> None:
    """Rows of ``out``: the premium of early exercise, its delta and its gamma.

    spot: what diffuses, the dividends' present value taken off
    ex_years, amounts: the cash dividends, those after a contract's expiration without effect on it
    steps: odd
    Delta and gamma come from the three nodes after two steps, so they are those of two steps later.
    """
    asset, american, european = np.empty(steps + 1), np.empty(steps + 1), np.empty(steps + 1)
    escrow = np.zeros(steps + 1)
    escrowed_years, escrowed_rate = math.nan, math.nan
    for i in range(len(spot)):
        dt = years[i] / steps
        sigma_root = volatility[i] * math.sqrt(years[i])
        carry = rate[i] - dividend_yield[i]
        d1 = (math.log(spot[i] / strike[i]) + carry * years[i]) / sigma_root + 0.5 * sigma_root
        growth = math.exp(carry * dt)
        p = _peizer_pratt(d1 - sigma_root, steps)
        up = growth * _peizer_pratt(d1, steps) / p
        down = (growth - p * up) / (1.0 - p)
        discount = math.exp(-rate[i] * dt)
        p_up, p_down = p * discount, (1.0 - p) * discount
        if years[i] != escrowed_years or rate[i] != escrowed_rate:
            escrowed_years, escrowed_rate = years[i], rate[i]
            for n in range(steps + 1):
                escrow[n] = 0.0
                for k in range(len(ex_years)):
                    wait = ex_years[k] - n * dt
                    if wait > 0.0 and ex_years[k] < years[i]:
                        escrow[n] += amounts[k] * math.exp(-rate[i] * wait)
        sign, k_i = right[i], strike[i]
        log_ratio = math.log(up / down)
        log_lowest = math.log(spot[i]) + steps * math.log(down)
        for j in range(steps + 1):
            asset[j] = math.exp(log_lowest + j * log_ratio)
            european[j] = max(sign * (asset[j] - k_i), 0.0)
            american[j] = european[j]
        inverse_down = 1.0 / down
        for n in range(steps - 1, -1, -1):
            paid = escrow[n] - k_i
            for j in range(n + 1):
                asset[j] *= inverse_down
                european[j] = p_up * european[j + 1] + p_down * european[j]
                kept = p_up * american[j + 1] + p_down * american[j]
                american[j] = max(kept, sign * (asset[j] + paid))
            if n == 2:
                low, middle, high = american[0] - european[0], american[1] - european[1], american[2] - european[2]
                left = (middle - low) / (asset[1] - asset[0])
                bend = ((high - middle) / (asset[2] - asset[1]) - left) / (asset[2] - asset[0])
                out[1, i] = left + bend * (2.0 * spot[i] - asset[0] - asset[1])
                out[2, i] = 2.0 * bend
        out[0, i] = american[0] - european[0]
