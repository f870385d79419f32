"""Databento's live gateway: challenge, subscriptions, intraday replay, mappings, heartbeats, and its ways to fail."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from databento_dbn import SystemCode

from ots_simulator import metrics
from ots_simulator.clock import Clock
from ots_simulator.egress import Egress, Throttle
from ots_simulator.faults import Armed, Faults, Triggers
from ots_simulator.handshake import Greeting, RefusedError, admit, fields_of
from ots_simulator.merging import EMPTY, Batch, merge
from ots_simulator.settings import SimulatorSettings
from ots_simulator.sources import ALL_SYMBOLS, Source
from ots_simulator.subscriptions import (
    Identity,
    InvalidSubscriptionError,
    Subscription,
    identify,
    identities,
    mapping_messages,
    parse_subscription,
    unresolved,
)
from ots_simulator.wire import (
    BAR_NS,
    DAY_NS,
    HEARTBEAT,
    REPLAY_COMPLETED,
    SKIPPABLE,
    SLOW_READER,
    SUBSCRIPTION_ACK,
    Records,
    error_message,
    live_metadata,
    system_message,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

_VERSION = "0.6.2"
_THREADS = 4
_LINE_BYTES = 2**20
_AUTHENTICATION_S = 30.0
_TEXT_BYTES = 290
_NOT_FATAL = frozenset({4, 7})
UNRESOLVED, INVALID, INTERNAL, SKIPPED, AGED_OUT = 4, 5, 6, 7, 8


class SessionEnd(Exception):
    """The gateway ends the session."""


@dataclass(eq=False)
class Part:
    """What is sent of one schema: records that become known from ``from_ns`` on, with index times from ``since_ns`` on.

    ``who``: raw symbols on the day; None is everyone.
    """

    asked: Subscription
    from_ns: int
    since_ns: int
    replaying: bool
    who: frozenset[str] | None = field(default_factory=frozenset)


class LiveGateway:
    """A TCP server of live sessions over a market."""

    def __init__(self, source: Source, clock: Clock, faults: Faults, settings: SimulatorSettings) -> None:
        self.source = source
        self.clock = clock
        self.faults = faults
        self.settings = settings
        self.numbers = itertools.count(1)
        self.open: dict[str, set[Session]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        # apart from history's, so that a long count there keeps nobody waiting here
        self._pool = ThreadPoolExecutor(_THREADS, "live")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do ``work`` in a thread, since a market takes its time to answer."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(
            self._serve, self.settings.simulator_bind, self.settings.simulator_live_port, limit=_LINE_BYTES
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Take no more sessions and end those that are, each with EOF behind what was sent."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        self._tasks.add(task)
        try:
            await Session(self, reader, writer).run()
        except (ConnectionError, TimeoutError, SessionEnd) as end:
            _log.info("live session ended: %s", end or type(end).__name__)
        except asyncio.CancelledError:
            _log.info("live session ended: the gateway stops")
        except Exception:
            _log.exception("live session failed")
        finally:
            self._tasks.discard(task)
            writer.close()


class Session:
    """One connection from greeting to end."""

    def __init__(self, gateway: LiveGateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._gateway = gateway
        self._reader = reader
        self._writer = writer
        self._pending: dict[str, Subscription] = {}
        self._complaints: list[tuple[int, str]] = []
        self._asked: list[Subscription] = []
        self._parts: list[Part] = []
        self._day: int | None = None
        self._told: dict[str, Identity] = {}
        self._exchanged: dict[int, int] = {}
        self._skipping: tuple[Armed, int] | None = None
        self._warned = False
        self._delayed = False

    async def run(self) -> None:
        """Serve until either side ends. Raises :class:`SessionEnd`, ConnectionError, TimeoutError."""
        if self._gateway.faults.fire("", None, "refuse"):
            raise SessionEnd("refused by a fault")
        greeting = await asyncio.wait_for(self._authenticate(), _AUTHENTICATION_S)
        self._greeting = greeting
        mine = self._gateway.open.setdefault(greeting.dataset, set())
        mine.add(self)
        gauge = metrics.LIVE_SESSIONS.labels(greeting.dataset)
        gauge.set(len(mine))
        try:
            await self._read_until_start()
            await self._stream_and_listen()
        finally:
            mine.discard(self)
            gauge.set(len(mine))

    @property
    def _now(self) -> int:
        return self._gateway.clock.now()

    # -- opening ---------------------------------------------------------------------------------------------------

    async def _authenticate(self) -> Greeting:
        """Challenge the client. Raises :class:`SessionEnd` when it may not come in, after telling it why."""
        gateway = self._gateway
        challenge = secrets.token_urlsafe(24)
        self._writer.write(f"lsg_version={_VERSION}\ncram={challenge}\n".encode())
        fields = fields_of(await self._line())
        try:
            greeting = admit(fields, challenge, gateway.source, gateway.settings)
            if len(gateway.open.get(greeting.dataset, ())) >= gateway.settings.simulator_max_sessions:
                raise RefusedError("User has reached their open connection limit.")
            if (fault := gateway.faults.fire(greeting.dataset, None, "auth")) is not None:
                raise RefusedError(fault.message or "Authentication failed.")
        except RefusedError as refusal:
            self._writer.write(f"success=0|error={refusal}\n".encode())
            await self._writer.drain()
            raise SessionEnd(str(refusal)) from None
        self._writer.write(f"success=1|session_id={next(gateway.numbers)}\n".encode())
        await self._writer.drain()
        return greeting

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readline()
        except ValueError as error:
            raise SessionEnd(f"a line of more than {_LINE_BYTES} bytes") from error
        if not line.endswith(b"\n"):
            raise SessionEnd("the client left")
        return line

    async def _read_until_start(self) -> None:
        # nothing may be sent before the session starts: complaints wait
        while True:
            line = await self._line()
            if line.startswith(b"start_session="):
                return
            self._take(line)

    def _take(self, line: bytes) -> Subscription | None:
        """The subscription that a line completes."""
        try:
            made, last = parse_subscription(fields_of(line))
        except InvalidSubscriptionError as error:
            self._complaints.append((INVALID, str(error)))
            return None
        if made.number in self._pending:
            made = self._pending.pop(made.number).extended(made)
        if not last:
            self._pending[made.number] = made
            return None
        self._asked.append(made)
        return made

    # -- streaming -------------------------------------------------------------------------------------------------

    async def _stream_and_listen(self) -> None:
        self._late: list[Subscription] = []
        self._triggers = Triggers(self._gateway.faults, self._greeting.dataset)
        self._egress = Egress(
            self._writer,
            buffer_bytes=self._gateway.settings.simulator_send_buffer_bytes,
            compressed=self._greeting.compressed,
            ts_out=self._greeting.ts_out,
        )
        streaming = asyncio.ensure_future(self._stream())
        listening = asyncio.ensure_future(self._listen())
        try:
            done, _ = await asyncio.wait({streaming, listening}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (ConnectionError, SessionEnd):
            raise
        except Exception:
            await self._error(INTERNAL, "An internal error of the simulator")
            raise
        finally:
            for task in (streaming, listening):
                task.cancel()
            await asyncio.gather(streaming, listening, return_exceptions=True)
            self._egress.close()

    async def _listen(self) -> None:
        """Subscriptions of a running session; they get no replay."""
        while True:
            made = self._take(await self._line())
            if made is not None:
                self._late.append(made)

    async def _stream(self) -> None:
        greeting, gateway = self._greeting, self._gateway
        now = self._now
        await self._egress.send(live_metadata(greeting.dataset, now, ts_out=greeting.ts_out))
        for one in self._asked:
            await self._subscribe(one, now, may_replay=True)
        await self._complain()
        cursor = min((part.from_ns for part in self._parts), default=now)
        while True:
            now = self._now
            late, self._late = self._late, []
            for one in late:
                await self._subscribe(one, now, may_replay=False)
            await self._complain()
            if now > cursor:
                await self._play(cursor, now, await self._left_out(cursor, now))
                cursor = now
            behind = self._now - cursor
            if behind < 1e9 * max(1.0, gateway.clock.speed):
                await self._caught_up()
                await self._send(EMPTY)
            if asyncio.get_running_loop().time() - self._egress.last_sent >= greeting.heartbeat_s:
                await self._heartbeat()
            await asyncio.sleep(gateway.settings.simulator_tick_ms / 1000)

    async def _subscribe(self, asked: Subscription, now: int, *, may_replay: bool) -> None:
        source, dataset = self._gateway.source, self._greeting.dataset
        if asked.schema not in source.schemas()[dataset]:
            await self._fail(INVALID, f"Schema {asked.schema} is not available for {dataset}")
        start = asked.start_ns if may_replay else None
        oldest = now - int(self._gateway.settings.simulator_replay_hours * 3600e9)
        if start is not None and (
            0 < start < oldest or self._gateway.faults.fire(dataset, asked.schema, "aged-out") is not None
        ):
            await self._fail(AGED_OUT, f"Replay data of {asked.schema} from {start} is no longer retained")
        from_ns = now if start is None else min(now, max(start, oldest, source.span(dataset)[0]))
        part = Part(asked, from_ns, from_ns if start is None else max(start, from_ns), start is not None)
        if start is None:
            part.since_ns -= _delay(part)  # the first bar is the one that is forming
        found = await self._gateway.run(identify, source, dataset, asked, from_ns // DAY_NS, now // DAY_NS + 1)
        missing = unresolved(asked, found)
        await self._tell(f"Subscription request {asked.number} for {asked.schema} data succeeded", SUBSCRIPTION_ACK)
        if missing:
            await self._error(UNRESOLVED, f"Failed to resolve symbols: {', '.join(missing)}")
        self._parts.append(part)
        self._triggers.schemas.append(asked.schema)
        if self._day is not None:
            await self._introduce([part], self._day)

    async def _play(self, start_ns: int, end_ns: int, left_out: frozenset[str]) -> None:
        """Send what happened in [start, end), day by day, since ids change with the UTC day."""
        for day in range(start_ns // DAY_NS, (end_ns - 1) // DAY_NS + 1):
            first, last = max(start_ns, day * DAY_NS), min(end_ns, (day + 1) * DAY_NS)
            if day != self._day:
                self._end_exchange()
                await self._introduce(self._parts, day)
                self._day = day
            batches = merge(
                [self._records(part, first, last, left_out) for part in self._parts],
                [_delay(part) for part in self._parts],
            )
            while (batch := await self._gateway.run(next, batches, None)) is not None:
                await self._send(batch)

    def _records(self, part: Part, start_ns: int, end_ns: int, left_out: frozenset[str]) -> Iterator[Records]:
        """What becomes known in [start, end)."""
        delay = _delay(part)
        start_ns, end_ns = max(start_ns - delay, part.since_ns), end_ns - delay
        if start_ns >= end_ns or part.asked.schema in left_out or part.who == frozenset():
            return iter(())
        return self._gateway.source.records(self._greeting.dataset, part.asked.schema, part.who, start_ns, end_ns)

    async def _introduce(self, parts: Sequence[Part], day: int) -> None:
        """Say who has which id on ``day``, where that is new."""
        source, dataset = self._gateway.source, self._greeting.dataset
        news: dict[str, Identity] = {}
        taken: dict[str, set[str]] = {}
        for part in self._parts:
            if part not in parts:
                taken.setdefault(part.asked.schema, set()).update(self._told if part.who is None else part.who)
        # whoever is asked for twice belongs to the subscription that reaches further back
        for part in sorted(parts, key=lambda part: part.since_ns):
            found = await self._gateway.run(identify, source, dataset, part.asked, day, day + 1)
            mine = taken.setdefault(part.asked.schema, set())
            who = {one.raw_symbol for one in found} - mine
            part.who = None if ALL_SYMBOLS in part.asked.symbols and not mine else frozenset(who)
            mine |= who
            for one in identities(part.asked, found):
                known = self._told.get(one.raw_symbol)
                if known is None or known.vendor_id != one.vendor_id:
                    news[one.raw_symbol] = one
        self._told |= news
        if news:
            await self._egress.send_message(mapping_messages(list(news.values()), day, self._now), self._now)

    async def _left_out(self, cursor: int, now: int) -> frozenset[str]:
        """The schemas of which a reader that is too slow gets nothing for [cursor, now)."""
        if self._delayed or any(part.replaying for part in self._parts):
            return frozenset()  # it is behind, but not by its own fault
        slow = now - cursor > self._gateway.settings.simulator_slow_reader_s * 1e9 * self._gateway.clock.speed
        if not slow:
            self._warned = False
            return frozenset()
        if self._greeting.slow_reader == "warn":
            if not self._warned:
                await self._tell("Slow reader detected: falling behind real time", SLOW_READER)
            self._warned = True
            return frozenset()
        lost = frozenset(part.asked.schema for part in self._parts) & SKIPPABLE
        if lost:
            await self._error(SKIPPED, f"Skipped records of {', '.join(sorted(lost))} after slow reading")
        return lost

    async def _caught_up(self) -> None:
        self._delayed = self._egress.throttle is not None
        for part in self._parts:
            if part.replaying:
                part.replaying = False
                await self._tell(f"Finished {part.asked.schema} replay", REPLAY_COMPLETED)

    # -- sending and failing ---------------------------------------------------------------------------------------

    async def _send(self, batch: Batch) -> None:
        while True:
            batch = await self._skipped(batch)
            count, armed = self._triggers.next_due(batch, self._now)
            await self._deliver(batch.part(0, count))
            batch = batch.part(count, len(batch))
            if armed is None:
                return
            await self._strike(armed, batch)

    async def _deliver(self, batch: Batch) -> None:
        if not len(batch):
            return
        if self._exchanged:
            batch = batch.with_ids(self._exchanged)
        await self._egress.send_records(batch, self._now)
        metrics.LIVE_RECORDS.labels(self._greeting.dataset).inc(len(batch))

    async def _skipped(self, batch: Batch) -> Batch:
        """``batch`` without what a fault leaves out of it."""
        if self._skipping is None or not len(batch):
            return batch
        armed, left = self._skipping
        gone = np.flatnonzero(self._triggers.matching(armed.fault, batch))[:left]
        if not len(gone):
            return batch
        self._skipping = (armed, left - len(gone)) if left > len(gone) else None
        await self._error(SKIPPED, f"Skipped {len(gone)} records after slow reading")
        kept = np.ones(len(batch), bool)
        kept[gone] = False
        return batch.where(kept)

    async def _strike(self, armed: Armed, rest: Batch) -> None:
        """Let a fault happen before ``rest`` is sent."""
        fault = armed.fault
        metrics.FAULTS_FIRED.labels(fault.kind).inc()
        self._delayed |= fault.kind in ("mute", "trickle", "slow")
        match fault.kind:
            case "drop":
                raise SessionEnd("dropped by a fault")
            case "reset":
                record = rest.part(0, 1).data.tobytes() if len(rest) else system_message(0, "", HEARTBEAT)
                await self._egress.reset(record[: len(record) // 2])
                raise SessionEnd("reset by a fault")
            case "mute":
                await self._mute(armed)
            case "trickle":
                self._egress.throttle = Throttle(fault.records, None)
            case "slow":
                self._egress.throttle = Throttle(fault.records, fault.bytes_per_s)
            case "error":
                text = fault.message or "An error by a fault"
                await self._error(fault.code, text)
                if fault.close if fault.close is not None else fault.code not in _NOT_FATAL:
                    raise SessionEnd(text)
            case "skip":
                self._skipping = armed, fault.records
            case "remap":
                await self._remap(fault.symbols)

    async def _mute(self, armed: Armed) -> None:
        loop = asyncio.get_running_loop()
        until = None if armed.fault.seconds is None else loop.time() + armed.fault.seconds
        while not armed.deleted and (until is None or loop.time() < until):
            if armed.fault.heartbeats and loop.time() - self._egress.last_sent >= self._greeting.heartbeat_s:
                await self._heartbeat()
            await asyncio.sleep(0.02)

    async def _remap(self, symbols: tuple[str, ...]) -> None:
        """Exchange the ids of instruments in a ring, for the rest of the day, and say so."""
        ring = [self._told[symbol] for symbol in symbols or sorted(self._told) if symbol in self._told]
        if len(ring) < 2 or self._day is None:
            return
        now_has = {one.raw_symbol: self._exchanged.get(one.vendor_id, one.vendor_id) for one in ring}
        given = [now_has[one.raw_symbol] for one in ring[1:] + ring[:1]]
        told = []
        for one, vendor_id in zip(ring, given, strict=True):
            self._exchanged[one.vendor_id] = vendor_id
            told.append(Identity(vendor_id, one.raw_symbol, one.asked, one.stype_in))
        await self._egress.send_message(mapping_messages(told, self._day, self._now), self._now)

    def _end_exchange(self) -> None:
        """With a new day everybody has an id of their own again, which must be told."""
        if self._exchanged:
            self._exchanged, self._told = {}, {}

    async def _heartbeat(self) -> None:
        await self._egress.send_message(system_message(self._now, "Heartbeat", HEARTBEAT), self._now)

    async def _tell(self, text: str, code: SystemCode) -> None:
        await self._egress.send_message(system_message(self._now, text, code), self._now)

    async def _error(self, code: int, text: str) -> None:
        cut = text.encode()[:_TEXT_BYTES].decode(errors="ignore")
        await self._egress.send_message(error_message(self._now, cut, code), self._now)

    async def _fail(self, code: int, text: str) -> None:
        await self._error(code, text)
        raise SessionEnd(text)

    async def _complain(self) -> None:
        complaints, self._complaints = self._complaints, []
        for code, text in complaints:
            await self._fail(code, text)


def _delay(part: Part) -> int:
    """How long after its index time a record is known: a bar in the last nanosecond of its interval.

    Were it the first of the next, a day's last bars would come under the ids of another day.
    """
    return max(0, BAR_NS.get(part.asked.schema, 0) - 1)
