"""Contracts whose volume up to the moment is unusual."""

from __future__ import annotations

from typing import Any

import numpy as np
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ots_analytics.chain_answers import chain_answer
from ots_analytics.chain_expirations import known
from ots_analytics.chain_queries import ChainHeadingModel, UnderlyingPath, chain_heading
from ots_analytics.desk import Desk
from ots_analytics.routes import activity_examples
from ots_analytics.settings import AnalyticsSettings
from ots_analytics.table_queries import TableQuery
from ots_analytics.unusual_volume import Thresholds, Unusual, UsualVolume, find_unusual, usual_volume
from ots_analytics.volume_history import Sides, VolumesByTimeOfDay, read_sides, read_volumes_by_time_of_day
from ots_chains.priced_chains import PricedChain
from ots_common.database import Database
from ots_common.problems import invalid
from ots_common.schemas import ProblemModel, TableRow
from ots_common.tables import Times, Whole, columns_response, parse_fields
from ots_common.times import rfc3339
from ots_market.timeframes import MINUTE_NS

_TAG = Tag(name="activity", description="Unusual volume of options")
_UNITS = {
    "volume": "contracts traded from the session's open to `window.until`, by minute bars",
    "volume_to_open_interest": "volume over open interest; an open interest of 0 counts as 1",
    "history": "contracts traded in sessions before, from their open and for as long; `history_sessions` is the sample",
    "ratio_to_history": "volume over history_mean; a mean below 1 counts as 1",
    "share_below": "of the history's sessions, in how many less was traded by this time; 0 to 1",
    "times_threshold": "the larger of the two ratios in units of its threshold: the order of the answer",
    "at_ask, at_bid, between": "contracts traded at the ask or above, at the bid or below, and between, by the"
    " consolidated quote before each trade; who opened or closed a position is not known",
    "side_unknown": "contracts traded whose quote is not stored, locked, crossed or one-sided",
    "last, mid": "dollars",
    "implied_volatility": "a decimal a year, American exercise, of the middle",
    "delta": "dollars of the option per dollar of the underlying",
}
_NO_SIDE = "no trade of it is stored with the quote before it (tcbbo)"
_COLUMNS = (
    "symbol", "expiration", "days_to_expiration", "strike", "right", "volume", "open_interest",
    "open_interest_date", "volume_to_open_interest", "history_sessions", "history_mean", "history_median",
    "history_highest", "ratio_to_history", "share_below", "times_threshold", "unusual_by", "at_ask", "at_bid",
    "between", "side_unknown", "last", "last_time", "mid", "implied_volatility", "delta", "reasons",
)  # fmt: skip
_EXAMPLE = {**activity_examples.UNUSUAL, "units": _UNITS}


class UnusualQuery(TableQuery):
    """What counts as unusual."""

    min_volume: int = Field(50, ge=1, le=10_000_000, description="Contracts; fewer are never unusual.")
    min_volume_to_open_interest: float = Field(
        1.0, gt=0, le=1e6, description="Unusual from this many times the open interest on."
    )
    min_ratio_to_history: float = Field(3.0, gt=0, le=1e6, description="Unusual from this many times the mean on.")
    sessions: int = Field(20, ge=1, le=60, description="Sessions before, at most, that make the history.")
    min_sessions: int = Field(5, ge=1, le=60, description="With fewer in its history a contract is not compared.")
    limit: int = Field(50, ge=1, le=1000, description="Contracts at most, the most unusual first.")


class VolumeWindowModel(BaseModel):
    """What was counted."""

    since: str
    until: str = Field(description="the last whole minute by the moment")
    minutes: int


class HistoryModel(BaseModel):
    """The sessions that it is compared with."""

    sessions: int
    first: str | None
    last: str | None
    left_out: dict[str, int] = Field(
        description="sessions that cannot be compared: `shorter_session` (it did not last as long), `nothing_stored`,"
        " `open_gap` (trades may be missing), `first_stored` (nothing before it is stored: it may have begun midway)"
    )


class UnderlyingVolumeModel(BaseModel):
    """All contracts together."""

    volume: int
    history_sessions: int
    history_mean: float | None
    history_median: float | None
    history_highest: float | None
    ratio_to_history: float | None
    share_below: float | None
    reason: str | None


class CountedModel(BaseModel):
    """How many contracts were looked at, and how many were found."""

    contracts: int = Field(description="live ones")
    traded: int
    with_min_volume: int
    without_open_interest: int = Field(description="of those with the volume: not compared with it")
    with_too_little_history: int = Field(description="of those with the volume: not compared with their past")
    by_open_interest: int
    by_history: int
    by_both: int
    unusual: int


class UnusualContractModel(TableRow):
    """A contract; what is null has its reason in ``reasons``, by the field's name. With `fields` only those."""

    symbol: str
    expiration: str
    days_to_expiration: int
    strike: float
    right: str = Field(description="`C` or `P`")
    volume: int
    open_interest: int | None
    open_interest_date: str | None
    volume_to_open_interest: float | None
    history_sessions: int
    history_mean: float | None
    history_median: float | None
    history_highest: float | None
    ratio_to_history: float | None
    share_below: float | None
    times_threshold: float
    unusual_by: str = Field(description="`open_interest`, `history` or `both`")
    at_ask: int | None
    at_bid: int | None
    between: int | None
    side_unknown: int
    last: float | None = Field(description="of this session")
    last_time: str | None
    mid: float | None
    implied_volatility: float | None
    delta: float | None
    reasons: dict[str, str]


class UnusualModel(ChainHeadingModel):
    """The most unusual contracts first."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    units: dict[str, str]
    thresholds: dict[str, float]
    window: VolumeWindowModel
    history: HistoryModel
    gaps: int = Field(description="open gaps in the trades of the window: then volumes may be too low")
    all_contracts: UnderlyingVolumeModel
    counted: CountedModel
    contracts: list[UnusualContractModel]
    next: str | None


def blueprint(settings: AnalyticsSettings, database: Database, desk: Desk) -> APIBlueprint:
    """The route of unusual volume."""
    api = APIBlueprint("unusual", __name__, url_prefix="/api/v1/analytics", abp_tags=[_TAG])

    @api.get(
        "/options/<underlying>/unusual",
        summary="Contracts with unusual volume",
        responses={200: UnusualModel, 404: ProblemModel, 422: ProblemModel},
    )
    def unusual(path: UnderlyingPath, query: UnusualQuery) -> Response:
        fields = parse_fields(query.fields, _COLUMNS)
        if query.min_sessions > query.sessions:
            raise invalid("#/query/min_sessions", f"more than the {query.sessions} sessions of the history")
        return chain_answer(desk, path, query, lambda chain: _answer(database, desk, settings, chain, query, fields))

    return api


def _answer(
    database: Database,
    desk: Desk,
    settings: AnalyticsSettings,
    chain: PricedChain,
    query: UnusualQuery,
    fields: list[str] | None,
) -> Response:
    thresholds = Thresholds(
        query.min_volume, query.min_volume_to_open_interest, query.min_ratio_to_history, query.min_sessions
    )
    volumes = read_volumes_by_time_of_day(
        database, desk.sessions, chain.underlying, chain.moment, chain.instrument_id, query.sessions
    )
    usual = usual_volume(volumes.today, volumes.before)
    found = find_unusual(volumes.today, chain.open_interest, usual, thresholds)
    ranked = found.ranked()
    shown = ranked[: query.limit]
    sides = read_sides(database, chain.moment, chain.instrument_id[shown], volumes.until_ns)
    about = {
        **chain_heading(chain, settings),
        "units": _UNITS,
        "thresholds": {
            name: getattr(query, name)
            for name in ("min_volume", "min_volume_to_open_interest", "min_ratio_to_history", "min_sessions")
        },
        "window": {
            "since": rfc3339(chain.moment.opens_ns),
            "until": rfc3339(volumes.until_ns),
            "minutes": (volumes.until_ns - chain.moment.opens_ns) // MINUTE_NS,
        },
        "history": {
            "sessions": len(volumes.dates),
            "first": str(volumes.dates[-1]) if len(volumes.dates) else None,
            "last": str(volumes.dates[0]) if len(volumes.dates) else None,
            "left_out": volumes.left_out,
        },
        "gaps": volumes.gaps_today,
        "all_contracts": _all_contracts(volumes, thresholds),
        "counted": _counted(chain, volumes, usual, found, thresholds, len(ranked)),
    }
    columns = _columns(chain, volumes, usual, found, thresholds, sides, shown)
    return columns_response("contracts", columns, about, fields=fields)


def _all_contracts(volumes: VolumesByTimeOfDay, thresholds: Thresholds) -> dict[str, Any]:
    """The same comparison of all contracts together, those included that have expired since."""
    today = np.array([volumes.today_all])
    usual = usual_volume(today, volumes.all_before[:, None])
    found = find_unusual(today, np.array([-1]), usual, thresholds)
    few = usual.sessions[0] < thresholds.sessions
    return {
        "volume": volumes.today_all,
        "history_sessions": int(usual.sessions[0]),
        "history_mean": known(usual.mean[0]),
        "history_median": known(usual.median[0]),
        "history_highest": known(usual.highest[0]),
        "ratio_to_history": known(found.to_history[0]),
        "share_below": None if few else known(usual.share_below[0]),
        "reason": _too_few(int(usual.sessions[0]), thresholds) if few else None,
    }


def _counted(
    chain: PricedChain,
    volumes: VolumesByTimeOfDay,
    usual: UsualVolume,
    found: Unusual,
    thresholds: Thresholds,
    unusual: int,
) -> dict[str, int]:
    enough = volumes.today >= thresholds.volume
    return {
        "contracts": len(chain),
        "traded": int((volumes.today > 0).sum()),
        "with_min_volume": int(enough.sum()),
        "without_open_interest": int((enough & (chain.open_interest < 0)).sum()),
        "with_too_little_history": int((enough & (usual.sessions < thresholds.sessions)).sum()),
        "by_open_interest": int((found.by_open_interest & ~found.by_history).sum()),
        "by_history": int((found.by_history & ~found.by_open_interest).sum()),
        "by_both": int((found.by_history & found.by_open_interest).sum()),
        "unusual": unusual,
    }


def _columns(
    chain: PricedChain,
    volumes: VolumesByTimeOfDay,
    usual: UsualVolume,
    found: Unusual,
    thresholds: Thresholds,
    sides: Sides,
    shown: NDArray[np.intp],
) -> dict[str, Any]:
    volume = volumes.today[shown]
    told = sides.at_ask + sides.at_bid + sides.between
    no_side = told == 0
    by_history, by_interest = found.by_history[shown], found.by_open_interest[shown]
    few = usual.sessions[shown] < thresholds.sessions
    return {
        "symbol": chain.symbol[shown],
        "expiration": chain.expiration[shown],
        "days_to_expiration": (chain.expiration[shown] - np.datetime64(chain.moment.session, "D")).astype(np.int64),
        "strike": chain.strike[shown],
        "right": np.where(chain.right[shown] > 0, "C", "P"),
        "volume": volume,
        "open_interest": Whole(chain.open_interest[shown], chain.open_interest[shown] < 0),
        "open_interest_date": chain.open_interest_date[shown],
        "volume_to_open_interest": found.to_open_interest[shown],
        "history_sessions": usual.sessions[shown],
        "history_mean": usual.mean[shown],
        "history_median": usual.median[shown],
        "history_highest": usual.highest[shown],
        "ratio_to_history": found.to_history[shown],
        "share_below": np.where(few, np.nan, usual.share_below[shown]),
        "times_threshold": found.times_threshold[shown],
        "unusual_by": np.where(by_history & by_interest, "both", np.where(by_history, "history", "open_interest")),
        "at_ask": Whole(sides.at_ask, no_side),
        "at_bid": Whole(sides.at_bid, no_side),
        "between": Whole(sides.between, no_side),
        "side_unknown": np.maximum(volume - told, 0),
        "last": chain.last[shown],
        "last_time": Times(chain.last_at[shown]),
        "mid": chain.mid[shown],
        "implied_volatility": chain.implied_volatility[shown],
        "delta": chain.greeks.delta[shown],
        "reasons": [
            _reasons(chain, int(i), int(usual.sessions[i]), bool(none), thresholds)
            for i, none in zip(shown, no_side, strict=True)
        ],
    }


def _reasons(chain: PricedChain, i: int, sessions: int, no_side: bool, thresholds: Thresholds) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if chain.open_interest[i] < 0:
        why = "none of the days before is stored"
        reasons |= dict.fromkeys(("open_interest", "open_interest_date", "volume_to_open_interest"), why)
    if sessions < thresholds.sessions:
        names = ["ratio_to_history", "share_below"]
        names += [] if sessions else ["history_mean", "history_median", "history_highest"]
        reasons |= dict.fromkeys(names, _too_few(sessions, thresholds))
    if no_side:
        reasons |= dict.fromkeys(("at_ask", "at_bid", "between"), _NO_SIDE)
    if np.isnan(chain.mid[i]):
        reasons["mid"] = str(chain.reason[i])
    if np.isnan(chain.implied_volatility[i]):
        reasons |= dict.fromkeys(("implied_volatility", "delta"), str(chain.reason[i]))
    return reasons


def _too_few(sessions: int, thresholds: Thresholds) -> str:
    return f"{sessions} sessions before can be compared; {thresholds.sessions} are the fewest"
