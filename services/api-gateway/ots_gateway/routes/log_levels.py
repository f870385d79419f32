"""How much the processes of the platform say, changed while they run."""

from __future__ import annotations

from typing import Annotated, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from redis.exceptions import RedisError

from ots_common.log_levels import Levels, LevelStore
from ots_common.problems import unavailable
from ots_common.schemas import ProblemModel, RequestModel
from ots_gateway import audit
from ots_gateway.routes.models import answer

_TAG = Tag(name="logs", description="What the platform tells its log")
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "off"]
LoggerName = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z-]{0,30}/)?[A-Za-z_][A-Za-z0-9_.]{0,100}$")]


class LoggerLevel(RequestModel):
    """What one logger, with all below it, says from then on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"logger": "ots_analytics.desk", "level": "DEBUG"}]})

    logger: LoggerName = Field(
        description="A logger's name, or a stream's: `application`, `access`, `audit`, `performance`. `service/` before"
        " it means that service only, by the name that its lines have."
    )
    level: Level


class LevelsBody(RequestModel):
    """The levels that shall hold, instead of those that were put before; none: each logger's own again."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"levels": [{"logger": "ots_analytics.desk", "level": "DEBUG"}], "for_s": 600}]}
    )

    levels: list[LoggerLevel] = Field(max_length=50)
    for_s: int = Field(3600, ge=10, le=7 * 86_400, description="After so many seconds each logger has its own again.")


class LevelsModel(BaseModel):
    """The levels that hold now beside those that the processes began with."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"levels": [{"logger": "ots_analytics.desk", "level": "DEBUG"}], "left_s": 600}]
        }
    )

    levels: list[LoggerLevel]
    left_s: int | None = Field(description="How many seconds they still hold; null where there are none.")


def blueprint(store: LevelStore) -> APIBlueprint:
    """The routes of the levels."""
    api = APIBlueprint("log-levels", __name__, url_prefix="/api/v1/logs", abp_tags=[_TAG])

    @api.get("/levels", summary="Levels of loggers", responses={200: LevelsModel, 503: ProblemModel})
    def levels() -> Response:
        return _told(store)

    @api.put(
        "/levels",
        summary="Change levels of loggers",
        responses={200: LevelsModel, 422: ProblemModel, 503: ProblemModel},
    )
    def put_levels(body: LevelsBody) -> Response:
        """Every process follows within some seconds."""
        levels = {one.logger: one.level for one in body.levels}
        audit.note(levels=levels, for_s=body.for_s)
        try:
            store.put(levels, body.for_s)
        except RedisError as error:
            raise _away() from error
        return _told(store)

    return api


def _told(store: LevelStore) -> Response:
    try:
        now: Levels = store.get()
    except RedisError as error:
        raise _away() from error
    said = [LoggerLevel.model_validate({"logger": name, "level": level}) for name, level in now.levels.items()]
    return answer(LevelsModel(levels=said, left_s=now.left_s))


def _away() -> Exception:
    return unavailable("levels are kept in Redis, which does not answer; they stay as they are")
