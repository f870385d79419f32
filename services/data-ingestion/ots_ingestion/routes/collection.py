"""Starting, stopping and watching live collection. The collector does the work, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, json
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from ots_common.database import Database
from ots_common.problems import Problem, invalid
from ots_common.schemas import ProblemModel, RequestModel
from ots_common.service import caller
from ots_common.times import Moment
from ots_ingestion import collection, schema_lists
from ots_ingestion.collection import (
    DEFAULT_EQUITY_SCHEMAS,
    DEFAULT_OPTION_SCHEMAS,
    UNDERLYINGS,
    Collection,
)
from ots_ingestion.schemas_offered import SchemaNotOffered, choose
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import BadRequest
from ots_market.symbols import Symbol

_TAG = Tag(name="collection", description="Live collection: what is wanted, and where it stands")
_START = (
    'curl -X POST -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" '
    '-d \'{"symbols":["AAPL"],"schemas":["trades","bbo-1s"]}\' "http://localhost:8000/api/v1/data/collection/start"'
)
# one record type: a live stream does not say which of the two a record is
_TWINS = ({"tbbo", "mbp-1"}, {"tcbbo", "cmbp-1"})
_MOST_SYMBOLS = 2000


class OptionsModel(RequestModel):
    """What to collect of options. They are asked for by their underlying: every contract of it comes."""

    symbols: list[Symbol] | None = Field(
        None, min_length=1, max_length=_MOST_SYMBOLS, description="Underlyings; default: as for the stocks."
    )
    schemas: list[str] = Field(
        list(DEFAULT_OPTION_SCHEMAS), min_length=1, max_length=20, description="Databento's names."
    )


class StartModel(RequestModel):
    """What to collect. A dataset that is not named goes on as it is."""

    symbols: list[Symbol] | None = Field(
        None, min_length=1, max_length=_MOST_SYMBOLS, description="Stocks; default: the nine."
    )
    schemas: list[str] | None = Field(
        None, min_length=1, max_length=20, description="Of the stocks, Databento's names; default: trades and bbo-1s."
    )
    options: OptionsModel | None = None
    start: Moment | None = Field(
        None,
        description="Where schemas that were never collected begin, by the feed's replay, at most 24 hours ago; "
        "default: now. What was collected before goes on where it was left.",
    )


class StopModel(RequestModel):
    """What to stop."""

    dataset: str | None = Field(None, max_length=64, description="Default: all.")


class StatusQuery(RequestModel):
    """Which datasets."""

    dataset: str | None = Field(None, max_length=64, description="Default: all.")


class SchemaStatusModel(BaseModel):
    """One subscribed schema."""

    schema_: str = Field(alias="schema")
    records: int = Field(description="stored since it was first collected")
    last_event_at: str | None
    complete_until: str | None = Field(description="what came up to this time is stored; later gaps are in the ledger")


class CollectionModel(BaseModel):
    """The collection of one dataset."""

    dataset: str
    wanted: bool
    state: str = Field(
        description="stopped, waiting, connecting, authenticating, subscribing, replaying, streaming, mute, "
        "backing_off, failed or disk_full"
    )
    since: str | None
    reason: str | None
    hint: str | None = Field(description="what would help")
    symbols: list[str]
    schemas: list[SchemaStatusModel]
    notes: list[str] = Field(description="where what is subscribed is not what was asked for")
    records: int
    received: int = Field(description="messages since the collector began")
    last_event_at: str | None
    last_received_at: str | None
    lag_ms: int | None = Field(description="now less the newest record's time; null unless streaming")
    spool_bytes: int
    store_error: str | None = Field(description="why the spool cannot be stored now")
    open_gaps: int
    dead_letters: int
    lease_holder: str | None = Field(description="host:process that collects")
    session_id: str | None
    connections: int
    attempts: int = Field(description="failures in a row")
    next_retry_at: str | None
    reported_at: str | None
    requested_by: str
    requested_at: str


class CollectionsModel(BaseModel):
    """All collections."""

    collections: list[CollectionModel]


class StartedModel(CollectionsModel):
    """What was asked for, and what became of it."""

    changed: bool = Field(description="false: just that was wanted already")
    notes: list[str]


class StoppedModel(CollectionsModel):
    """What was stopped; ``stopped``: datasets that were collected until now."""

    stopped: list[str]


def blueprint(settings: IngestionSettings, database: Database) -> APIBlueprint:
    """The routes of collection."""
    api = APIBlueprint("collection", __name__, url_prefix="/api/v1/data/collection", abp_tags=[_TAG])

    @api.post(
        "/start",
        summary="Collect live",
        responses={200: StartedModel, 202: StartedModel, 409: ProblemModel, 422: ProblemModel},
    )
    def start(body: StartModel) -> Response:
        if settings.databento_api_key is None:
            raise Problem(
                409,
                "no-key",
                "there is no DATABENTO_API_KEY: nothing can be collected, but files of DBN can be imported",
                hint="set it in .env and start again, or start with MARKET_SOURCE=simulated",
            )
        asked, notes = _asked(body)
        with database.connection() as connection, connection.cursor() as cursor:
            changes = [collection.want(cursor, one) for one in asked]
        wanted = {one.dataset for one in asked}
        answer = {
            "changed": any(changes),
            "notes": notes,
            "collections": [one for one in collection.status(database) if one["dataset"] in wanted],
        }
        return Response(json.dumps(answer), 202 if any(changes) else 200, mimetype="application/json")

    @api.post("/stop", summary="Collect no more", responses={200: StoppedModel, 404: ProblemModel, 422: ProblemModel})
    def stop(body: StopModel) -> Response:
        _check_dataset(body.dataset)
        with database.connection() as connection, connection.cursor() as cursor:
            stopped = collection.unwant(cursor, body.dataset, caller().username)
        return _answer({"stopped": stopped, "collections": collection.status(database, body.dataset)})

    @api.get("/status", summary="Where collection stands", responses={200: CollectionsModel, 404: ProblemModel})
    def status(query: StatusQuery) -> Response:
        _check_dataset(query.dataset)
        return _answer({"collections": collection.status(database, query.dataset)})

    def _asked(body: StartModel) -> tuple[list[Collection], list[str]]:
        symbols = _tickers(body.symbols) if body.symbols else list(UNDERLYINGS)
        asked = []
        # options alone are asked for by leaving the stocks' symbols and schemas out
        if body.symbols is not None or body.schemas is not None or body.options is None:
            schemas = body.schemas or list(DEFAULT_EQUITY_SCHEMAS)
            asked.append(_one(settings.equity_dataset, "raw_symbol", symbols, schemas, "#/body/schemas", body))
        if body.options is not None:
            underlyings = _tickers(body.options.symbols) if body.options.symbols else symbols
            parents = [f"{symbol}.OPT" for symbol in underlyings]
            schemas = body.options.schemas
            asked.append(_one(settings.option_dataset, "parent", parents, schemas, "#/body/options/schemas", body))
        return asked, [note for one in asked for note in one.notes]

    def _one(
        dataset: str, stype_in: str, symbols: Sequence[str], schemas: Sequence[str], pointer: str, body: StartModel
    ) -> Collection:
        offered = schema_lists.offered(database, settings, dataset)
        if isinstance(offered.problem, BadRequest):
            raise invalid(pointer, f"the vendor knows nothing of {dataset}: {offered.problem}", hint=_START)
        notes = []
        if offered.problem is not None:
            notes.append(f"the vendor did not say what {dataset} has ({offered.problem}); the collector will see")
        wanted = list(schemas)
        if "definition" in offered.schemas:
            wanted = ["definition", *(schema for schema in wanted if schema != "definition")]
        if not offered.schemas and offered.problem is not None:
            raise Problem(503, "vendor-unavailable", str(offered.problem), hint=offered.problem.hint)
        try:
            chosen = choose(wanted, dataset, offered.schemas)
        except SchemaNotOffered as error:
            raise invalid(pointer, str(error), hint=_START) from error
        for twins in _TWINS:
            if twins <= set(chosen.schemas):
                names = " and ".join(sorted(twins))
                raise invalid(pointer, f"{names} cannot be told apart in one live stream: ask for one of them")
        return Collection(
            dataset,
            True,
            stype_in,
            tuple(symbols),
            chosen.schemas,
            (*chosen.notes, *notes),
            body.start,
            caller().username,
        )

    def _check_dataset(dataset: str | None) -> None:
        if dataset is None:
            return
        known = [row[0] for row in database.rows("SELECT dataset FROM collections ORDER BY dataset")]
        if dataset not in known:
            there = f"asked for were {', '.join(known)}" if known else "nothing was ever asked for"
            raise Problem(404, "unknown-dataset", f"{dataset} was never collected; {there}", hint=_START)

    return api


def _answer(body: dict[str, object]) -> Response:
    return Response(json.dumps(body), mimetype="application/json")


def _tickers(symbols: Sequence[str]) -> list[str]:
    """In upper case and each once; an option's parent may be written as such."""
    return list(dict.fromkeys(symbol.upper().removesuffix(".OPT") for symbol in symbols))
