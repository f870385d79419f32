"""A table as an answer: JSON by default, CSV, Arrow or Parquet when the client asks for it, the same values in all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote, urlencode

import orjson
from flask import Response, json, request

from ots_common.media_types import CSV, JSON, wanted_table_type
from ots_common.problems import invalid

if TYPE_CHECKING:  # the gateway answers tables too, and has no numpy
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["number", "integer", "flag", "text", "date", "time", "json"]

# above this many rows an answer is sent while it is made
STREAM_ROWS = 5_000
_PIECE_ROWS = 1_000
# a head larger than 8 KiB is refused by many clients and proxies; this is one field of it
_ABOUT_BYTES = 4096
_QUOTED = frozenset('",\r\n')


@dataclass(frozen=True)
class Times:
    """Moments in nanoseconds since 1970; 0 is unknown. RFC 3339 in JSON and CSV, timestamp[ns, UTC] in Arrow."""

    values: NDArray[np.int64]


@dataclass(frozen=True)
class Whole:
    """Integers, some of them unknown."""

    values: NDArray[np.int64]
    unknown: NDArray[np.bool_]


# float: NaN is null; str: '' stays ''; datetime64[D]: NaT is null, else an ISO date
Column = "NDArray[Any] | Times | Whole | Sequence[Any]"


class TableColumn(Protocol):
    """One column, ready to be written."""

    @property
    def kind(self) -> Kind:
        """What it holds."""

    def __len__(self) -> int: ...

    def values(self, part: slice) -> list[Any]:
        """Rows of it as JSON has them; what is unknown is None, or NaN in a column of numbers."""


@dataclass(frozen=True)
class ListColumn:
    """A column of Python values, None for unknown: of kind `time` RFC 3339, `date` ISO, `json` text or fragments."""

    kind: Kind
    items: Sequence[Any]

    def __len__(self) -> int:
        return len(self.items)

    def values(self, part: slice) -> list[Any]:
        """Rows of it."""
        return list(self.items[part])


def wants_csv() -> bool:
    """True when the request's Accept header prefers ``text/csv``. Raises a 406 problem."""
    return wanted_table_type() == CSV


def parse_fields(text: str | None, available: Sequence[str]) -> list[str] | None:
    """The names in a ``fields`` parameter, in its order, each once; None when it is absent.

    Raises a 422 problem that names what is unknown and what there is.
    """
    if text is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    there = f"there is {','.join(available)}"
    if not names:
        raise invalid("#/query/fields", f"names no field; {there}")
    if unknown := [name[:40] for name in names if name not in available]:
        raise invalid("#/query/fields", f"unknown: {', '.join(unknown[:10])}; {there}")
    return names


def columns_response(
    name: str,
    columns: Mapping[str, Any],
    about: dict[str, Any],
    cursor: str | None = None,
    *,
    fields: Sequence[str] | None = None,
) -> Response:
    """A table given by columns of equal length (``Column``), of them those in ``fields`` in that order.

    As JSON ``{**about, name: [{column: value, ...}, ...], "next": ...}``. Raises ValueError for columns that differ in
    length, for infinity anywhere and for NaN in ``about``; all of it before the first byte is sent.
    """
    from ots_common.table_columns import column_of  # numpy, which the gateway lacks

    chosen = list(columns) if fields is None else fields
    made = {key: column_of(columns[key]) for key in chosen}
    if len({len(column) for column in made.values()}) > 1:
        raise ValueError(f"columns differ in length: { {key: len(column) for key, column in made.items()} }")
    return _respond(name, made, about, cursor)


def table_response(
    name: str, rows: Sequence[dict[str, Any]], columns: Sequence[str], about: dict[str, Any], cursor: str | None
) -> Response:
    """``rows`` under ``name`` with ``about`` around them and ``next``, a relative URL, when there is more.

    JSON has all members of the rows, the other formats those in ``columns``.
    """
    names = list(dict.fromkeys(key for row in rows for key in row)) if wanted_table_type() == JSON else columns
    made = {key: list_column([row.get(key) for row in rows]) for key in names}
    return _respond(name, made, about, cursor)


def list_column(items: Sequence[Any]) -> ListColumn:
    """A column of Python values of the kind that they show. Raises ValueError on infinity and NaN within a value."""
    types = set(map(type, items)) - {type(None)}
    if any(hasattr(one, "dtype") for one in types):
        items = [item.item() if hasattr(item, "dtype") else item for item in items]
        types = set(map(type, items)) - {type(None)}
    if types <= {str}:
        return ListColumn("text", items)
    if types == {bool}:
        return ListColumn("flag", items)
    if types == {int}:
        if any(item is not None and not -(2**63) <= item < 2**63 for item in items):
            raise ValueError("an integer above 63 bits")
        return ListColumn("integer", items)
    if types <= {int, float}:
        if any(item is not None and item - item != 0 and item == item for item in items):
            raise ValueError("infinity in a column of numbers")
        return ListColumn("number", items)
    return ListColumn("json", [None if item is None else orjson.Fragment(json.dumps(item)) for item in items])


def next_url(cursor: str) -> str:
    """This request's own URL (path and query) with ``cursor`` in it."""
    arguments = [(k, v) for k, v in request.args.items(multi=True) if k != "cursor"]
    return f"{quote(request.path)}?{urlencode([*arguments, ('cursor', cursor)])}"


def _respond(name: str, columns: Mapping[str, TableColumn], about: dict[str, Any], cursor: str | None) -> Response:
    following = next_url(cursor) if cursor else None
    if wanted_table_type() == JSON:
        pieces = _json_pieces(name, columns, json.dumps(about), following)
        response = Response(b"".join(pieces), mimetype=JSON)
    else:
        response = Response(b"".join(_csv_pieces(columns)), content_type=f"{CSV}; charset=utf-8; header=present")
        response.headers["X-OTS-About"] = json.dumps(about, ensure_ascii=True)
    if following:
        response.headers["Link"] = f'<{following}>; rel="next"'
    response.vary.add("Accept")
    return response


def _parts(columns: Mapping[str, TableColumn]) -> Iterator[slice]:
    rows = max(map(len, columns.values()), default=0)
    return (slice(start, min(start + _PIECE_ROWS, rows)) for start in range(0, rows, _PIECE_ROWS))


def _json_pieces(name: str, columns: Mapping[str, TableColumn], about: str, following: str | None) -> Iterator[bytes]:
    opening = about[:-1] + ("," if about != "{}" else "")
    yield opening.encode() + orjson.dumps(name) + b":["
    names = list(columns)
    between = b""
    for part in _parts(columns):
        rows = zip(*(column.values(part) for column in columns.values()), strict=True)
        yield between + orjson.dumps([dict(zip(names, row, strict=True)) for row in rows])[1:-1]
        between = b","
    yield b'],"next":' + orjson.dumps(following) + b"}"


def _csv_pieces(columns: Mapping[str, TableColumn]) -> Iterator[bytes]:
    yield (",".join(map(_csv_text, columns)) + "\r\n").encode()
    for part in _parts(columns):
        texts = [_csv_values(column.kind, column.values(part)) for column in columns.values()]
        yield "".join([",".join(row) + "\r\n" for row in zip(*texts, strict=True)]).encode()


def _csv_values(kind: Kind, values: list[Any]) -> list[str]:
    """Null is nothing, an empty text is two quotation marks."""
    if kind == "number":
        return ["" if value is None or value != value else repr(value) for value in values]
    if kind == "integer":
        return ["" if value is None else str(value) for value in values]
    if kind == "flag":
        return ["" if value is None else ("true" if value else "false") for value in values]
    if kind == "json":
        return ["" if value is None else _csv_text(orjson.dumps(value).decode()) for value in values]
    return ["" if value is None else _csv_text(value) for value in values]


def _csv_text(text: str) -> str:
    """Quoted where it must be (RFC 4180), and where it is empty."""
    if text and _QUOTED.isdisjoint(text) and text == text.strip(" "):
        return text
    return '"' + text.replace('"', '""') + '"'
