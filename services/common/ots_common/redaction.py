"""What no log line may hold: credentials, wherever they stand in a text, and whatever a field's name calls one.

Three nets, since none is whole: values that this process was given as secrets, character for character; the shapes of
every kind of token that the platform and its vendor hand out; and what follows a name such as ``password=``.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

REDACTED = "[redacted]"

_SHORTEST = 8  # a shorter secret is looked for by its name only: its characters would be in every other text
_DEEPEST = 8
_LONGEST_NAME = 256
_LONGEST_TOKEN = 512
_TOKEN_CHARACTERS = string.ascii_letters + string.digits + "-_.~+/="
_NAMES = (
    r"authorization|x-api-key|api[_-]?key|x-ots-internal|[\w-]*(?:passw(?:or)?d|passphrase|secret|token|signing[_-]?key)"
    r"|(?:set-)?cookie|db_password_\w+|key_(?:gateway|analytics|cache|signals)_\w+"
)
_FIELD = re.compile(rf"(?i)(?:{_NAMES}|pwd|credentials)s?")
# Every pattern here begins where nothing else can begin and eats what it looked at: time grows with the text's length
# and not with its square, whatever somebody sends.
# A value is what stands in quotes (also such as are escaped, in JSON within JSON), or up to a space or a separator.
_VALUE = r"""(?:(?P<quote>\\*["'])(?:(?!(?<!\\)(?P=quote)).)*(?:(?P=quote)|$)|[^\s"',;&}\])]+)"""
_NAMED = re.compile(
    rf"""(?is)(?P<name>(?<![\w-])(?:{_NAMES})s?\\*["']?\s*(?:[:=]|\s=>)\s*)(?:b(?=["']))?"""
    rf"""(?:(?:bearer|basic|digest)\s+)?{_VALUE}"""
)
_SHAPES = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{12,}"), rf"\1 {REDACTED}"),
    # the password of a URL, also one with a slash; behind a port it is no password
    (re.compile(r"(://[^\s:/@?#]*):(?!\d+/)[^\s]{0,256}@"), rf"\1:{REDACTED}@"),
    (re.compile(r"\bdb-[A-Za-z0-9]{16,}"), f"db-{REDACTED}"),  # Databento's
    (re.compile(r"(ots_[a-z2-7]{8}_)[\w-]{16,}"), rf"\1{REDACTED}"),  # an API key: its prefix tells which
    (re.compile(r"otr_[\w-]{16,}"), f"otr_{REDACTED}"),  # a refresh token
)
_WORDS = re.compile(r"[\w.-]{16,}", re.ASCII)
# what 32 random bytes look like in base64url: every secret that the platform makes for itself
_RANDOM = re.compile(r"(?<![\w-])(?=[a-z_\d-]*[A-Z])(?=[A-Z_\d-]*[a-z])(?=[A-Za-z_-]*\d)[\w-]{43}(?![\w-])", re.ASCII)
# nothing of the above can be in a text without one of these; a look for them costs a fraction of the whole
# (sixteen searches for a text take a tenth of one with sixteen alternatives)
_CLUES = (
    "eyj", "bearer", "basic", "://", "db-", "db_", "ots_", "otr_", "authori", "key", "internal", "passw", "phrase",
    "secret", "token", "cookie",
)  # fmt: skip
_LONG_WORD = re.compile(r"[\w-]{43}")

_known: tuple[str, ...] = ()


def know(settings: BaseModel) -> None:
    """Remember every secret of ``settings``, and the passwords of its URLs: no line shows them from here on."""
    global _known
    _known = tuple(sorted({*_known, *_secrets_of(settings)}, key=len, reverse=True))


def redact(text: str) -> str:
    """``text`` without credentials."""
    if len(text) < _SHORTEST:
        return text
    for secret in _known:
        if secret in text:
            text = text.replace(secret, REDACTED)
    lower = text.lower()
    for clue in _CLUES:
        if clue in lower:
            break
    else:
        if not _LONG_WORD.search(text):
            return text
    text = _WORDS.sub(_without_token, text)
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return _NAMED.sub(_without_value, text)


def bounded(text: str, longest: int) -> str:
    """``text`` without credentials and not longer than ``longest`` characters, and how many are missing.

    It is cut first, so that its length cannot cost much, and not within a token, half of which has no shape.
    """
    if len(text) <= longest:
        return redact(text)
    kept = text[:longest]
    whole = kept.rstrip(_TOKEN_CHARACTERS)
    kept = whole if len(kept) - len(whole) <= _LONGEST_TOKEN else kept
    return f"{redact(kept)}... ({len(text) - len(kept)} more)"


def redact_fields(fields: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """``fields`` as JSON can have them, without credentials; no text is longer than ``longest`` characters."""
    return {name: _redact_field(name, value, longest, 0) for name, value in fields.items()}


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    return bool(_FIELD.fullmatch(name))


def _redact_field(name: str, value: Any, longest: int, depth: int) -> Any:
    kind = type(value)
    if kind is int or kind is float or kind is bool or value is None:
        return value
    if _names_a_secret(name):
        return REDACTED
    return _redact_value(value, longest, depth)


def _redact_value(value: Any, longest: int, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        return bounded(value, longest)
    if kind is int or kind is float or kind is bool or value is None:
        return value
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            named = ((bounded(str(name), _LONGEST_NAME), inner) for name, inner in value.items())
            return {name: _redact_field(name, inner, longest, depth + 1) for name, inner in named}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact_value(inner, longest, depth + 1) for inner in value]
    return bounded(_words(value), longest)


def _words(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} without words: {type(error).__name__}>"


def _without_token(found: re.Match[str]) -> str:
    """A word, from where a JWT begins in it, whole or cut; and without what looks random."""
    word = found[0]
    begin = word.find("eyJ")
    if begin >= 0 and len(word) - begin >= 12 and "." in word[begin:]:
        word = word[:begin] + REDACTED
    return _RANDOM.sub(REDACTED, word) if len(word) >= 43 else word


def _without_value(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{found['name']}{quote}{REDACTED}{quote}"


def _secrets_of(settings: BaseModel) -> set[str]:
    found: set[str] = set()
    for name in type(settings).model_fields:
        for secret in _secrets_in(getattr(settings, name)):
            found |= _spellings(secret)
    return {secret for secret in found if len(secret) >= _SHORTEST}


def _secrets_in(value: Any) -> Iterable[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets_in(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _secrets_in(inner)


def _spellings(secret: str) -> set[str]:
    """A secret as it may be met: of a URL its password, with and without percent signs; in JSON with its escapes."""
    if "://" not in secret:
        return {secret, json.dumps(secret)[1:-1]}
    try:
        password = urlsplit(secret).password or ""
    except ValueError:
        return {secret}
    return {password, unquote(password)}
