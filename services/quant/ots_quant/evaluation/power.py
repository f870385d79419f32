"""How many signals an edge needs to be found."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri


def signals_needed(
    edge: float,
    deviation: float,
    *,
    level: float = 0.05,
    power: float = 0.8,
    tests: int = 1,
    design_effect: float = 1.0,
    hurdle: float = 0.0,
    hurdle_level: float | None = None,
    spread: float = 1.0,
) -> int:
    """Signals so that a one-sided test finds a mean of ``edge`` with probability ``power``.

    ``deviation``: of one return. ``level`` is shared by ``tests`` strategies (Bonferroni). ``design_effect``: how many
    times the variance of the mean exceeds that of independent signals. ``hurdle``: standard errors that come on top of
    those of ``hurdle_level`` (or ``level``) in another demand, of which the greater counts: for a deflated Sharpe ratio
    what the best of the trials shows by luck (`expected_maximum_sharpe` with a variance of 1).

    ``spread``: `Sharpe.spread` of the returns by cluster, by which the mean over its error varies more than a normal
    law's where losses are rarer and larger than gains; 1 for normal returns.

    n = design effect x ((z of the demand + spread x z of the power) x deviation / edge)^2, normal approximation (J.
    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition (1988), section 2.4). Raises ValueError
    for an edge, deviation, design effect or spread that is not positive, and shares outside 0 to 1.
    """
    if not (edge > 0.0 and deviation > 0.0 and design_effect > 0.0 and spread > 0.0 and tests >= 1 and hurdle >= 0.0):
        raise ValueError("edge, deviation, design_effect, spread must be positive, tests 1 or more, hurdle 0 or more")
    if not (0.0 < level < 1.0 and 0.0 < power < 1.0):
        raise ValueError("level and power must be between 0 and 1")
    other = hurdle + spread * float(ndtri(1.0 - (level if hurdle_level is None else hurdle_level)))
    demand = max(float(ndtri(1.0 - level / tests)), other if hurdle else 0.0)
    return int(np.ceil(design_effect * ((demand + spread * float(ndtri(power))) * deviation / edge) ** 2))
