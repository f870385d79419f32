"""Which of the formats that an answer exists in the client wants (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec

from flask import request
from werkzeug.datastructures import MIMEAccept

from ots_common.problems import Problem

JSON = "application/json"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


@lru_cache(maxsize=1)
def table_types() -> tuple[str, ...]:
    """The formats of a table in this service, the default first; Arrow and Parquet only where pyarrow is installed."""
    return (JSON, CSV, ARROW, PARQUET) if find_spec("pyarrow") else (JSON, CSV)


def wanted_table_type() -> str:
    """The format in which this request wants a table; JSON without ``Accept`` and for ``*/*``.

    Raises a 406 problem that names what there is when ``Accept`` names nothing of it.
    """
    return wanted_type(table_types())


def wanted_type(available: Sequence[str]) -> str:
    """The one of ``available`` that this request's ``Accept`` wants most, the first of them when it says nothing.

    Parameters of a media range other than ``q`` are ignored. Raises a 406 problem.
    """
    accepted = request.accept_mimetypes
    if not accepted:
        return available[0]
    # "text/csv; charset=utf-8" means our text/csv
    bare = MIMEAccept([(item.partition(";")[0].strip(), quality) for item, quality in accepted])
    found = bare.best_match(available)
    if found is None:
        raise Problem(
            406,
            "not-acceptable",
            f"there is no such format of this answer; there is {', '.join(available)}",
            hint=f"leave out Accept, or send: Accept: {available[-1]}",
            extra={"available": list(available)},
        )
    return found
