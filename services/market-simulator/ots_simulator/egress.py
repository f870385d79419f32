"""The sending side of one live connection: bounded, compressed if asked, and able to fail in every way."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass

import numpy as np
import zstandard

from ots_simulator.merging import Batch

_PIECE_BYTES = 64 * 2**10
_FLUSH_WAIT_S = 2.0


@dataclass
class Throttle:
    """How the next ``records`` records are sent: byte by byte, or at ``bytes_per_s``."""

    records: int
    bytes_per_s: int | None


class Egress:
    """Writes records to ``writer``; waits while the reader is behind by more than ``buffer_bytes``."""

    def __init__(self, writer: asyncio.StreamWriter, *, buffer_bytes: int, compressed: bool, ts_out: bool) -> None:
        self._writer = writer
        self._compressor = zstandard.ZstdCompressor(level=1).compressobj() if compressed else None
        self._ts_out = ts_out
        self._loop = asyncio.get_running_loop()
        self.last_sent = self._loop.time()
        self.throttle: Throttle | None = None
        writer.transport.set_write_buffer_limits(high=buffer_bytes)

    async def send(self, data: bytes) -> None:
        """Send ``data`` as it is. Raises ConnectionError when the reader is gone."""
        self._writer.write(self._packed(data))
        await self._writer.drain()
        self.last_sent = self._loop.time()

    async def send_message(self, data: bytes, now_ns: int) -> None:
        """Send one record or several of one size of the gateway's own."""
        size = data[0] * 4
        ends = np.arange(size, len(data) + 1, size, dtype=np.int64)
        unused = np.zeros(len(ends), np.int64)
        await self.send_records(Batch(np.frombuffer(data, np.uint8), ends, unused, unused), now_ns)

    async def send_records(self, batch: Batch, now_ns: int) -> None:
        """Send whole records, ``now_ns`` behind each if the session asked for ``ts_out``."""
        at = 0
        while at < len(batch):
            begin = int(batch.ends[at - 1]) if at else 0
            upto = max(at + 1, int(np.searchsorted(batch.ends, begin + _PIECE_BYTES, side="right")))
            if self.throttle is not None:
                upto = min(upto, at + 1)
            piece = batch.part(at, upto)
            data = _stamped(piece, now_ns) if self._ts_out else piece.data.tobytes()
            await (self.send(data) if self.throttle is None else self._throttled(data, self.throttle))
            at = upto

    async def flushed(self) -> None:
        """Wait, but not long, until the kernel of the reader has all that was sent."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        deadline = self._loop.time() + _FLUSH_WAIT_S
        while self._loop.time() < deadline:
            waiting = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
            if not waiting and not self._writer.transport.get_write_buffer_size():
                return
            await asyncio.sleep(0.005)

    async def reset(self, partial: bytes) -> None:
        """Send ``partial``, the beginning of a record, and reset the connection (RST)."""
        await self.send(partial)
        await self.flushed()
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """End the stream where it is: what was sent arrives, then EOF."""
        if self._compressor is not None and not self._writer.is_closing():
            self._writer.write(self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
            self._compressor = None
        self._writer.close()

    def _packed(self, data: bytes) -> bytes:
        if self._compressor is None:
            return data
        packed: bytes = self._compressor.compress(data) + self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return packed

    async def _throttled(self, data: bytes, throttle: Throttle) -> None:
        packed = self._packed(data)
        if throttle.bytes_per_s is None:
            for at in range(len(packed)):
                self._writer.write(packed[at : at + 1])
                await self._writer.drain()
                await asyncio.sleep(0)
        else:
            self._writer.write(packed)
            await self._writer.drain()
            await asyncio.sleep(len(packed) / throttle.bytes_per_s)
        self.last_sent = self._loop.time()
        throttle.records -= 1
        if throttle.records <= 0:
            self.throttle = None


def _stamped(batch: Batch, now_ns: int) -> bytes:
    """The records with ``now_ns`` behind each, their lengths as long."""
    data = batch.data.copy()
    data[batch.starts] += 2
    stamp = np.frombuffer(np.uint64(now_ns).tobytes(), np.uint8)
    return np.insert(data, np.repeat(batch.ends, 8), np.tile(stamp, len(batch))).tobytes()
