"""Answers that several processes share, in Redis: bytes under names, each made once, kept for a while, and bounded.

Without Redis every answer is made anew and is the same. Nothing here raises because of Redis: an operation that fails
opens a breaker, and until Redis answers again (asked in the background) nobody waits for it.

An entry is a value with a time to live. Beside the entries there are an index of their names by expiry, what each
weighs and how it is tagged, and a set of names a tag; one script keeps them in step, so that the whole is bounded and
what is invalidated is gone.
"""

from __future__ import annotations

import json
import math
import random
import secrets
import threading
import time
import zlib
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote

import redis
import structlog
from prometheus_client import Counter, Gauge

from ots_common.cache_keys import cache_key

log = structlog.get_logger(__name__)

LOOKUPS = Counter(
    "ots_shared_cache_lookups_total",
    "Lookups of shared answers: hit, early (a hit made anew before its end), joined (made by another at that moment),"
    " miss, unavailable (no Redis)",
    ["kind", "result"],
)
EVICTED = Counter("ots_shared_cache_evicted_total", "Answers that made room for others")
NOT_KEPT = Counter("ots_shared_cache_not_kept_total", "Answers made and not kept, by why", ["kind", "reason"])
REDIS_AWAY = Gauge(
    "ots_shared_cache_redis_away", "Processes that do without Redis at this moment", multiprocess_mode="livesum"
)
NAMESPACE = "derived"

T = TypeVar("T")

# forget(name): out of the index, the tags and the totals, and the entry itself
_FORGET = """
local prefix, base = KEYS[1], KEYS[2]
local index, about, totals = base .. ':index', base .. ':about', base .. ':totals'
local function forget(name)
    local said = redis.call('HGET', about, name)
    redis.call('ZREM', index, name)
    redis.call('DEL', prefix .. name)
    if not said then return 0 end
    local words = {}
    for word in string.gmatch(said, '%S+') do words[#words + 1] = word end
    local kind = string.match(name, '^[^:]+')
    redis.call('HDEL', about, name)
    for i = 2, #words do redis.call('SREM', base .. ':tag:' .. words[i], name) end
    redis.call('HINCRBY', totals, 'bytes', -tonumber(words[1]))
    redis.call('HINCRBY', totals, 'bytes:' .. kind, -tonumber(words[1]))
    if redis.call('HINCRBY', totals, 'entries:' .. kind, -1) <= 0 then
        redis.call('HDEL', totals, 'entries:' .. kind, 'bytes:' .. kind)
    end
    return 1
end
local function now_ms()
    local now = redis.call('TIME')
    return now[1] * 1000 + math.floor(now[2] / 1000)
end
local function trim(most)
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now_ms(), 'LIMIT', 0, most)) do forget(name) end
end
"""
# ARGV: name, value, ttl in ms, most bytes, most entries, lock, token, tags...
_PUT = (
    _FORGET
    + """
local name, kind = ARGV[1], string.match(ARGV[1], '^[^:]+')
if redis.call('GET', ARGV[6]) == ARGV[7] then redis.call('DEL', ARGV[6]) end
trim(100)
forget(name)
redis.call('SET', prefix .. name, ARGV[2], 'PX', ARGV[3])
local said = tostring(#ARGV[2])
for i = 8, #ARGV do
    said = said .. ' ' .. ARGV[i]
    redis.call('SADD', base .. ':tag:' .. ARGV[i], name)
end
redis.call('HSET', about, name, said)
redis.call('ZADD', index, now_ms() + ARGV[3], name)
redis.call('HINCRBY', totals, 'entries:' .. kind, 1)
redis.call('HINCRBY', totals, 'bytes:' .. kind, #ARGV[2])
local bytes = redis.call('HINCRBY', totals, 'bytes', #ARGV[2])
local evicted = 0
while bytes > tonumber(ARGV[4]) or redis.call('ZCARD', index) > tonumber(ARGV[5]) do
    local soonest = redis.call('ZRANGE', index, 0, 0)[1]
    if not soonest then break end
    forget(soonest)
    evicted = evicted + 1
    bytes = tonumber(redis.call('HGET', totals, 'bytes'))
end
if redis.call('ZCARD', index) == 0 then
    redis.call('HSET', totals, 'bytes', 0)
    redis.call('DEL', about)
end
if evicted > 0 then redis.call('HINCRBY', totals, 'evicted', evicted) end
return evicted
"""
)
_FORGET_NAMES = _FORGET + "local n = 0 for i = 1, #ARGV do n = n + forget(ARGV[i]) end return n"
_TRIM = _FORGET + "trim(1000) return redis.call('HGETALL', totals)"
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@dataclass(frozen=True)
class Limits:
    """Nothing above ``entry_bytes`` is kept; above ``bytes`` or ``entries`` of all together what ends soonest goes.

    ``lock_s``: how long the maker of an answer keeps others from making it; ``patience_s``: how long those of other
    processes wait for it.
    """

    entry_bytes: int = 8 * 2**20
    bytes: int = 96 * 2**20
    entries: int = 20_000
    lock_s: float = 30.0
    patience_s: float = 10.0


@dataclass(frozen=True)
class Made:
    """An answer as it was made. ``headers``: what else belongs to it."""

    body: bytes
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cached:
    """An answer. ``gzipped``: the body is; only where the caller takes that. ``hit``: it was there already."""

    body: bytes
    media_type: str
    headers: Mapping[str, str]
    gzipped: bool
    hit: bool


@dataclass(frozen=True)
class Invalidated:
    """How many entries are gone, and whether more of them are left."""

    removed: int
    more: bool


@dataclass
class _Flight:
    """An answer that a thread of this process is making."""

    done: threading.Event = field(default_factory=threading.Event)
    cached: Cached | None = None
    error: Exception | None = None


class Breaker:
    """Closed while Redis answers. When it does not, it is asked again in the background, and nobody else waits."""

    def __init__(self, client: redis.Redis, retry_s: float = 0.5) -> None:
        self._client = client
        self._retry_s = retry_s
        self._lock = threading.Lock()
        self._open = False
        self._asking = False
        self._ask_at = 0.0

    @property
    def closed(self) -> bool:
        """Whether Redis may be asked."""
        if not self._open:
            return True
        with self._lock:
            if not self._open or self._asking or time.monotonic() < self._ask_at:
                return not self._open
            self._asking = True
        threading.Thread(target=self._ask_again, name="redis-again", daemon=True).start()
        return False

    def trip(self, error: Exception) -> None:
        """Redis did not answer."""
        with self._lock:
            was_open, self._open = self._open, True
            self._ask_at = time.monotonic() + self._retry_s
        if not was_open:
            REDIS_AWAY.set(1)
            log.warning("redis_unavailable", error=str(error))

    def _ask_again(self) -> None:
        answers = False
        try:
            answers = bool(self._client.ping())
        except (redis.RedisError, OSError):
            pass
        finally:
            with self._lock:
                self._open, self._asking = not answers, False
                self._ask_at = time.monotonic() + self._retry_s
        if answers:
            REDIS_AWAY.set(0)
            log.info("redis_answers_again")


class SharedCache:
    """Keeps made bodies for a while. One a process; threads share it."""

    def __init__(self, client: redis.Redis, source: str, limits: Limits = Limits()) -> None:
        self._client = client
        self._limits = limits
        self._prefix = cache_key(source, NAMESPACE) + ":"
        self._base = cache_key(source, f"{NAMESPACE}-index")
        self._locks = cache_key(source, f"{NAMESPACE}-lock") + ":"
        self._breaker = Breaker(client)
        self._flights: dict[str, _Flight] = {}
        self._guard = threading.Lock()
        self._tally: Tally[str] = Tally()
        self._tallied_at = time.monotonic()
        self._put_script = client.register_script(_PUT)
        self._forget_script = client.register_script(_FORGET_NAMES)
        self._trim_script = client.register_script(_TRIM)
        self._unlock_script = client.register_script(_UNLOCK)

    def get_or_make(
        self,
        kind: str,
        parts: Sequence[str],
        make: Callable[[], Made],
        *,
        ttl_s: float,
        tags: Sequence[str] = (),
        gzip: bool = False,
    ) -> Cached:
        """The answer named ``parts`` of a ``kind`` (few of these: they label metrics), made when it is not there.

        Of all that ask at once one makes it: in this process always, among processes while Redis is there. What
        ``make`` raises reaches all of these and is not kept. ``gzip``: the caller takes a compressed body.
        """
        name = entry_name(kind, parts)
        flight, leads = self._join(name)
        if leads:
            try:
                flight.cached = self._found_or_made(name, kind, make, ttl_s, tags, gzip)
                return flight.cached
            except Exception as error:
                flight.error = error
                raise
            finally:
                with self._guard:
                    del self._flights[name]
                flight.done.set()
        if flight.done.wait(self._limits.lock_s):
            if flight.error is not None:
                raise flight.error
            if flight.cached is not None:
                self.count(kind, "hit" if flight.cached.hit else "joined")
                return _accepted(flight.cached, gzip)
        # whoever led was ended, or takes too long
        self.count(kind, "miss")
        return _answer(make(), gzip, hit=False)

    def invalidate(self, *, tags: Sequence[str] = (), prefix: str = "", most: int = 1000) -> Invalidated:
        """Forget entries with one of ``tags``, or whose name begins with ``prefix``; ``most`` at most.

        Raises redis.RedisError: who invalidates must know that it was done.
        """
        found: dict[str, None] = {}
        for tag in tags:
            if len(found) <= most:
                tagged: Any = self._client.srandmember(f"{self._base}:tag:{_tag(tag)}", most + 1)
                found |= dict.fromkeys(name.decode() for name in tagged)
        if prefix:
            for name, _ in self._client.zscan_iter(f"{self._base}:index", match=f"{prefix}*", count=1000):
                if len(found) > most:
                    break
                found[name.decode()] = None
        names = list(found)[:most]
        removed = sum(
            int(self._forget_script(keys=[self._prefix, self._base], args=names[i : i + 100]))
            for i in range(0, len(names), 100)
        )
        return Invalidated(removed, len(found) > most)

    def stats(self) -> dict[str, Any]:
        """Entries, bytes and lookups by kind, over all processes since ``since`` (ms since 1970). Raises RedisError.

        What Redis itself evicted for want of memory is counted until it would have expired.
        """
        self._send_tally(force=True)
        flat = self._trim_script(keys=[self._prefix, self._base])
        totals = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        kinds: dict[str, dict[str, int]] = {}
        for name, number in totals.items():
            what, _, kind = name.partition(":")
            if kind:
                kinds.setdefault(kind, {})[what] = number
        return {
            "since_ms": totals.get("since"),
            "bytes": totals.get("bytes", 0),
            "evicted": totals.get("evicted", 0),
            "limits": {"bytes": self._limits.bytes, "entries": self._limits.entries},
            "kinds": kinds,
        }

    # -- one answer ------------------------------------------------------------------------------------------------

    def _join(self, name: str) -> tuple[_Flight, bool]:
        with self._guard:
            if (flight := self._flights.get(name)) is not None:
                return flight, False
            self._flights[name] = flight = _Flight()
            return flight, True

    def _found_or_made(
        self, name: str, kind: str, make: Callable[[], Made], ttl_s: float, tags: Sequence[str], gzip: bool
    ) -> Cached:
        found = self._get(name)
        if found is None:
            if token := self._lock(name):
                self.count(kind, "miss")
                return self._make(name, kind, make, ttl_s, tags, gzip, token)
            found = self._wait(name)
        if found is None:
            # no Redis; or who has the lock failed, or takes too long
            self.count(kind, "miss" if self._breaker.closed else "unavailable")
            return _answer(make(), gzip, hit=False)
        entry, left_ms = found
        if _due_early(entry, left_ms) and (token := self._lock(name)):
            try:
                made = self._make(name, kind, make, ttl_s, tags, gzip, token)
            except Exception as error:
                log.info("not_made_early", kind=kind, error=str(error))
            else:
                self.count(kind, "early")
                return made
        self.count(kind, "hit")
        return self._served(name, kind, entry, left_ms, tags, gzip)

    def _make(
        self,
        name: str,
        kind: str,
        make: Callable[[], Made],
        ttl_s: float,
        tags: Sequence[str],
        gzip: bool,
        token: str,
    ) -> Cached:
        kept = False
        try:
            began = time.perf_counter()
            made = make()
            cost_ms = (time.perf_counter() - began) * 1000
            cached = _answer(made, gzip, hit=False)
            kept = self._put(name, kind, _Entry.of(cached, cost_ms), round(ttl_s * 1000), tags, token)
            return cached
        finally:
            if not kept:  # else it was unlocked with that
                self.ask(lambda: self._unlock_script(keys=[self._locks + name], args=[token]))

    def _served(self, name: str, kind: str, entry: _Entry, left_ms: int, tags: Sequence[str], gzip: bool) -> Cached:
        cached = entry.cached
        if gzip and not cached.gzipped and _worth_packing(cached.body):
            # made for a caller that takes no gzip; whoever comes next finds it packed
            cached = replace(cached, body=_packed(cached.body), gzipped=True)
            self._put(name, kind, _Entry.of(cached, entry.cost_ms), left_ms, tags, "")
        return _accepted(cached, gzip)

    # -- Redis -----------------------------------------------------------------------------------------------------

    def ask(self, question: Callable[[], T]) -> T | None:
        """What Redis says to a question; None when it does not answer. Nobody waits while it is known not to."""
        if not self._breaker.closed:
            return None
        try:
            return question()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            self._breaker.trip(error)
        except redis.RedisError as error:
            log.warning("redis_refuses", error=str(error))
        return None

    def _get(self, name: str) -> tuple[_Entry, int] | None:
        def question() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.get(self._prefix + name)
                pipeline.pttl(self._prefix + name)
                return pipeline.execute()

        answer = self.ask(question)
        self._send_tally()
        if answer is None or answer[0] is None or answer[1] < 0:
            return None
        entry = _Entry.parse(answer[0])
        return None if entry is None else (entry, int(answer[1]))

    def _put(self, name: str, kind: str, entry: _Entry, ttl_ms: int, tags: Sequence[str], token: str) -> bool:
        """Keep an entry and give the lock of ``token`` back; False when neither happened."""
        value = entry.packed()
        if len(value) > self._limits.entry_bytes:
            NOT_KEPT.labels(kind, "too_large").inc()
            return False
        limits = (self._limits.bytes, self._limits.entries)
        arguments: list[str | bytes | int] = [name, value, max(ttl_ms, 1), *limits]
        arguments += [self._locks + name, token, *(_tag(tag) for tag in tags)]
        evicted: Any = self.ask(lambda: self._put_script(keys=[self._prefix, self._base], args=arguments))
        if evicted is None:
            NOT_KEPT.labels(kind, "unavailable").inc()
            return False
        EVICTED.inc(evicted)
        return True

    def _lock(self, name: str) -> str | None:
        """The token of the lock on a name; None when another process has it, or Redis is away."""
        token = secrets.token_hex(8)
        key, lock_ms = self._locks + name, round(self._limits.lock_s * 1000)
        return token if self.ask(lambda: self._client.set(key, token, nx=True, px=lock_ms)) else None

    def _wait(self, name: str) -> tuple[_Entry, int] | None:
        """What the process that has the lock makes; None when it gives up, or patience ends, or Redis goes."""
        deadline = time.monotonic() + self._limits.patience_s
        pause = 0.005
        while self._breaker.closed and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)
            held = self.ask(lambda: self._client.exists(self._locks + name))
            if (found := self._get(name)) is not None:
                return found
            if not held:
                break
        return None

    def count(self, kind: str, result: str, number: int = 1) -> None:
        """Count lookups of a kind; also such as are made otherwise than through :meth:`get_or_make`."""
        if not number:
            return
        LOOKUPS.labels(kind, result).inc(number)
        what = "hits" if result in ("hit", "early", "joined") else "misses"
        with self._guard:
            self._tally[f"{what}:{kind}"] += number

    def _send_tally(self, *, force: bool = False) -> None:
        """Add to what all processes count, once a second: for :meth:`stats`; Prometheus counts by itself."""
        with self._guard:
            if not self._tally or not (force or time.monotonic() - self._tallied_at > 1.0):
                return
            tally, self._tally, self._tallied_at = self._tally, Tally(), time.monotonic()
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hsetnx(f"{self._base}:totals", "since", time.time_ns() // 1_000_000)
            for name, number in tally.items():
                pipeline.hincrby(f"{self._base}:totals", name, number)
            self.ask(pipeline.execute)


@dataclass(frozen=True)
class _Entry:
    """What Redis holds: a line of JSON, then the body. ``cost_ms``: what making it took."""

    cached: Cached
    cost_ms: float

    @classmethod
    def of(cls, cached: Cached, cost_ms: float) -> _Entry:
        return cls(replace(cached, hit=True), cost_ms)

    def packed(self) -> bytes:
        said = {
            "media_type": self.cached.media_type,
            "headers": dict(self.cached.headers),
            "gzipped": self.cached.gzipped,
            "cost_ms": round(self.cost_ms, 3),
        }
        return json.dumps(said).encode() + b"\n" + self.cached.body

    @classmethod
    def parse(cls, value: bytes) -> _Entry | None:
        """None for what is no entry."""
        line, newline, body = value.partition(b"\n")
        try:
            said = json.loads(line)
            cached = Cached(body, said["media_type"], said["headers"], said["gzipped"], hit=True)
            return cls(cached, float(said["cost_ms"])) if newline else None
        except (ValueError, KeyError, TypeError):
            return None


def entry_name(kind: str, parts: Sequence[str]) -> str:
    """``kind:part:part``, each quoted: what :meth:`SharedCache.invalidate` compares with a prefix."""
    return ":".join(quote(part, safe="") for part in (kind, *parts))


def _tag(tag: str) -> str:
    return quote(tag, safe="")


def _due_early(entry: _Entry, left_ms: int) -> bool:
    """XFetch (Vattani, Chierichetti, Lowenstein 2015, with beta = 1): before its end with rising probability, the
    earlier the longer it takes to make, so that its end finds it made and not all of its readers at once."""
    return -entry.cost_ms * math.log(1.0 - random.random()) >= left_ms  # noqa: S311 - no secret


def _answer(made: Made, gzip: bool, *, hit: bool) -> Cached:
    if gzip and _worth_packing(made.body):
        return Cached(_packed(made.body), made.media_type, made.headers, gzipped=True, hit=hit)
    return Cached(made.body, made.media_type, made.headers, gzipped=False, hit=hit)


def _accepted(cached: Cached, gzip: bool) -> Cached:
    """As the caller takes it."""
    if cached.gzipped and not gzip:
        return replace(cached, body=zlib.decompress(cached.body, 31), gzipped=False)
    return cached


def _worth_packing(body: bytes) -> bool:
    return len(body) >= 1024


def _packed(body: bytes) -> bytes:
    # the lowest level: a tenth of JSON's size at a third of the usual level's time
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()
