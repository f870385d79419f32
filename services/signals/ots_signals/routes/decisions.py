"""What was decided, in pages and one by one, and what became of it."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal
from uuid import UUID

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.database import Database
from ots_common.paging import decode_cursor, encode_cursor
from ots_common.problems import Problem
from ots_common.schemas import PageQuery, PlainText, ProblemModel, RequestModel
from ots_common.tables import next_url
from ots_common.times import Moment
from ots_signals import ledger
from ots_signals.answers import DecisionModel, OutcomeModel, shape_decision, shape_outcome
from ots_signals.decisions import Why
from ots_signals.ledger import Entry
from ots_signals.settings import SignalsSettings
from ots_signals.verdicts import HYPOTHETICAL

_TAG = Tag(name="signals", description="Candidates and abstentions as they were decided, and what became of them")


class DecisionsQuery(PageQuery):
    """A page of decisions, the newest row of the ledger first."""

    limit: int = Field(100, ge=1, le=1000, description="Decisions at most.")
    kind: Literal["signal", "abstention", "all"] = Field("signal", description="Which kind of decision.")
    strategy: PlainText | None = Field(None, max_length=64, description="Of one strategy, by its id.")
    underlying: PlainText | None = Field(None, max_length=16, description="Of one underlying, such as AAPL.")
    session: date | None = Field(None, description="Of one session.")
    mode: Literal["live", "replay"] | None = Field(None, description="Decided in time, or later.")
    why: Why | None = Field(None, description="Abstentions for that reason.")
    start: Moment | None = Field(None, description="Of events at or after it.")
    end: Moment | None = Field(None, description="Of events before it.")


class SignalPath(RequestModel):
    """A decision."""

    signal_id: UUID


class DecisionWithOutcomeModel(DecisionModel):
    """A decision and, of a signal, its outcome as it is known now."""

    outcome: OutcomeModel | None = Field(description="the newest revision; null: of an abstention, or not known yet")


class OneDecisionModel(DecisionWithOutcomeModel):
    """A decision with the text that was hashed."""

    body: str = Field(description="SHA-256 of previous_hash (32 bytes) and this text in UTF-8 is hash")
    statement: str = Field(description="17 CFR 4.41(b)")


class DecisionsModel(BaseModel):
    """Decisions, the newest first."""

    source: str
    signals: list[DecisionWithOutcomeModel]
    next: str | None
    statement: str = Field(description="17 CFR 4.41(b)")


class OutcomesModel(BaseModel):
    """All revisions of a signal's outcome, the newest first."""

    source: str
    signal_id: str
    underlying: str
    as_of: str | None = Field(description="event time up to which the newest revision looked")
    outcomes: list[OutcomeModel]
    reason: str | None = Field(description="why there is none yet")
    statement: str = Field(description="17 CFR 4.41(b)")


def blueprint(settings: SignalsSettings, database: Database) -> APIBlueprint:
    """The routes of decisions."""
    api = APIBlueprint("decisions", __name__, url_prefix="/api/v1/signals", abp_tags=[_TAG])

    @api.get("", summary="What was decided, the newest first", responses={200: DecisionsModel, 422: ProblemModel})
    def decisions(query: DecisionsQuery) -> Any:
        where, parameters = _condition(query)
        found = ledger.entries(database, where, parameters, order="seq DESC", limit=query.limit + 1)
        page = found[: query.limit]
        outcomes = _newest_outcomes(database, [entry.id for entry in page])
        following = next_url(encode_cursor([page[-1].seq])) if len(found) > query.limit else None
        return {
            "source": settings.market_source,
            "signals": [{**shape_decision(entry), "outcome": outcomes.get(entry.id)} for entry in page],
            "next": following,
            "statement": HYPOTHETICAL,
        }

    @api.get(
        "/<uuid:signal_id>",
        summary="One decision, with the text that was hashed",
        responses={200: OneDecisionModel, 404: ProblemModel, 422: ProblemModel},
    )
    def decision(path: SignalPath) -> Any:
        entry = _one(database, path.signal_id)
        body = database.rows("SELECT body FROM signal_ledger WHERE seq = %s", (entry.seq,))[0][0]
        outcome = _newest_outcomes(database, [entry.id]).get(entry.id)
        return {**shape_decision(entry), "outcome": outcome, "body": body, "statement": HYPOTHETICAL}

    @api.get(
        "/<uuid:signal_id>/outcome",
        summary="What became of a signal, all revisions",
        responses={200: OutcomesModel, 404: ProblemModel, 422: ProblemModel},
    )
    def outcome(path: SignalPath) -> Any:
        entry = _one(database, path.signal_id)
        if entry.kind != "signal":
            raise Problem(404, "no-outcome", f"{path.signal_id} is an abstention, of which nothing can become")
        found = ledger.entries(
            database,
            "kind = 'outcome' AND signal_id = %(id)s",
            {"id": entry.id},
            order="revision DESC",
            limit=1000,
        )
        shaped = [shape_outcome(one) for one in found]
        waiting = database.rows("SELECT error FROM signal_resolutions WHERE signal_id = %s", (entry.id,))
        reason = None if shaped else (waiting and waiting[0][0]) or "its barriers and its time are not over"
        return {
            "source": settings.market_source,
            "signal_id": entry.id,
            "underlying": getattr(entry.record, "underlying", ""),
            "as_of": shaped[0]["resolved_up_to"] if shaped else None,
            "outcomes": shaped,
            "reason": reason,
            "statement": HYPOTHETICAL,
        }

    return api


def _condition(query: DecisionsQuery) -> tuple[str, dict[str, Any]]:
    parts = ["kind <> 'outcome'"]
    parameters: dict[str, Any] = {}
    if query.kind != "all":
        parts.append("kind = %(kind)s")
        parameters["kind"] = query.kind
    for column in ("strategy", "underlying", "mode", "why"):
        if (value := getattr(query, column)) is not None:
            parts.append(f"{column} = %({column})s")
            parameters[column] = value
    if query.session is not None:
        parts.append("session = %(session)s")
        parameters["session"] = query.session.isoformat()
    if query.start is not None:
        parts.append("event_ns >= %(start)s")
        parameters["start"] = query.start
    if query.end is not None:
        parts.append("event_ns < %(end)s")
        parameters["end"] = query.end
    if query.cursor:
        parts.append("seq < %(before)s")
        parameters["before"] = decode_cursor(query.cursor, (int,))[0]
    return " AND ".join(parts), parameters


def _one(database: Database, signal_id: UUID) -> Entry:
    found = ledger.entries(database, "id = %(id)s AND kind <> 'outcome'", {"id": str(signal_id)}, limit=1)
    if not found:
        raise Problem(
            404,
            "unknown-signal",
            f"there is no decision {signal_id}",
            hint='curl -H "Authorization: Bearer $TOKEN" "http://localhost:8000/api/v1/signals?kind=all&limit=5"',
        )
    return found[0]


def _newest_outcomes(database: Database, ids: list[str]) -> dict[str, dict[str, Any]]:
    found = ledger.entries(
        database, "kind = 'outcome' AND signal_id = ANY(%(ids)s)", {"ids": ids}, order="revision", limit=100_000
    )
    return {entry.record.signal_id: shape_outcome(entry) for entry in found if hasattr(entry.record, "signal_id")}
