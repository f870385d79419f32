"""Interest rate curves: stated with date and source, answered as of any moment."""

from __future__ import annotations

import math
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import PlainText, ProblemModel, RequestModel
from ots_common.service import caller
from ots_common.times import Moment, rfc3339, to_datetime
from ots_ingestion.rates import MAX_DAYS, Point, state_curve, tenor_days
from ots_ingestion.settings import IngestionSettings
from ots_market.rates import DAYS_A_YEAR, RateCurve, curve_known_at, read_curve

_TAG = Tag(name="rates", description="Interest rate curves")
_HINT = (
    'curl -X POST -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" '
    '-d \'{"source":"US Treasury par yields","date":"2015-12-23",'
    '"curve":[{"tenor":"1M","rate":0.0018,"compounding":"semiannual"}]}\' '
    '"http://localhost:8000/api/v1/data/rates"'
)
_POINT = ("days", "rate", "compounding", "zero_rate", "discount_factor")
Compounding = Literal["continuous", "annual", "semiannual", "simple", "simple-360"]


class PointBody(RequestModel):
    """A rate over ``days`` calendar days, or over a ``tenor`` (1D, 2W, 3M, 10Y) from the curve's date."""

    days: int | None = Field(None, ge=1, le=MAX_DAYS)
    tenor: str | None = Field(None, max_length=4)
    rate: float = Field(ge=-0.05, le=0.5, allow_inf_nan=False, description="A decimal a year: 0.0525 is 5.25 %.")
    compounding: Compounding = "continuous"

    @model_validator(mode="after")
    def _one_length(self) -> PointBody:
        if (self.days is None) == (self.tenor is None):
            raise ValueError("a point has days or a tenor, one of the two")
        return self


class CurveBody(RequestModel):
    """A curve. The same date and source again is a revision: it is added, and what was said before stays."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "source": "an assumption of mine",
                    "date": "2024-01-02",
                    "curve": [{"tenor": "1M", "rate": 0.05}, {"tenor": "1Y", "rate": 0.045}],
                }
            ]
        }
    )

    source: PlainText = Field(min_length=1, max_length=200)
    date: date
    known_at: Moment | None = Field(
        None,
        description="From when on it was public. Default: the end of its date in New York, or now if that is earlier;"
        " for a revision now.",
    )
    curve: list[PointBody] = Field(min_length=1, max_length=200)


class RatesQuery(RequestModel):
    """Which curve, and for which length."""

    as_of: Moment | None = Field(None, description="The curve that was known then; default now.")
    source: PlainText | None = Field(None, max_length=200)
    days: float | None = Field(None, gt=0, le=MAX_DAYS, description="Interpolate for so many calendar days.")
    max_age_days: int = Field(10, ge=0, le=3660, description="An older curve is no answer.")


class PointModel(BaseModel):
    """A stated rate, and what it means: the continuously compounded zero rate and the discount factor."""

    days: int
    rate: float
    compounding: Compounding
    zero_rate: float
    discount_factor: float


class InterpolatedModel(BaseModel):
    """The rate of the length that was asked for."""

    days: float
    zero_rate: float
    discount_factor: float
    extrapolated: bool = Field(description="longer than the longest stated: the last zero rate is held")


class RatesModel(BaseModel):
    """The newest curve that was known at ``as_of``."""

    source: str = Field(description="the market source of this installation")
    curve_source: str
    date: str
    known_at: str
    stated_by: str
    stated_at: str
    as_of: str
    curve: list[PointModel]
    interpolated: InterpolatedModel | None


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The routes of interest rates."""
    api = APIBlueprint("rates", __name__, url_prefix="/api/v1/data", abp_tags=[_TAG])

    @api.post("/rates", summary="State an interest rate curve", responses={201: RatesModel, 422: ProblemModel})
    def state(body: CurveBody) -> Response:
        points = _points(body)
        with database.connection() as connection, connection.cursor() as cursor:
            curve_id = state_curve(
                cursor,
                curve_date=body.date,
                source=body.source,
                points=points,
                known_at=_known_at(body),
                stated_by=caller().username,
            )
        answer = _shape(read_curve(database, curve_id), settings.market_source, time.time_ns(), None)
        return Response(json.dumps(answer), 201, mimetype="application/json")

    @api.get("/rates", summary="The rate curve known at a moment", responses={200: RatesModel, 404: ProblemModel})
    def read(query: RatesQuery) -> Response:
        as_of = min(query.as_of if query.as_of is not None else time.time_ns(), time.time_ns())
        found = curve_known_at(database, as_of, source=query.source, max_age_days=query.max_age_days)
        if found.curve is None:
            raise Problem(404, "no-rates", found.reason or "", hint=_HINT)
        body = _shape(found.curve, settings.market_source, as_of, query.days)
        return Response(json.dumps(body), mimetype="application/json")

    return api


def _points(body: CurveBody) -> list[Point]:
    """The points in order of length; each length once."""
    found: dict[int, Point] = {}
    for i, point in enumerate(body.curve):
        try:
            days = point.days if point.days is not None else tenor_days(point.tenor or "", body.date)
        except ValueError as error:
            raise invalid(f"#/body/curve/{i}/tenor", str(error)) from error
        if days in found:
            raise invalid(f"#/body/curve/{i}", f"a second rate for {days} days")
        found[days] = Point(days, point.rate, point.compounding)
    return [found[days] for days in sorted(found)]


def _known_at(body: CurveBody) -> datetime | None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    if not date(1970, 1, 1) <= body.date <= tomorrow:
        raise invalid("#/body/date", "a curve is of a date from 1970 to today")
    if body.known_at is None:
        return None
    known_at = to_datetime(body.known_at)
    if known_at > datetime.now(UTC):
        raise invalid("#/body/known_at", "it cannot have become known in the future")
    if known_at.date() < body.date:
        raise invalid("#/body/known_at", "it cannot have been known before its date")
    return known_at


def _shape(curve: RateCurve, source: str, as_of_ns: int, days: float | None) -> dict[str, Any]:
    zero_rates = curve.zero_rates(curve.days).tolist()
    stated = zip(
        curve.days.tolist(), curve.rates.tolist(), curve.compoundings, zero_rates,
        np.exp(curve.log_discounts).tolist(), strict=True,
    )  # fmt: skip
    return {
        "source": source,
        "curve_source": curve.source,
        "date": curve.curve_date.isoformat(),
        "known_at": rfc3339(curve.known_at_ns),
        "stated_by": curve.stated_by,
        "stated_at": rfc3339(curve.stated_at_ns),
        "as_of": rfc3339(as_of_ns),
        "curve": [dict(zip(_POINT, point, strict=True)) for point in stated],
        "interpolated": None if days is None else _interpolated(curve, days),
    }


def _interpolated(curve: RateCurve, days: float) -> dict[str, Any]:
    zero_rate = float(curve.zero_rates(days))
    return {
        "days": days,
        "zero_rate": zero_rate,
        "discount_factor": math.exp(-zero_rate * days / DAYS_A_YEAR),
        "extrapolated": days > int(curve.days[-1]),
    }
