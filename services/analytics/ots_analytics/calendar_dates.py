"""Dates in requests."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema


def _calendar_date(value: object) -> date:
    if not isinstance(value, str):
        raise ValueError("expected a date such as 2026-03-20")
    return date.fromisoformat(value)


CalendarDate = Annotated[
    date, BeforeValidator(_calendar_date), WithJsonSchema({"type": "string", "format": "date", "example": "2026-03-20"})
]
