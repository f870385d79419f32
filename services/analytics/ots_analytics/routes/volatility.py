"""Realised against implied volatility of an underlying, and where the implied one lies in its stored past."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics import implied_rank
from ots_analytics.chain_queries import AsOfQuery, SpotModel, UnderlyingPath
from ots_analytics.desk import Desk
from ots_analytics.histories import bars_per_year
from ots_analytics.implied_rank import ImpliedRank, StoredCloses
from ots_analytics.quality import bar_quality
from ots_analytics.realised_volatility import ESTIMATORS, Realised, over_session, over_sessions, read_daily
from ots_analytics.routes import activity_examples
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.volatility import constant_maturity
from ots_chains.chains import Moment, Spot, read_spot
from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel
from ots_common.times import NS_PER_S, rfc3339
from ots_market.instruments import find_instrument, unknown_symbol
from ots_market.prices import dollars
from ots_market.symbols import canonical_symbol
from ots_market.timeframes import Timeframe

_TAG = Tag(name="options", description="Implied volatility of stored option chains")
_MOST_WINDOWS, _LONGEST_WINDOW = 12, 1000
_CAVEAT = (
    "the implied variance is of the 30 days to come, the realised one of sessions that are over: their difference is"
    " what prices ask for above the past, no measure of what will be, and nothing that could be earned as it stands"
)
_UNITS = {
    "volatility": "decimals a year",
    "realised": "over daily bars of sessions, adjusted for splits and not for dividends; annual by the calendar's"
    " `bars_per_year`",
    "session": "over the minute bars of the session so far, without the jump over night; the first hour moves more than"
    " the middle of a day, and is made annual as if it did not",
    "implied": "at the forward, 30 calendar days ahead, American exercise, interpolated in total variance",
    "variance_premium": "implied volatility squared less realised volatility squared",
    "rank": "(current - lowest) / (highest - lowest), of the implied volatilities at the stored closes of sessions"
    " before and the current one; 0 to 1",
    "percentile": "share of the stored closes of sessions before that were below the current one; 0 to 1",
}
_EXAMPLE = {**activity_examples.VOLATILITY, "units": _UNITS}


class VolatilityQuery(AsOfQuery):
    """Which windows, and what is compared."""

    windows: str = Field(
        "10,20,60,120", max_length=100, description="Sessions of each window, 2 to 1000; twelve windows at most."
    )
    estimator: Literal["close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang"] = Field(
        "close_to_close", description="The realised volatility in `variance_premium`."
    )
    premium_window: int = Field(
        20, ge=2, le=_LONGEST_WINDOW, description="Its sessions: 20 are about 30 calendar days of an exchange."
    )
    history_sessions: int = Field(
        252,
        ge=implied_rank.LEAST_SESSIONS,
        le=1000,
        description="Stored closes, at most, that rank and percentile see.",
    )


class RealisedModel(BaseModel):
    """Estimates over the newest bars; what is null has its reason in ``reasons``, by name."""

    window: int = Field(description="bars that were asked for")
    bars: int = Field(description="bars that are in it")
    first_bar: str | None = Field(description="the start of its first bar, of a day midnight UTC")
    last_bar: str | None
    close_to_close: float | None
    parkinson: float | None
    garman_klass: float | None
    rogers_satchell: float | None
    yang_zhang: float | None
    reasons: dict[str, str]


class ImpliedModel(BaseModel):
    """Implied volatility in 30 days."""

    volatility: float | None
    days: int
    origin: str | None = Field(description="`chain`: priced for this answer; `snapshot`: as it was stored at `at`")
    at: str | None
    detail: str | None = Field(description="why the chain at `as_of` gives none, where it does not")
    reason: str | None = Field(description="why it is null")


class VariancePremiumModel(BaseModel):
    """Implied less realised variance."""

    implied_variance: float | None
    realised_variance: float | None
    difference: float | None
    estimator: str
    window: int
    caveat: str
    reason: str | None


class RankModel(BaseModel):
    """The implied volatility among those stored at closes of sessions before the moment's."""

    rank: float | None
    percentile: float | None
    lowest: float | None = Field(description="of the stored closes")
    highest: float | None
    sessions: int = Field(description="the size of the sample")
    sessions_missing: int | None = Field(description="sessions between the first and the moment's without a value")
    first: str | None = Field(description="the dates of the sample's first and last session")
    last: str | None
    reason: str | None


class VolatilityQualityModel(BaseModel):
    """What the answer rests on."""

    daily_bars: dict[str, Any] | None = Field(description="of all daily bars read; null: there is none")
    contracts: int | None = Field(description="live ones in the chain; null: there is no chain at the moment")
    with_volatility: int | None


class VolatilityModel(BaseModel):
    """Realised and implied volatility at a moment."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    underlying: str
    as_of: str = Field(description="the moment that is answered for")
    bars_until: str = Field(description="daily bars count that had closed by then: the time that was asked for")
    newest_input: str | None
    session: str
    source: str
    dataset: str = Field(description="of the bars")
    spot: SpotModel | None
    quality: VolatilityQualityModel
    units: dict[str, str]
    bars_per_year: float
    splits: list[dict[str, str]]
    realised: list[RealisedModel]
    session_so_far: RealisedModel
    implied: ImpliedModel
    variance_premium: VariancePremiumModel
    implied_rank: RankModel


@dataclass(frozen=True)
class _Implied:
    """What the chain, or else a snapshot, says; ``spot`` is the chain's."""

    volatility: float | None
    origin: str | None
    at_ns: int | None
    detail: str | None
    reason: str | None
    spot: Spot | None = None
    contracts: int | None = None
    with_volatility: int | None = None
    newest_ns: int = 0


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The route of realised against implied volatility."""
    api = APIBlueprint("volatility", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])
    max_age_ns = settings.snapshot_quote_age_s * NS_PER_S

    @api.get(
        "/options/<underlying>/volatility",
        summary="Realised and implied volatility, variance premium, rank and percentile",
        responses={200: VolatilityModel, 404: ProblemModel, 422: ProblemModel},
    )
    def volatility(path: UnderlyingPath, query: VolatilityQuery) -> Response:
        underlying = canonical_symbol(path.underlying)
        windows = _windows(query.windows)
        moment = desk.moment(query.as_of)
        # bars are those that had closed by the moment asked for: after a close its session's daily bar is there
        now = time.time_ns() // NS_PER_S * NS_PER_S
        as_of = min(query.as_of, now) if query.as_of is not None else now

        def made() -> Response:
            return Response(json.dumps(answer(underlying, query, windows, moment, as_of)), mimetype="application/json")

        return desk.answers.of(as_of, made, explicit=query.as_of is not None, tags=(underlying,))

    def answer(
        underlying: str, query: VolatilityQuery, windows: list[int], moment: Moment, as_of: int
    ) -> dict[str, Any]:
        instrument = find_instrument(database, underlying, source=settings.market_source)
        if instrument.is_option:
            raise unknown_symbol(database, "an underlying named " + underlying, None, source=settings.market_source)
        longest = max(*windows, query.premium_window)
        daily = read_daily(database, instrument, desk.sessions, as_of, longest + 1)
        realised = over_sessions(daily, desk.sessions, [*windows, query.premium_window])
        session = over_session(database, instrument, desk.sessions, moment, as_of)
        found = _implied(database, desk, underlying, moment)
        spot = found.spot or read_spot(database, desk.sessions, underlying, moment.at_ns, max_age_ns)
        closes = implied_rank.read_closes_before(database, underlying, moment, query.history_sessions)
        newest = [found.newest_ns, spot.at_ns if spot else 0, int(daily.stored.known_at[-1]) if daily else 0]
        return {
            "underlying": underlying,
            "as_of": rfc3339(moment.at_ns),
            "bars_until": rfc3339(as_of),
            "newest_input": rfc3339(max(newest)) if max(newest) else None,
            "session": moment.session.isoformat(),
            "source": settings.market_source,
            "dataset": instrument.dataset,
            "spot": {"price": dollars(spot.price), "time": rfc3339(spot.at_ns), "kind": spot.kind} if spot else None,
            "quality": {
                "daily_bars": bar_quality(daily.stored, Timeframe.D1, desk.sessions, as_of) if daily else None,
                "contracts": found.contracts,
                "with_volatility": found.with_volatility,
            },
            "units": _UNITS,
            "bars_per_year": bars_per_year(Timeframe.D1, desk.sessions),
            "splits": [split.stated() for split in daily.splits] if daily else [],
            "realised": [_realised(window, one) for window, one in zip(windows, realised[:-1], strict=True)],
            "session_so_far": _realised(session.bars, session),
            "implied": _stated(found),
            "variance_premium": _premium(found, realised[-1], query),
            "implied_rank": _rank(implied_rank.rank_of(found.volatility, closes), closes, desk, moment),
        }

    return api


def _windows(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or len(parts) > _MOST_WINDOWS:
        raise invalid("#/query/windows", f"name one to {_MOST_WINDOWS} windows, such as 10,20,60,120")
    if wrong := [p for p in parts if not (p.isascii() and p.isdigit() and 2 <= int(p[:5]) <= _LONGEST_WINDOW)]:
        raise invalid("#/query/windows", f"whole sessions from 2 to {_LONGEST_WINDOW}, not {', '.join(wrong)}")
    windows = [int(part) for part in parts]
    if len(set(windows)) < len(windows):
        raise invalid("#/query/windows", "the same window is asked for twice")
    return windows


def _implied(database: Database, desk: Desk, underlying: str, moment: Moment) -> _Implied:
    """Of the chain at the moment; else as it was stored last, in the moment's session or at the close before."""
    try:
        chain = desk.chain(underlying, moment)
    except Problem as problem:
        if problem.status != 404:
            raise
        return _stored(database, desk, underlying, moment, problem.detail.split(";")[0])
    if chain.surface is None:
        value, why = None, chain.quality["no_spot"] or chain.rate.detail
    else:
        value, why = constant_maturity(chain.surface, chain.rate)
    known = int(np.isfinite(chain.implied_volatility).sum())
    if value is not None:
        return _Implied(value, "chain", moment.at_ns, None, None, chain.spot, len(chain), known, chain.newest_ns)
    found = _stored(database, desk, underlying, moment, why or "the chain tells none")
    return _Implied(
        found.volatility, found.origin, found.at_ns, found.detail, found.reason, chain.spot, len(chain), known,
        chain.newest_ns,
    )  # fmt: skip


def _stored(database: Database, desk: Desk, underlying: str, moment: Moment, why: str) -> _Implied:
    found = implied_rank.read_newest_implied(database, underlying, moment.at_ns)
    if found is None:
        return _Implied(None, None, None, why, f"{why}; no snapshot is stored either")
    index = int(np.searchsorted(desk.sessions.dates, np.datetime64(moment.session, "D")))
    if found.session < desk.sessions.date_at(max(0, index - 1)):
        return _Implied(None, None, None, why, f"{why}; the newest snapshot is of {rfc3339(found.at_ns)}, too old")
    if found.volatility is None:
        reason = f"{why}; nor has the snapshot of {rfc3339(found.at_ns)}: {found.reason}"
        return _Implied(None, None, None, why, reason)
    return _Implied(found.volatility, "snapshot", found.at_ns, why, None, newest_ns=found.at_ns)


def _stated(found: _Implied) -> dict[str, Any]:
    return {
        "volatility": found.volatility,
        "days": 30,
        "origin": found.origin,
        "at": rfc3339(found.at_ns) if found.at_ns is not None else None,
        "detail": found.detail,
        "reason": found.reason,
    }


def _realised(window: int, one: Realised) -> dict[str, Any]:
    return {
        "window": window,
        "bars": one.bars,
        "first_bar": rfc3339(one.first_ns) if one.first_ns is not None else None,
        "last_bar": rfc3339(one.last_ns) if one.last_ns is not None else None,
        **{name: one.values[name] for name in ESTIMATORS},
        "reasons": one.reasons,
    }


def _premium(found: _Implied, realised: Realised, query: VolatilityQuery) -> dict[str, Any]:
    own = realised.values[query.estimator]
    implied_variance = found.volatility**2 if found.volatility is not None else None
    realised_variance = own**2 if own is not None else None
    missing = []
    if implied_variance is None:
        missing.append(f"implied: {found.reason}")
    if realised_variance is None:
        missing.append(f"realised: {realised.reasons[query.estimator]}")
    return {
        "implied_variance": implied_variance,
        "realised_variance": realised_variance,
        "difference": (
            implied_variance - realised_variance
            if implied_variance is not None and realised_variance is not None
            else None
        ),
        "estimator": query.estimator,
        "window": query.premium_window,
        "caveat": _CAVEAT,
        "reason": "; ".join(missing) or None,
    }


def _rank(found: ImpliedRank, closes: StoredCloses, desk: Desk, moment: Moment) -> dict[str, Any]:
    missing = None
    if len(closes):
        dates = desk.sessions.dates
        between = (dates >= closes.dates[0]) & (dates < np.datetime64(moment.session, "D"))
        missing = int(between.sum()) - len(closes)
    return {
        "rank": found.rank,
        "percentile": found.percentile,
        "lowest": found.lowest,
        "highest": found.highest,
        "sessions": len(closes),
        "sessions_missing": missing,
        "first": str(closes.dates[0]) if len(closes) else None,
        "last": str(closes.dates[-1]) if len(closes) else None,
        "reason": found.reason,
    }
