"""Answers that are the same for whoever may ask for them: kept here, and given only when their service has just said
that they still hold.

A service marks an answer as a function of the question and the data alone (``X-OTS-Shared``) and names it by an ETag.
Whoever asks for it again has passed all that guards the route; then the service is asked whether that ETag holds, and
says so without making, fetching or sending the body. This is what RFC 9111 calls ``no-cache``: kept, never given
without validation.

Many who ask at once share one such question, but only one that *began* after they had come: what they are told was true
at some moment between their request and their answer, as if each had asked alone.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import gevent
from gevent.event import Event

from ots_common.conditional import SHARED
from ots_gateway.access import Route
from ots_gateway.metrics import count_kept_answer
from ots_gateway.proxy import Proxy, Sender
from ots_gateway.upstream import Answer
from ots_gateway.wire import tokens

ENTRY_BYTES = 4 * 2**20
"""Nothing larger is kept."""
_PATIENCE_S = 1.0
# of an entry, its fields and what holds it
_OVERHEAD_BYTES = 2048
_SHARED = SHARED.lower()
# what an answer may differ by for two requests of one target; the key holds both
_VARIES_BY = frozenset({"accept", "accept-encoding"})
# a request with one of these asks for something else than the whole answer, or for one of its own
_OTHERWISE = (
    "HTTP_RANGE", "HTTP_IF_RANGE", "HTTP_IF_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE",
    "HTTP_TRANSFER_ENCODING",
)  # fmt: skip
_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
_OPAQUE = re.compile(r'"([^"]*)"')
_HIT = ("Server-Timing", "server-timing", "cache;desc=hit")

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer without what belonged to its first request. ``opaque``: its ETag, as weak comparison sees it."""

    answer: Answer
    etag: str
    opaque: str
    size: int


@dataclass(slots=True)
class _Round:
    """One question to a service whether what is kept holds. ``held``: it does, and what the service said."""

    done: Event = field(default_factory=Event)
    held: tuple[_Kept, Answer] | None = None


@dataclass(slots=True)
class _Rounds:
    """Of one key: the question under way, and the one that those who came since then will ask."""

    running: _Round | None = None
    next: _Round | None = None


class KeptAnswers:
    """What one process keeps of its services' answers, ``most`` bytes of it in all; what was used last stays."""

    def __init__(self, proxy: Proxy, most: int) -> None:
        self._proxy = proxy
        self._most = most
        self._held = 0
        self._copied = 0
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._rounds: dict[Key, _Rounds] = {}

    def forward(self, environ: dict[str, Any], route: Route, target: str, sender: Sender) -> Answer:
        """The answer to a request that was let in. Raises what :meth:`Proxy.forward` raises."""
        key = _key(environ, route, target) if self._most else None

        def ask() -> Answer:
            return self._proxy.forward(environ, route, target, sender)

        if key is None:
            return ask()
        if key not in self._kept:
            return self._noticed(key, ask())
        known: str | None = environ.get("HTTP_IF_NONE_MATCH")
        rounds = self._rounds.setdefault(key, _Rounds())
        if rounds.next is not None:
            shared = rounds.next
            if shared.done.wait(_PATIENCE_S) and shared.held is not None:
                count_kept_answer("joined")
                return _given(*shared.held, known)
            return self._noticed(key, ask())
        return self._led(key, rounds, environ, known, ask)

    def _led(
        self, key: Key, rounds: _Rounds, environ: dict[str, Any], known: str | None, ask: Callable[[], Answer]
    ) -> Answer:
        """The answer of one who asks the service, for others as well."""
        mine = rounds.next = _Round()
        try:
            if rounds.running is not None:
                # begun before this request came: it may tell what was true before
                rounds.running.done.wait(_PATIENCE_S)
            else:
                gevent.sleep(0)  # whoever has come already, and was not read yet, joins
            rounds.next, rounds.running = None, mine
            kept = self._kept.get(key)
            if kept is None:  # it made room meanwhile
                return self._noticed(key, ask())
            self._kept.move_to_end(key)
            environ["HTTP_IF_NONE_MATCH"] = kept.etag if known is None else f"{kept.etag}, {known}"
            answer = ask()
            if _confirms(answer, kept, known):
                mine.held = (kept, answer)
                count_kept_answer("held")
                return _given(kept, answer, known)
            if answer.status < 500:
                count_kept_answer("changed")
                self._forget(key)
            return self._noticed(key, answer)
        finally:
            mine.done.set()
            if rounds.next is mine:
                rounds.next = None
            if rounds.running is mine:
                rounds.running = None
            if rounds.next is None is rounds.running and self._rounds.get(key) is rounds:
                del self._rounds[key]

    def _noticed(self, key: Key, answer: Answer) -> Answer:
        """``answer``, of which a copy is kept if it may be; what was kept before is outdated."""
        if answer.status == 200:
            self._forget(key)
            kept = _kept_of(key, answer)
            if kept is not None and self._copied + kept.size <= self._most:
                if answer.stream is None:
                    self._keep(key, kept)
                else:
                    answer.stream.copy = _Copy(self, key, kept)
        return answer

    def _keep(self, key: Key, kept: _Kept) -> None:
        self._forget(key)
        self._kept[key] = kept
        self._held += kept.size
        while self._held > self._most:
            _, oldest = self._kept.popitem(last=False)
            self._held -= oldest.size
        count_kept_answer("kept")

    def _forget(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._held -= kept.size

    def begin_copy(self, size: int) -> None:
        """What is being copied counts as well: many slow readers of large answers must not fill the memory."""
        self._copied += size

    def end_copy(self, key: Key, kept: _Kept, body: bytes | None) -> None:
        """Keep it; None: it was not read to its end."""
        self._copied -= kept.size
        if body is not None:
            self._keep(key, replace(kept, answer=replace(kept.answer, body=body)))


class _Copy:
    """A body as it passes."""

    __slots__ = ("_keeper", "_kept", "_key", "_left", "_pieces")

    def __init__(self, keeper: KeptAnswers, key: Key, kept: _Kept) -> None:
        self._keeper = keeper
        self._key = key
        self._kept = kept
        self._left = kept.answer.length or 0
        self._pieces: list[bytes] = []
        keeper.begin_copy(kept.size)

    def add(self, piece: bytes) -> None:
        """A piece of it."""
        self._pieces.append(piece)
        self._left -= len(piece)

    def end(self) -> None:
        """Nothing more comes."""
        self._keeper.end_copy(self._key, self._kept, None if self._left else b"".join(self._pieces))


def _key(environ: dict[str, Any], route: Route, target: str) -> Key | None:
    """What the answer depends on besides the data; None when it is not to be kept."""
    if environ["REQUEST_METHOD"] != "GET" or environ.get("CONTENT_LENGTH", "0") != "0":
        return None
    if any(name in environ for name in _OTHERWISE) or "no-store" in environ.get("HTTP_CACHE_CONTROL", "").lower():
        return None
    known = environ.get("HTTP_IF_NONE_MATCH")
    if known is not None and not _TAGS.fullmatch(known):
        return None
    return route.service, target, environ.get("HTTP_ACCEPT", ""), environ.get("HTTP_ACCEPT_ENCODING", "")


def _kept_of(key: Key, answer: Answer) -> _Kept | None:
    """What of ``answer`` is to be kept, with its body if it is whole; None when it is not everybody's, or too large."""
    etag, shared, length = "", False, answer.length
    for _, name, value in answer.fields:
        if name == _SHARED:
            shared = True
        elif name == "etag":
            etag = value
        elif (name == "vary" and not tokens(value) <= _VARIES_BY) or name == "set-cookie":
            return None
    opaque = _OPAQUE.search(etag)
    if not shared or opaque is None or length is None or length > ENTRY_BYTES:
        return None
    fields = [one for one in answer.fields if one[1] != "server-timing"]
    # a client writes names as long as it likes
    size = length + _OVERHEAD_BYTES + sum(map(len, key))
    return _Kept(Answer(200, fields, answer.body, None, length), etag, opaque[1], size)


def _confirms(answer: Answer, kept: _Kept, known: str | None) -> bool:
    """Whether the service says that what is kept holds, and not only something that the client has."""
    if answer.status != 304:
        return False
    said = next((value for _, name, value in answer.fields if name == "etag"), None)
    return known is None if said is None else _OPAQUE.findall(said) == [kept.opaque]


def _given(kept: _Kept, said: Answer, known: str | None) -> Answer:
    """What is kept, with the times of the question that confirmed it; 304 for who has it."""
    if known is not None and kept.opaque in _OPAQUE.findall(known):
        return said
    timings = [one for one in said.fields if one[1] == "server-timing"]
    return replace(kept.answer, fields=[*kept.answer.fields, _HIT, *timings])
