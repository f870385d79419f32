"""One connection to the feed by Databento's own client, which never reconnects here: that is the supervisor's business.

The client runs on an event loop of this connection's own, so that a full disk holds up this connection alone.
"""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import structlog
from databento.common.error import BentoError
from databento_dbn import ErrorMsg, SystemMsg

from ots_ingestion import vendor
from ots_ingestion.segments import ERROR, SpoolStream
from ots_ingestion.settings import IngestionSettings

log = structlog.get_logger(__name__)

_SYSTEM_LAYOUT = np.dtype(SystemMsg._dtypes)
_ERROR_LAYOUT = np.dtype(ErrorMsg._dtypes)
HEARTBEAT, ACK, SLOW_READER, REPLAY_COMPLETED = 0, 1, 2, 3
UNRESOLVED, SKIPPED, AGED_OUT = 4, 7, 8


@dataclass(frozen=True)
class Control:
    """A message of the feed about itself. ``error``: an error message, else a system message."""

    error: bool
    code: int
    text: str
    at_ns: int


class ConnectError(Exception):
    """No session came about; the message is the vendor's, or the network's. ``refused``: the vendor said no."""

    def __init__(self, text: str, *, refused: bool) -> None:
        super().__init__(text)
        self.refused = refused


def read_control(record: bytes) -> Control:
    """The message in a system or error record."""
    is_error = record[1] == ERROR
    layout = _ERROR_LAYOUT if is_error else _SYSTEM_LAYOUT
    message = np.frombuffer(record, layout, count=1)[0]
    text = message["err" if is_error else "msg"].decode(errors="replace")
    at_ns = int(struct.unpack_from("<Q", record, 8)[0])
    return Control(is_error, int(message["code"]), text, at_ns if 0 < at_ns < 2**63 else time.time_ns())


class LiveSession:
    """A connection from subscribing to its end; its records go to ``stream``."""

    def __init__(self, settings: IngestionSettings, dataset: str, stream: SpoolStream) -> None:
        self._dataset = dataset
        self.stream = stream
        self.started = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"live-{dataset}", daemon=True)
        self._thread.start()
        self._client = vendor.live(
            settings,
            heartbeat_interval_s=settings.heartbeat_s,
            reconnect_policy="none",
            slow_reader_behavior="warn",  # every record, however late: the spool is on a disk
            loop=self._loop,
        )
        self._client.add_stream(cast(IO[bytes], stream))
        self.authenticating = False
        self._watch_authentication()
        self._transport: asyncio.Transport | None = None
        self._ended: Future[None] | None = None

    def connect(
        self, schemas: Sequence[str], symbols: Sequence[str], stype_in: str, starts: dict[str, int | None]
    ) -> Future[None]:
        """Connect, authenticate, subscribe to each schema from its start, and let it flow, in a thread of its own.

        The future raises :class:`ConnectError`.
        """
        future: Future[None] = Future()

        def work() -> None:
            try:
                self._connect(schemas, symbols, stype_in, starts)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)

        threading.Thread(target=work, name=f"connect-{self._dataset}", daemon=True).start()
        return future

    def _connect(
        self, schemas: Sequence[str], symbols: Sequence[str], stype_in: str, starts: dict[str, int | None]
    ) -> None:
        try:
            for schema in schemas:
                self._client.subscribe(
                    dataset=self._dataset,
                    schema=schema,
                    symbols=list(symbols),
                    stype_in=stype_in,
                    start=starts.get(schema),
                )
                # kept, because the client forgets it at the end without closing it after a timeout
                self._transport = self._client._session._transport
            self._client.start()
        except BentoError as error:
            # what the network says reads "Connection to ... failed" or "... timed out"; all else was said by the vendor
            network = str(error).startswith(("Connection to", "Authentication with"))
            raise ConnectError(str(error), refused=not network) from error
        except (OSError, ValueError, CancelledError) as error:
            raise ConnectError(str(error) or type(error).__name__, refused=False) from error
        self.started = time.monotonic()
        self._ended = asyncio.run_coroutine_threadsafe(self._client.wait_for_close(), self._loop)

    def _watch_authentication(self) -> None:
        """The client waits 30 s for the answer to its key even when the connection is gone: tell it."""
        session = self._client._session
        make = session._create_protocol

        def watched(dataset: str) -> Any:
            protocol = make(dataset)
            self.authenticating = True

            def give_up(_: object) -> None:
                if not protocol.authenticated.done():
                    protocol.authenticated.set_exception(
                        BentoError(f"Connection to {self._dataset} was closed before the key was answered")
                    )

            protocol.disconnected.add_done_callback(give_up)
            return protocol

        session._create_protocol = watched  # type: ignore[method-assign]

    @property
    def session_id(self) -> str | None:
        """The vendor's name of this session."""
        return self._client.session_id

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self._ended is not None and self._ended.done()

    @property
    def cause(self) -> str:
        """Why it is over."""
        error = self._ended.exception() if self._ended is not None and self._ended.done() else None
        return "the feed closed the connection" if error is None else str(error) or type(error).__name__

    @property
    def silence_s(self) -> float:
        """How long nothing at all has come."""
        return time.monotonic() - max(self.started, self.stream.last_any or 0.0)

    @property
    def drought_s(self) -> float:
        """How long no data record has come."""
        return time.monotonic() - max(self.started, self.stream.last_data or 0.0)

    def controls(self) -> list[Control]:
        """The messages that came since the last call."""
        found = []
        while self.stream.controls:
            found.append(read_control(self.stream.controls.popleft()))
        return found

    def _end_loop(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_soon(self._loop.stop)

    def close(self) -> None:
        """End the connection at once, and write and sync what was received."""
        if self._transport is not None:
            self._loop.call_soon_threadsafe(self._transport.abort)
        if self._ended is not None:
            try:
                self._ended.exception(timeout=2.0)
            except (TimeoutError, asyncio.CancelledError):
                log.warning("feed_did_not_close", dataset=self._dataset)
        self._loop.call_soon_threadsafe(self._end_loop)
        self._thread.join(2.0)
        self.stream.close()
        if not self._thread.is_alive():
            self._loop.close()
