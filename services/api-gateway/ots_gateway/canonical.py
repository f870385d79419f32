"""One way to write a path. What is authorised is what is forwarded, so anything that two parsers could read in two ways
is refused rather than cleaned: dot segments, empty segments, backslashes, encoded slashes, double encoding.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from ots_common.problems import Problem

_SEGMENT = re.compile(r"^(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+$")
_KEPT = "-._~!$&'()*+,;=:@"


def canonical_segments(raw_target: str) -> tuple[str, ...]:
    """The decoded segments of an origin-form request target. Raises a 400 problem for any other way to write it."""
    path = raw_target.split("?", 1)[0]
    if not path.startswith("/"):
        raise _refused("the request target must be a path on this server")
    return tuple(_decode(segment) for segment in path.split("/")[1:]) if path != "/" else ("",)


def encode_segments(segments: tuple[str, ...]) -> str:
    """The path that these segments make, written in the one way."""
    return "/" + "/".join(quote(segment, safe=_KEPT) for segment in segments)


def _decode(segment: str) -> str:
    if not segment:
        return ""
    if not _SEGMENT.match(segment):
        raise _refused("the path has a character that must be percent-encoded")
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused("the path is not UTF-8") from error
    if text in (".", ".."):
        raise _refused("the path has a dot segment")
    if any(c in "/\\%?#" or ord(c) < 32 or ord(c) == 127 for c in text):
        raise _refused("the path has an encoded separator, percent sign or control character")
    return text


def _refused(detail: str) -> Problem:
    return Problem(400, "path", detail)
