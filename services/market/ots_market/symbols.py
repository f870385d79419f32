"""Symbols: tickers, and the 21 characters of the OSI option symbol.

OSI (Options Symbology Initiative, OCC 2010): root padded to six, yymmdd, C or P, strike x 1000 in eight digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints

_OSI = re.compile(r"^(?P<root>[A-Z0-9]{1,6}) *(?P<date>\d{6})(?P<right>[CP])(?P<strike>\d{8})$")
_STRIKE_UNIT = 1_000_000  # 1e-3 dollars in 1e-9 dollars

# what a path or a query may name: a ticker, or an option as OSI writes it (its spaces may be left out)
Symbol = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,30}$", strip_whitespace=True),
    Field(json_schema_extra={"example": "AAPL"}),
]


@dataclass(frozen=True)
class OptionSymbol:
    """What an OSI symbol says. ``strike`` in 1e-9 dollars."""

    root: str
    expiration: date
    right: Literal["C", "P"]
    strike: int


def parse_option_symbol(symbol: str) -> OptionSymbol | None:
    """The contract an OSI symbol names; None when it is not one (or names a day that does not exist)."""
    match = _OSI.match(symbol)
    if match is None or len(symbol) > 21:
        return None
    digits = match["date"]
    try:
        expiration = date(2000 + int(digits[:2]), int(digits[2:4]), int(digits[4:]))
    except ValueError:
        return None
    right: Literal["C", "P"] = "C" if match["right"] == "C" else "P"
    return OptionSymbol(match["root"], expiration, right, int(match["strike"]) * _STRIKE_UNIT)


def canonical_symbol(symbol: str) -> str:
    """Upper case, and an option's root padded as the vendor writes it: ``goog151224c00750000`` finds its contract."""
    upper = symbol.strip().upper()
    option = parse_option_symbol(upper)
    return f"{option.root:<6}{upper[-15:]}" if option else upper


def option_symbols(
    root: str, expiration: NDArray[np.datetime64], right: NDArray[Any], strike: NDArray[np.int64]
) -> NDArray[np.str_]:
    """OSI symbols without the root's padding (``GOOG151224C00750000``), shape (n,).

    ``expiration``: datetime64[D]; ``right``: positive for a call; ``strike``: 1e-9 dollars, cut to OSI's mills.
    """
    width = len(root)
    text = np.empty((len(strike), width + 15), np.uint8)
    text[:, :width] = np.frombuffer(root.encode("ascii"), np.uint8)
    days, which = np.unique(expiration, return_inverse=True)
    dates = "".join(day.astype(object).strftime("%y%m%d") for day in days).encode()
    text[:, width : width + 6] = np.frombuffer(dates, np.uint8).reshape(-1, 6)[which]
    text[:, width + 6] = np.where(np.asarray(right) > 0, ord("C"), ord("P"))
    mills = strike // _STRIKE_UNIT
    text[:, width + 7 :] = mills[:, None] // 10 ** np.arange(7, -1, -1) % 10 + ord("0")
    return text.view(f"S{width + 15}")[:, 0].astype(f"U{width + 15}")
