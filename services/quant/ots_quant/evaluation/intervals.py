"""The interval of a share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ots_quant.arguments import Values, broadcast


def wilson(hits: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[Values, Values]:
    """Wilson's score interval of hits / trials, without correction for continuity: (low, high), broadcast.

    ``trials`` may be an effective number, which is not whole. [0, 1] without trials. Raises ValueError for hits that
    are not within 0 and trials, or a level that is not between 0 and 1.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927); recommended by L. Brown, T. Cai, A. DasGupta, Statistical
    Science 16 (2001).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    (k, n), shape = broadcast({"hits": hits, "trials": trials})
    if not ((k >= 0.0) & (k <= n)).all():
        raise ValueError("hits must be between 0 and trials")
    z2 = float(ndtri(0.5 + 0.5 * level)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (k + 0.5 * z2) / (n + z2)
        half = np.sqrt(z2) / (n + z2) * np.sqrt(k * (n - k) / n + 0.25 * z2)
    low, high = (
        np.clip(np.where(n > 0.0, x, bound), 0.0, 1.0) for x, bound in ((middle - half, 0.0), (middle + half, 1.0))
    )
    # rounding would leave a last digit of 0 hits, or of all
    low, high = np.where(k == 0.0, 0.0, low), np.where(k == n, 1.0, high)
    return low.reshape(shape), high.reshape(shape)
