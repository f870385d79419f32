"""What the request models of all services share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# text that PostgreSQL can hold, and that does not break a line of a log
PlainText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", strip_whitespace=True)]


class RequestModel(BaseModel):
    """A path, query or body. A parameter that is not known is an error: a typo must not pass for the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(RequestModel):
    """The part of a query that asks for one page of a list."""

    limit: int = Field(1000, ge=1, le=10_000, description="Rows at most.")
    cursor: str | None = Field(None, max_length=512, description="`next` of the page before.")


class ProblemModel(BaseModel):
    """An error (RFC 9457). ``errors`` names each wrong field; ``hint`` is something that works."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
