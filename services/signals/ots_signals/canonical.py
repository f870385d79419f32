"""One text for one value: the JSON that is hashed, and back.

Keys in order, no blanks, numbers in the shortest form that reads back the same; only what is one and the same
everywhere: None, bool, int, finite float, str, lists, mappings with string keys. Anything else is refused, so that no
other text ever stands for the same value.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any


def plain(value: Any) -> Any:
    """Dataclasses as mappings, tuples as lists, names of enumerations as text. Raises TypeError, ValueError."""
    if isinstance(value, StrEnum):
        return value.value
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is str:
        if "\0" in value or (not value.isascii() and value != value.encode("utf-8", "ignore").decode()):
            raise ValueError("text that is not UTF-8, or holds a zero, cannot be stored")
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError("neither NaN nor infinity has a canonical text: what is unknown is None")
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise TypeError("keys are text")
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    raise TypeError(f"{type(value).__name__} has no canonical text")


def canonical(value: Any) -> str:
    """The text of a value. Raises TypeError for what has none, ValueError for NaN and infinity."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
