"""What the bodies and answers of accounts have in common."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from flask import Response, g, json
from pydantic import AfterValidator, BaseModel, StringConstraints, WithJsonSchema

from ots_common.problems import Problem
from ots_common.schemas import RequestModel
from ots_gateway.identity import User
from ots_gateway.metrics import count_refusal
from ots_gateway.passwords import LONGEST, SHORTEST

RoleName = Literal["viewer", "trader", "operator", "admin"]
ScopeName = Literal["market", "analytics", "cache", "control", "account"]


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be Unicode text, without lone surrogates") from error
    return text


# what is typed where a username is asked for; one that can be none is told the same as one that is not there
TypedUsername = Annotated[
    str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", min_length=1, max_length=64), AfterValidator(_encodable)
]
TypedPassword = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST), AfterValidator(_encodable)]
NewPassword = Annotated[str, StringConstraints(min_length=SHORTEST, max_length=LONGEST), AfterValidator(_encodable)]
Id = Annotated[UUID, WithJsonSchema({"type": "string", "format": "uuid"})]


class UserPath(RequestModel):
    """A user."""

    user_id: Id


class NoContent(BaseModel):
    """Nothing."""


def answer(body: BaseModel, status: int = 200, **headers: str) -> Response:
    """A model as JSON."""
    made = Response(json.dumps(body.model_dump(mode="json")), status, mimetype="application/json")
    made.headers.update(headers)
    return made


def asker() -> User:
    """Who asks."""
    user: User = g.user
    return user


def person() -> User:
    """Who asks, with a password behind it. Raises a 403 problem for a key, which may change nothing about accounts."""
    user = asker()
    if user.credential == "key":
        count_refusal("scope")
        raise Problem(403, "key", "an API key may not do this: sign in")
    return user
