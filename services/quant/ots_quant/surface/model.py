"""A fitted surface and what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from ots_quant.arguments import broadcast, numbers
from ots_quant.surface.certificate import Certificate, Range
from ots_quant.surface.slices import Slices, Variance, butterfly, total_variance

Values = NDArray[np.float64]

_BISECTIONS = 60
_SAME_MONEYNESS = 1e-12  # the outermost strike is inside, however its logarithm was rounded
_WIDEST_DEVIATIONS = 40.0  # of the search for a strike by delta


class TermStructure(NamedTuple):
    """At the forward, one row per expiration."""

    years: Values
    volatility: Values
    forward_volatility: Values
    """Between the expiration before (or now) and this one: sqrt of the rise of total variance over that time."""


@dataclass(frozen=True)
class Surface:
    """Total implied variance by time and forward log-moneyness k = ln(strike / forward): an SVI slice per expiration.

    Between expirations total variance is linear in time at the same k, which keeps it rising where the slices do;
    ln(forward) and rate * years are linear too. Before the first and after the last expiration volatility at
    the same k stays what it is there, which no certificate covers. Beyond the quoted strikes the wings of SVI go on,
    straight lines in total variance; ``inside`` tells which answers that concerns.

    ``years``, ``forward``, ``rate``, ``slices`` and ``shape`` have one row per expiration, nearest first. ``left_out``
    has the shape of the quotes given, with a code of `LeftOut` each.
    """

    spot: float
    years: Values
    forward: Values
    rate: Values
    slices: Slices
    quoted: Range
    shape: NDArray[np.int64]
    left_out: NDArray[np.int64]
    certificate: Certificate

    def volatility(self, years: ArrayLike, strike: ArrayLike) -> Values:
        """Implied volatility; the two broadcast. NaN where years or strike are not positive.

        Raises ValueError that names the argument of a wrong kind or shape.
        """
        (time, price), shape = broadcast({"years": years, "strike": strike})
        with np.errstate(all="ignore"):  # a strike of zero or less has no logarithm: NaN
            k = np.log(np.where(price > 0, price, np.nan) / self.forward_at(time))
            return np.sqrt(self._variance(time, k).w / time).reshape(shape)

    def total_variance(self, years: ArrayLike, k: ArrayLike) -> Variance:
        """w, dw/dk and d2w/dk2 at forward log-moneyness ``k``; the two broadcast. NaN where years are not positive."""
        (time, moneyness), shape = broadcast({"years": years, "k": k})
        with np.errstate(all="ignore"):  # bad times and moneyness are NaN
            return Variance(*(part.reshape(shape) for part in self._variance(time, moneyness)))

    def butterfly_density(self, years: ArrayLike, k: ArrayLike) -> Values:
        """g(k) of Gatheral & Jacquier (2014), equation 2.1: its sign is that of the implied density."""
        (time, moneyness), shape = broadcast({"years": years, "k": k})
        with np.errstate(all="ignore"):  # bad times and moneyness are NaN
            return butterfly(moneyness, self._variance(time, moneyness)).reshape(shape)

    def forward_at(self, years: ArrayLike) -> Values:
        """Forward price: the logarithm linear in time from the spot now; beyond the last, its growth goes on."""
        time = numbers("years", years)
        growth = self._linear_from_zero(time, np.log(self.forward / self.spot))
        with np.errstate(over="ignore"):  # growth that went on for centuries is infinite
            return np.asarray(self.spot * np.exp(growth))

    def rate_at(self, years: ArrayLike) -> Values:
        """Continuously compounded rate to that time: rate * years is linear between expirations."""
        time = numbers("years", years)
        with np.errstate(all="ignore"):  # zero years: NaN
            return self._linear_from_zero(time, self.rate * self.years) / time

    def inside(self, years: ArrayLike, strike: ArrayLike) -> NDArray[np.bool_]:
        """True where both expirations around the time are quoted at that moneyness."""
        (time, price), shape = broadcast({"years": years, "strike": strike})
        if self.years.size == 0:
            return np.zeros(shape, bool)
        with np.errstate(all="ignore"):  # a bad strike is not inside
            k = np.log(np.where(price > 0, price, np.nan) / self.forward_at(time))
        earlier, later, _ = self._around(time)
        # of an expiration itself only its own strikes count
        earlier = np.where(self.years[later] == time, later, earlier)
        later = np.where(self.years[earlier] == time, earlier, later)
        low = np.maximum(self.quoted.low[earlier], self.quoted.low[later])
        high = np.minimum(self.quoted.high[earlier], self.quoted.high[later])
        in_time = (time >= self.years[0]) & (time <= self.years[-1])
        within = (k >= low - _SAME_MONEYNESS) & (k <= high + _SAME_MONEYNESS)
        answer: NDArray[np.bool_] = (within & in_time).reshape(shape)
        return answer

    def skew(self, years: ArrayLike) -> Values:
        """d volatility / d k at the forward, per unit of log-moneyness: negative where puts are dearer."""
        time = numbers("years", years)
        variance = self.total_variance(time, 0.0)
        with np.errstate(all="ignore"):  # NaN stays NaN
            return variance.w_k / (2.0 * np.sqrt(variance.w * time))

    def term_structure(self) -> TermStructure:
        """Volatility at the forward of every expiration, and between them."""
        w = self.total_variance(self.years, 0.0).w
        with np.errstate(invalid="ignore"):  # a fall of total variance, which the certificate counts, has no volatility
            between = np.sqrt(np.diff(w, prepend=0.0) / np.diff(self.years, prepend=0.0))
        return TermStructure(self.years, np.sqrt(w / self.years), between)

    def strike_of_delta(self, years: ArrayLike, delta: ArrayLike) -> Values:
        """The strike whose forward delta is ``delta``: N(d1) for 0 < delta < 1, -N(-d1) for -1 < delta < 0.

        NaN for a delta outside of that. Forward delta is spot delta times e^(dividend_yield * years).
        """
        (time, wanted), shape = broadcast({"years": years, "delta": delta})
        with np.errstate(all="ignore"):  # a bad delta or time is NaN
            call = np.where(wanted > 0, wanted, 1.0 + wanted)
            d1 = ndtri(np.where((np.abs(wanted) < 1) & (wanted != 0), call, np.nan))
            k = self._moneyness_of(time, d1)
            return (self.forward_at(time) * np.exp(k)).reshape(shape)

    def risk_reversal(self, years: ArrayLike, delta: ArrayLike = 0.25) -> Values:
        """Volatility of the call of forward delta ``delta`` less that of the put of -delta."""
        call, put, _ = self._wings(years, delta)
        return call - put

    def butterfly(self, years: ArrayLike, delta: ArrayLike = 0.25) -> Values:
        """Mean volatility of the call and the put of that forward delta less the volatility at the forward."""
        call, put, middle = self._wings(years, delta)
        return (call + put) / 2.0 - middle

    def _wings(self, years: ArrayLike, delta: ArrayLike) -> tuple[Values, Values, Values]:
        (time, size), shape = broadcast({"years": years, "delta": delta})
        size = np.where((size > 0) & (size < 1), size, np.nan)
        call = self.volatility(time, self.strike_of_delta(time, size))
        put = self.volatility(time, self.strike_of_delta(time, -size))
        middle = self.volatility(time, self.forward_at(time))
        return call.reshape(shape), put.reshape(shape), middle.reshape(shape)

    def _moneyness_of(self, time: Values, d1: Values) -> Values:
        """k where d1(k) = -k / sqrt(w) + sqrt(w) / 2; it falls with k on a surface without butterfly arbitrage.

        (Fukasawa 2012, Mathematical Finance 22(4), 753.)
        """
        spread = _WIDEST_DEVIATIONS * np.sqrt(self._variance(time, np.zeros(time.shape)).w)
        low, high = -spread, spread
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            deviation = np.sqrt(self._variance(time, middle).w)
            above = -middle / deviation + deviation / 2.0 > d1
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        found = (low + high) / 2.0
        return np.where((np.abs(found) < 0.999 * spread) & np.isfinite(d1), found, np.nan)

    def _around(self, time: Values) -> tuple[NDArray[np.intp], NDArray[np.intp], Values]:
        """Rows of the expirations around each time, and the share of the later one."""
        last = self.years.size - 1
        later = np.clip(np.searchsorted(self.years, time, side="right"), min(1, last), last)
        earlier = np.maximum(later - 1, 0)
        gap = np.where(later > earlier, self.years[later] - self.years[earlier], 1.0)
        share = np.where(later > earlier, (time - self.years[earlier]) / gap, 0.0)
        return earlier, later, np.clip(share, 0.0, 1.0)

    def _variance(self, time: Values, k: Values) -> Variance:
        if self.years.size == 0:
            nowhere = np.full(time.shape, np.nan)
            return Variance(nowhere, nowhere, nowhere)
        usable = (time > 0) & np.isfinite(time)
        time = np.where(usable, time, self.years[0])
        earlier, later, share = self._around(time)
        outside = np.where(time < self.years[0], time / self.years[0], np.maximum(time / self.years[-1], 1.0))
        parts = (self._slice_variance(row, k) for row in (earlier, later))
        near, far = parts
        return Variance(
            *(
                np.where(usable, ((1.0 - share) * one + share * other) * outside, np.nan)
                for one, other in zip(near, far, strict=True)
            )
        )

    def _slice_variance(self, row: NDArray[np.intp], k: Values) -> Variance:
        rows = Slices(*(parameter[row] for parameter in self.slices))
        variance = total_variance(rows, k[:, None])
        return Variance(*(part[:, 0] for part in variance))

    def _linear_from_zero(self, time: Values, values: Values) -> Values:
        """Linear between (0, 0) and the expirations, the last slope going on; NaN without expirations or before now."""
        if self.years.size == 0:
            return np.full(time.shape, np.nan)
        time = np.where(np.isfinite(time), time, np.nan)
        knots, levels = np.concatenate([[0.0], self.years]), np.concatenate([[0.0], values])
        inside = np.interp(time, knots, levels)
        slope = (levels[-1] - levels[-2]) / (knots[-1] - knots[-2])
        beyond = levels[-1] + slope * (time - knots[-1])
        return np.where(time > knots[-1], beyond, np.where(time >= 0, inside, np.nan))
