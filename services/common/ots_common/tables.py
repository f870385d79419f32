"""A table as an answer: JSON by default, CSV, Arrow or Parquet when the client asks for it, the same values in all.

Columns are written, not rows: each gives its values as text, piece by piece, and the texts are laid between the names.
That is twice as fast as a dictionary per row, and a large table is sent while it is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote, urlencode

import orjson
from flask import Response, json, request

from ots_common.media_types import ARROW, CSV, JSON, PARQUET, wanted_table_type
from ots_common.problems import invalid

if TYPE_CHECKING:  # the gateway answers tables too, and has neither
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

Kind = Literal["number", "integer", "flag", "text", "date", "time", "json"]

# above this many rows an answer is sent while it is made: then it has no length, and no ETag but the route's own
STREAM_ROWS = 10_000
_PIECE_ROWS = 1_000
# many clients and proxies refuse a head above 8 KiB, and this is one field of it
ABOUT_BYTES = 4096
_NULL = b"null"


@dataclass(frozen=True)
class Times:
    """Moments in nanoseconds since 1970; 0 is unknown. RFC 3339 in JSON and CSV, timestamp[ns, UTC] in Arrow."""

    values: NDArray[np.int64]


@dataclass(frozen=True)
class Whole:
    """Integers, some of them unknown."""

    values: NDArray[np.int64]
    unknown: NDArray[np.bool_]


class TableColumn(Protocol):
    """One column, ready to be written in any format."""

    @property
    def kind(self) -> Kind:
        """What it holds."""

    def __len__(self) -> int: ...

    def json(self, part: slice) -> list[bytes]:
        """Its values as JSON."""

    def csv(self, part: slice) -> list[bytes]:
        """Its values as CSV: null is nothing, an empty text is two quotation marks."""

    def arrow(self, part: slice) -> pa.Array:
        """Its values as Arrow has them."""


@dataclass(frozen=True)
class ListColumn:
    """Python values, None for unknown; of kind `json` they are texts, of kind `time` RFC 3339, of kind `date` ISO."""

    kind: Kind
    items: Sequence[Any]

    def __len__(self) -> int:
        return len(self.items)

    def json(self, part: slice) -> list[bytes]:
        """Its values as JSON."""
        items = self.items[part]
        if self.kind == "json":
            return [_NULL if item is None else item.encode() for item in items]
        return json_texts(items) if self.kind in ("text", "date", "time") else scalar_texts(items, _NULL)

    def csv(self, part: slice) -> list[bytes]:
        """Its values as CSV."""
        if self.kind in ("number", "integer", "flag"):
            return scalar_texts(self.items[part], b"")
        return csv_texts(self.items[part])

    def arrow(self, part: slice) -> pa.Array:
        """Its values as Arrow has them."""
        from ots_common.table_arrow import array_of_items

        return array_of_items(self.kind, self.items[part])


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
    columns: Mapping[str, NDArray[Any] | Times | Whole | Sequence[Any]],
    about: dict[str, Any],
    cursor: str | None = None,
    *,
    fields: Sequence[str] | None = None,
) -> Response:
    """A table given by columns of equal length, of them those in ``fields``, in that order.

    A column is a numpy array (floats: NaN is null; integers; booleans; texts: '' stays ''; datetime64[D]: NaT is null,
    else an ISO date), :class:`Times`, :class:`Whole`, or a sequence of Python values with None (objects and arrays in
    it are JSON in JSON, and its text elsewhere). A sequence of nothing but None counts as text.

    As JSON ``{**about, name: [{column: value, ...}, ...], "next": ...}``, ``next`` being a relative URL when there is
    more; see :func:`table_response` for the other formats. Raises ValueError for columns that differ in length, for
    infinity anywhere and for NaN in ``about``; all of it before the first byte is sent.
    """
    from ots_common.table_columns import column_of

    chosen = list(columns) if fields is None else fields
    made = {key: column_of(columns[key]) for key in chosen}
    if len({len(column) for column in made.values()}) > 1:
        raise ValueError(f"columns differ in length: { {key: len(column) for key, column in made.items()} }")
    return _respond(name, made, about, cursor)


def table_response(
    name: str,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str] | Mapping[str, Kind],
    about: dict[str, Any],
    cursor: str | None,
    *,
    fields: Sequence[str] | None = None,
) -> Response:
    """A table given by rows of Python values: as JSON all their members, in the other formats those in ``columns``.

    A mapping says of what kind each column is, which a page without a known value needs to have the same types in Arrow
    as every other. Formats other than JSON hold the rows alone: there ``about`` is in the field X-OTS-About (CSV, cut
    down to what fits) or in the metadata of the schema under ``ots.about`` and ``ots.next`` (Arrow, Parquet), and Link
    leads to the next page.
    """
    kinds: Mapping[str, Kind] = columns if isinstance(columns, Mapping) else {}
    names: Sequence[str] = list(columns)
    if wanted_table_type() == JSON:
        names = list(dict.fromkeys(key for row in rows for key in row))
    made = {key: list_column([row.get(key) for row in rows], kinds.get(key)) for key in fields or names}
    return _respond(name, made, about, cursor)


def list_column(items: Sequence[Any], kind: Kind | None = None) -> ListColumn:
    """A column of Python values of a kind, by default of the kind that they show.

    Raises ValueError on infinity, on NaN inside a value and on integers above 63 bits.
    """
    types = set(map(type, items)) - {type(None)}
    if any(hasattr(one, "dtype") for one in types):
        items = [item.item() if hasattr(item, "dtype") else item for item in items]
        types = set(map(type, items)) - {type(None)}
    if int in types and any(type(item) is int and not -(2**63) <= item < 2**63 for item in items):
        raise ValueError("an integer above 63 bits")
    if float in types and types <= {int, float}:
        if any(item in (float("inf"), float("-inf")) for item in items):
            raise ValueError("infinity in a column of numbers")
        items = [None if item != item else item for item in items]
    shown = _kind_of(types)
    if shown == "json":
        return ListColumn("json", [None if item is None else json.dumps(item) for item in items])
    if not types or (shown, kind) in (("text", "time"), ("text", "date"), ("integer", "number")):
        shown = kind or shown
    return ListColumn(shown, items)


def _kind_of(types: set[type]) -> Kind:
    if types <= {str}:
        return "text"
    if types == {bool}:
        return "flag"
    if types == {int}:
        return "integer"
    return "number" if types <= {int, float} else "json"


def next_url(cursor: str) -> str:
    """This request's own URL (path and query) with ``cursor`` in it."""
    arguments = [(k, v) for k, v in request.args.items(multi=True) if k != "cursor"]
    return f"{quote(request.path)}?{urlencode([*arguments, ('cursor', cursor)])}"


def scalar_texts(items: NDArray[Any] | Sequence[Any], null: bytes, option: int = 0) -> list[bytes]:
    """Numbers and booleans as JSON and CSV have them; ``null`` for None and NaN. An array: with OPT_SERIALIZE_NUMPY."""
    if not len(items):
        return []
    text = orjson.dumps(items, option=option)[1:-1]
    return (text if null == _NULL else text.replace(_NULL, null)).split(b",")


def json_texts(items: Sequence[str | None]) -> list[bytes]:
    """Texts as JSON."""
    whole = orjson.dumps(items)
    if whole.count(b",") == len(items) - 1:
        return whole[1:-1].split(b",")
    return [orjson.dumps(item) for item in items]


def csv_texts(items: Sequence[str | None]) -> list[bytes]:
    """Texts as CSV (RFC 4180)."""
    if all(items):
        whole = "\n".join(items).encode()  # type: ignore[arg-type]
        if whole.count(b"\n") == len(items) - 1 and not any(mark in whole for mark in (b'"', b",", b"\r")):
            return whole.split(b"\n")
    return [
        b"" if item is None else item.encode() if item and _MARKS.isdisjoint(item) else _quoted(item) for item in items
    ]


_MARKS = frozenset('",\r\n')


def _quoted(text: str) -> bytes:
    return b'"' + text.encode().replace(b'"', b'""') + b'"'


def _respond(name: str, columns: Mapping[str, TableColumn], about: dict[str, Any], cursor: str | None) -> Response:
    following = next_url(cursor) if cursor else None
    wanted = wanted_table_type()
    said = json.dumps(about)
    content_type = wanted
    if wanted == JSON:
        pieces = _json_pieces(name, columns, said, following)
    elif wanted == CSV:
        pieces = _csv_pieces(columns)
        content_type = f"{CSV}; charset=utf-8; header=present"
    else:
        from ots_common.table_arrow import arrow_pieces, parquet_bytes

        metadata = {"ots.about": said, **({"ots.next": following} if following else {})}
        if wanted == ARROW:
            pieces = arrow_pieces(columns, list(_parts(columns)), metadata)
        else:
            pieces = iter((parquet_bytes(columns, metadata),))
    streamed = wanted != PARQUET and _rows(columns) > STREAM_ROWS
    response = Response(pieces if streamed else b"".join(pieces), content_type=content_type)
    if wanted == CSV:
        response.headers["X-OTS-About"] = _about_field(about)
    if following:
        response.headers["Link"] = f'<{following}>; rel="next"'
    response.vary.add("Accept")
    return response


def _about_field(about: dict[str, Any]) -> str:
    """``about`` as a header field: members that do not fit are named in ``left_out``."""
    text = json.dumps(about, ensure_ascii=True)
    if len(text) <= ABOUT_BYTES:
        return text
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in sorted(about.items(), key=lambda item: len(json.dumps(item[1]))):
        tried = {**kept, key: value, "left_out": [*left_out, *(set(about) - set(kept) - {key})]}
        if len(json.dumps(tried, ensure_ascii=True)) <= ABOUT_BYTES:
            kept[key] = value
        else:
            left_out.append(key)
    ordered = {key: kept[key] for key in about if key in kept}
    return json.dumps({**ordered, "left_out": [key for key in about if key not in kept]}, ensure_ascii=True)


def _rows(columns: Mapping[str, TableColumn]) -> int:
    return max(map(len, columns.values()), default=0)


def _parts(columns: Mapping[str, TableColumn]) -> Iterator[slice]:
    rows = _rows(columns)
    return (slice(start, min(start + _PIECE_ROWS, rows)) for start in range(0, rows, _PIECE_ROWS))


def _json_pieces(name: str, columns: Mapping[str, TableColumn], about: str, following: str | None) -> Iterator[bytes]:
    opening = about[:-1] + ("," if about != "{}" else "")
    yield opening.encode() + orjson.dumps(name) + b":["
    names = [b"," + orjson.dumps(key) + b":" for key in columns]
    if names:
        names[0] = b"},{" + names[0][1:]
    for part in _parts(columns):
        texts = _laid_out(names, [column.json(part) for column in columns.values()], b"")
        if part.start == 0:
            texts[0] = texts[0][2:]
        yield b"".join(texts)
    yield (b"}" if _rows(columns) else b"") + b'],"next":' + orjson.dumps(following) + b"}"


def _csv_pieces(columns: Mapping[str, TableColumn]) -> Iterator[bytes]:
    yield b",".join(csv_texts(list(columns))) + b"\r\n"
    commas = [b"", *[b","] * (len(columns) - 1)]
    for part in _parts(columns):
        values = [column.csv(part) for column in columns.values()]
        if len(values) == 1:
            # a row without a character would be no row
            values = [[text or b'""' for text in values[0]]]
        yield b"".join(_laid_out(commas, values, b"\r\n"))


def _laid_out(before: list[bytes], columns: list[list[bytes]], end: bytes) -> list[bytes]:
    """Row by row: what stands before each value, and the value; at the end of a row ``end``."""
    row = [text for lead in before for text in (lead, b"")] + [end]
    texts = row * len(columns[0])
    for place, column in enumerate(columns):
        texts[2 * place + 1 :: len(row)] = column
    return texts
