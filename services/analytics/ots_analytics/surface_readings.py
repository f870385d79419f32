"""What is read off a fitted surface: its slices and certificate, a grid, skew, term structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ots_analytics.chain_expirations import Columns, Expirations, expirations_of, known, why_unpriced
from ots_analytics.volatility import delta_volatilities
from ots_quant.surface.certificate import Certificate, Violations
from ots_quant.surface.model import Surface
from ots_quant.surface.quotes import LeftOut

if TYPE_CHECKING:
    from ots_chains.priced_chains import PricedChain

SKEW_DELTAS = (25, 10)
_BEFORE, _AFTER = (
    "before the first expiration: its volatility goes on",
    "after the last expiration: its volatility goes on",
)
_BEYOND = "beyond the quoted strikes: the fitted wing goes on"

Values = NDArray[np.float64]


def why_no_surface(chain: PricedChain) -> str | None:
    """None where there is at least one slice."""
    if chain.surface is not None and chain.surface.years.size:
        return None
    return why_unpriced(chain) or "no expiration tells its volatility"


def slice_columns(chain: PricedChain) -> Columns:
    """A row an expiration: its forward, its SVI slice, how well that fits, and where it is quoted."""
    rows = expirations_of(chain)
    surface = chain.surface
    columns = _heading(rows)
    columns |= {
        "forward_low": rows.forward_low,
        "forward_high": rows.forward_high,
        "rate": rows.rate,
        "dividend_yield": rows.dividend_yield,
    }
    parameters = surface.slices if surface is not None else ()
    at_the_money = delta_volatilities(surface, ())[1][:, 0] if surface is not None else np.empty(0)
    columns["at_the_money"] = rows.of_slices(at_the_money)
    for name, values in zip(("a", "b", "rho", "m", "sigma"), parameters or [np.empty(0)] * 5, strict=True):
        columns[f"svi_{name}"] = rows.of_slices(values)
    ends = (surface.quoted.low, surface.quoted.high) if surface is not None else (np.empty(0),) * 2
    for name, end in zip(("strike_low", "strike_high"), ends, strict=True):
        columns[name] = rows.forward * np.exp(rows.of_slices(end))
    columns |= _fit_of_each(chain, rows)
    columns["reason"] = [
        why or _beyond([] if middle else ["at the money"])
        for why, middle in zip(rows.reason, np.isfinite(columns["at_the_money"]), strict=True)
    ]
    return columns


def _heading(rows: Expirations) -> Columns:
    return {
        "expiration": rows.date,
        "days_to_expiration": rows.days,
        "years": rows.years,
        "shape": rows.shape,
        "forward": rows.forward,
    }


def _fit_of_each(chain: PricedChain, rows: Expirations) -> Columns:
    """Contracts that were fitted, those that were not, and how far the fit is from the fitted ones' own volatility."""
    of_contract = np.searchsorted(rows.date, chain.expiration)
    used = _fitted(chain)
    count = np.bincount(of_contract, used, len(rows)).astype(np.int64)
    model = chain.surface.volatility(chain.years, chain.strike) if chain.surface is not None else np.nan
    square = np.where(used, (model - chain.implied_volatility) ** 2, 0.0)
    with np.errstate(invalid="ignore"):  # none fitted: NaN
        rms = np.sqrt(np.bincount(of_contract, square, len(rows)) / count)
    return {
        "contracts_used": count,
        "contracts_left_out": np.bincount(of_contract, minlength=len(rows)) - count,
        "rms_volatility": rms,
    }


def _fitted(chain: PricedChain) -> NDArray[np.bool_]:
    if chain.surface is None:
        return np.zeros(len(chain), np.bool_)
    fitted: NDArray[np.bool_] = chain.surface.left_out == LeftOut.USED
    return fitted


def certificate_of(surface: Surface) -> dict[str, Any]:
    """All that the surface's certificate counts, kinds of arbitrage first; None where there is no number."""
    found: Certificate = surface.certificate
    left_out = {LeftOut(code).name.lower(): int(count) for code, count in enumerate(found.contracts_left_out) if count}
    return {
        "arbitrage_free_inside": found.arbitrage_free_inside,
        "butterfly": _both(found.butterfly_inside, found.butterfly_outside),
        "calendar": _both(found.calendar_inside, found.calendar_outside),
        "between": _both(found.between_inside, found.between_outside),
        "rms_volatility": known(found.rms_volatility),
        "max_volatility": known(found.max_volatility),
        "rms_half_spreads": known(found.rms_half_spreads),
        "share_within_spread": known(found.share_within_spread),
        "contracts_used": found.contracts_used,
        "contracts_left_out": left_out,
    }


def _both(inside: Violations, outside: Violations) -> dict[str, Any]:
    return {
        name: {"failing": part.failing, "points": part.points, "worst": known(part.worst)}
        for name, part in (("inside", inside), ("outside", outside))
    }


def grid_columns(chain: PricedChain, moneyness: Values, days: Values) -> Columns:
    """A row a point, days first; ``moneyness``: strike over the forward of that time, ``days`` from the moment."""
    day, share = (grid.reshape(-1) for grid in np.meshgrid(days, moneyness, indexing="ij"))
    time = day / 365
    surface = chain.surface
    if surface is None or not surface.years.size:
        nothing = np.full(time.shape, np.nan)
        forward = variance = volatility = nothing
        inside = np.zeros(time.shape, np.bool_)
        reason: list[str | None] = [why_no_surface(chain)] * time.size
    else:
        forward = surface.forward_at(time)
        variance = surface.total_variance(time, np.log(share)).w
        volatility = np.sqrt(variance / time)
        inside = surface.inside(time, forward * share)
        outside = np.select([inside, time < surface.years[0], time > surface.years[-1]], [0, 1, 2], 3)
        reason = [(None, _BEFORE, _AFTER, _BEYOND)[which] for which in outside]
    return {
        "days": day,
        "moneyness": share,
        "forward": forward,
        "strike": forward * share,
        "volatility": volatility,
        "total_variance": variance,
        "inside": inside,
        "reason": reason,
    }


def skew_columns(chain: PricedChain) -> Columns:
    """A row an expiration: volatility at the forward, its slope there, and at 25 and 10 delta on either side."""
    rows = expirations_of(chain)
    surface = chain.surface
    deltas = [side * size / 100 for size in SKEW_DELTAS for side in (1, -1)]
    names = [f"{right}_{size}_delta" for size in SKEW_DELTAS for right in ("call", "put")]
    nothing = np.empty((0, 1 + len(deltas)))
    strikes, volatilities = delta_volatilities(surface, deltas) if surface is not None else (nothing, nothing)
    strike, volatility = rows.of_slices(strikes), rows.of_slices(volatilities)
    slope = rows.of_slices(surface.skew(surface.years) if surface is not None else np.empty(0))
    columns = _heading(rows)
    middle = volatility[:, 0]
    columns |= {"at_the_money": middle, "slope": np.where(np.isfinite(middle), slope, np.nan)}
    for size in SKEW_DELTAS:
        call, put = (1 + names.index(f"{right}_{size}_delta") for right in ("call", "put"))
        columns |= {
            f"risk_reversal_{size}_delta": volatility[:, call] - volatility[:, put],
            f"butterfly_{size}_delta": (volatility[:, call] + volatility[:, put]) / 2 - middle,
            f"call_{size}_delta": volatility[:, call],
            f"call_{size}_delta_strike": strike[:, call],
            f"put_{size}_delta": volatility[:, put],
            f"put_{size}_delta_strike": strike[:, put],
        }
    said = ["at the money", *(name.replace("_", " ") for name in names)]
    columns["reason"] = [
        why or _beyond([name for name, value in zip(said, row, strict=True) if not np.isfinite(value)])
        for why, row in zip(rows.reason, volatility, strict=True)
    ]
    return columns


def _beyond(names: Sequence[str]) -> str | None:
    return f"beyond the quoted strikes: {', '.join(names)}" if names else None


def term_structure_columns(chain: PricedChain) -> Columns:
    """A row an expiration: volatility at the forward, and between the expiration before and this one."""
    rows = expirations_of(chain)
    surface = chain.surface
    if surface is None:
        at_the_money = variance = between = np.empty(0)
    else:
        at_the_money = delta_volatilities(surface, ())[1][:, 0]
        variance = np.where(np.isfinite(at_the_money), at_the_money**2 * surface.years, np.nan)
        before = np.concatenate([[0.0], variance[:-1]])
        between = np.where(np.isfinite(variance + before), surface.term_structure().forward_volatility, np.nan)
    columns = _heading(rows)
    dates = rows.date[rows.has_slice]
    since = np.concatenate([np.array(["NaT"], "datetime64[D]"), dates])[np.maximum(rows.slice_row, 0)]
    columns |= {
        "at_the_money": rows.of_slices(at_the_money),
        "total_variance": rows.of_slices(variance),
        "from_expiration": np.where(rows.has_slice, since, np.datetime64("NaT", "D")),
        "forward_volatility": rows.of_slices(between),
    }
    columns["reason"] = [
        why or _why_no_term(*values)
        for why, *values in zip(
            rows.reason, rows.of_slices(at_the_money), rows.of_slices(_previous(variance)), rows.of_slices(between),
            strict=True,
        )
    ]  # fmt: skip
    return columns


def _previous(variance: Values) -> Values:
    return np.concatenate([[0.0], variance[:-1]]) if variance.size else variance


def _why_no_term(at_the_money: float, before: float, between: float) -> str | None:
    if not np.isfinite(at_the_money):
        return "the forward lies beyond the quoted strikes"
    if not np.isfinite(before):
        return "forward_volatility: the forward of the expiration before lies beyond its quoted strikes"
    return None if np.isfinite(between) else "forward_volatility: total variance falls from the expiration before"


def constant_maturities(chain: PricedChain, days: Sequence[float]) -> list[dict[str, Any]]:
    """Volatility at the forward so many days on, total variance linear in time between the expirations around it."""
    found = grid_columns(chain, np.ones(1), np.array(days, np.float64))
    return [
        {"days": float(one), "at_the_money": known(volatility) if inside else None, "reason": reason}
        for one, volatility, inside, reason in zip(
            days, found["volatility"], found["inside"], found["reason"], strict=True
        )
    ]
