"""Times at the border: RFC 3339 in, nanoseconds since 1970 inside, RFC 3339 UTC out."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

NS_PER_S = 1_000_000_000
_RFC3339 = re.compile(r"^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d{2}:\d{2})$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_nanoseconds(value: object) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time with its offset, or of a date (midnight UTC).

    Raises ValueError for anything else: a time without an offset could mean two moments.
    """
    if isinstance(value, str):
        text = value.strip().replace(" ", "+") if "T" in value.upper() else value.strip()
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return _bounded(_whole(datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)))
        if match := _RFC3339.match(text):
            day, clock, fraction, offset = match.groups()
            moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if offset in 'Zz' else offset}")
            return _bounded(_whole(moment) + int((fraction or "").ljust(9, "0")))
    raise ValueError("expected a time such as 2015-12-24T16:00:00Z, or a date such as 2015-12-24")


def _bounded(nanoseconds: int) -> int:
    if not 0 <= nanoseconds < 2**63:
        raise ValueError("expected a time between 1970 and 2262")
    return nanoseconds


def _whole(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1) * NS_PER_S


def rfc3339(nanoseconds: int) -> str:
    """RFC 3339 UTC with as many digits of a second as are not zero: none, 3, 6 or 9."""
    seconds, fraction = divmod(int(nanoseconds), NS_PER_S)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    if not fraction:
        return text + "Z"
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def to_datetime(nanoseconds: int) -> datetime:
    """The moment in UTC, nanoseconds below its microsecond cut off."""
    return _EPOCH + timedelta(microseconds=int(nanoseconds) // 1000)


# a query parameter that holds a moment
Moment = Annotated[
    int,
    BeforeValidator(to_nanoseconds),
    WithJsonSchema({"type": "string", "example": "2015-12-24T16:00:00Z"}),
]
