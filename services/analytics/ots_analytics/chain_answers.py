"""An answer about one underlying's chain, however many ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flask import Response

from ots_analytics.chain_expirations import Columns
from ots_analytics.chain_queries import UnderlyingPath
from ots_analytics.desk import Desk
from ots_analytics.stages import stage, state_stages
from ots_analytics.table_queries import TableQuery
from ots_chains.priced_chains import PricedChain
from ots_common.tables import columns_response, parse_fields
from ots_market.symbols import canonical_symbol


def chain_answer(
    desk: Desk, path: UnderlyingPath, query: TableQuery, make: Callable[[PricedChain], Response]
) -> Response:
    """What ``make`` makes of the chain at the moment asked about. Raises a 404 problem where there is none."""
    underlying = canonical_symbol(path.underlying)
    moment = desk.moment(query.as_of)

    def made() -> Response:
        chain = desk.chain(underlying, moment)
        with stage("reading"):
            return make(chain)

    return state_stages(desk.answer(moment, made, tags=(underlying,), explicit=query.as_of is not None))


def table_answer(name: str, columns: Columns, about: dict[str, Any], query: TableQuery) -> Response:
    """The table with ``about`` around it, of the columns in ``query.fields``. Raises a 422 problem for unknown ones.

    A number too large to be one, such as a forward whose growth of an hour goes on for years, is null.
    """
    finite = {key: _finite(values) for key, values in columns.items()}
    return columns_response(name, finite, about, fields=parse_fields(query.fields, list(columns)))


def _finite(values: Any) -> Any:
    is_number = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return np.where(np.isfinite(values), values, np.nan) if is_number else values
