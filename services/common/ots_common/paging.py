"""Cursors of paged answers: opaque to clients, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from ots_common.problems import invalid


def encode_cursor(position: list[Any]) -> str:
    """The position after the last row of a page, as text safe in a URL."""
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, types: tuple[type, ...]) -> list[Any]:
    """The position that :func:`encode_cursor` packed. Raises a 422 problem when it is not of these types."""
    wrong = invalid("#/query/cursor", "not a cursor of this list: use the `next` of an answer, or leave it out")
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.b64decode(padded.encode(), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise wrong from error
    if not isinstance(position, list) or tuple(type(part) for part in position) != types:
        raise wrong
    if any(abs(part) >= 2**63 if isinstance(part, int) else "\0" in part for part in position):
        raise wrong
    return position
