"""A dry run: what the strategies would decide now or would have decided then; nothing is recorded."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.times import Moment, rfc3339
from ots_market.symbols import Symbol
from ots_market.timeframes import MINUTE_NS, Timeframe
from ots_signals import cursors
from ots_signals.analytics_market import RefusedChain
from ots_signals.answers import EvaluatedModel, shape_record
from ots_signals.code_version import code_version
from ots_signals.deciding import Decider
from ots_signals.market_view import MarketView, NotYet
from ots_signals.settings import SignalsSettings
from ots_signals.strategies import Strategy, registered
from ots_signals.verdicts import HYPOTHETICAL

_TAG = Tag(name="evaluate", description="What would be decided, without recording it")


class EvaluateBody(RequestModel):
    """What is to be looked at."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"underlying": "AAPL", "minutes": 5}]})

    underlying: Symbol = Field(description="Such as AAPL.")
    as_of: Moment | None = Field(None, description="The moment, nothing later is looked at; default: now.")
    minutes: int = Field(5, ge=1, le=30, description="Minute bars before it, whose closes are decided about.")
    strategies: list[str] | None = Field(None, min_length=1, max_length=50, description="Their ids; default: all.")
    parameters: dict[str, float | int | bool] = Field(
        default_factory=dict, max_length=30, description="Other values than the defaults, of one strategy only."
    )


class EvaluationModel(BaseModel):
    """What would be decided. None of it is in the ledger."""

    source: str
    underlying: str
    as_of: str
    from_: str = Field(alias="from", description="closes of minute bars after it were decided about")
    session: str | None
    minutes: int = Field(description="closed minute bars that were there")
    strategies: list[str]
    decisions: list[EvaluatedModel]
    reason: str | None = Field(description="why there is none")
    statement: str = Field(description="17 CFR 4.41(b)")


def blueprint(settings: SignalsSettings, database: Database, view: MarketView) -> APIBlueprint:
    """The route of dry runs, in the market ``view``."""
    api = APIBlueprint("evaluate", __name__, url_prefix="/api/v1/signals", abp_tags=[_TAG])

    @api.post(
        "/evaluate",
        summary="What would be decided now, or at a moment: a dry run",
        responses={200: EvaluationModel, 404: ProblemModel, 422: ProblemModel, 503: ProblemModel},
    )
    def evaluate(body: EvaluateBody) -> Any:
        strategies = _strategies(body)
        if body.underlying not in cursors.stocks(database, [body.underlying]):
            raise Problem(
                404,
                "unknown-underlying",
                f"no bars of {body.underlying} are stored",
                hint='curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/data/instruments?limit=5"',
            )
        now = time.time_ns()
        closed = cursors.closed_until(database, now, settings.settle_s)
        at_ns = min(body.as_of if body.as_of is not None else closed, closed) // MINUTE_NS * MINUTE_NS
        from_ns = at_ns - body.minutes * MINUTE_NS
        decider = Decider(
            view,
            strategies,
            database,
            code_version=settings.code_version or code_version(),
            late_ns=int(settings.late_s * 1e9),
            now=lambda: now,
        )
        answer: dict[str, Any] = {
            "source": settings.market_source,
            "underlying": body.underlying,
            "as_of": rfc3339(at_ns),
            "from": rfc3339(from_ns),
            "session": None,
            "minutes": 0,
            "strategies": [one.id for one in strategies],
            "decisions": [],
            "reason": "the moment lies outside all sessions",
            "statement": HYPOTHETICAL,
        }
        session = decider.session_of(at_ns)
        if session is None:
            return answer
        day = view.sessions.date_at(session)
        known = view.bars(body.underlying, Timeframe.M1, day, 0, at_ns).known_at
        minutes = known[np.searchsorted(known, from_ns, side="right") :].tolist()
        try:
            found = [one for minute in minutes for one in decider.decide(body.underlying, session, minute)]
        except (NotYet, RefusedChain) as error:
            raise Problem(503, "no-chain", str(error), headers={"Retry-After": "2"}) from error
        reason = None if found else "no condition began in these minutes" if minutes else "no bar closed in that time"
        return answer | {
            "session": str(day),
            "minutes": len(minutes),
            "decisions": [shape_record(one) for one in found],
            "reason": reason,
        }

    return api


def _strategies(body: EvaluateBody) -> list[Strategy]:
    known = registered()
    names = list(known) if body.strategies is None else body.strategies
    for k, name in enumerate(names):
        if name not in known:
            raise invalid(f"#/body/strategies/{k}", f"there is {', '.join(known)}")
    if body.parameters and len(names) != 1:
        raise invalid("#/body/parameters", "they are of one strategy: name it in strategies")
    try:
        return [known[name].with_values(**body.parameters) for name in dict.fromkeys(names)]
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise invalid(f"#/body/parameters/{where}".rstrip("/"), first["msg"].removeprefix("Value error, ")) from error
