"""The indicators of `ots_quant.indicators.sessions`, one closed bar at a time."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque

from ots_quant.indicators.history import Bar
from ots_quant.indicators.panels import above_zero, whole
from ots_quant.indicators.streaming.stream import Stream, Value


class SessionStream(Stream):
    """A stream that is told when a session begins; outside of sessions its value is NaN and its state rests."""

    def __init__(self, inputs: tuple[str, ...], outputs: int, *, slots: bool = False, positive: bool = False) -> None:
        super().__init__(inputs, outputs, positive=positive)
        self._unknown = self.value
        self._session, self._slot, self._slots = -1, -1, slots

    def _check(self, bar: Bar, inputs: tuple[float, ...]) -> None:
        super()._check(bar, inputs)
        if bar.session < 0:
            return
        if bar.session < self._session:
            raise ValueError("session must not go back in time")
        if self._slots and bar.slot <= (self._slot if bar.session == self._session else -1):
            raise ValueError("slot must grow within a session, from 0 on")

    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        if bar.session < 0:
            return self._unknown
        if bar.session != self._session:
            self._begin(bar)
        self._session, self._slot = bar.session, bar.slot
        return self._inside(bar)

    def _begin(self, bar: Bar) -> None:
        """A session begins with ``bar``, of which `_inside` will be told next."""

    @abstractmethod
    def _inside(self, bar: Bar) -> Value:
        """The value at a bar of a session."""


class _Vwap(SessionStream):
    def __init__(self, deviations: float) -> None:
        super().__init__(("high", "low", "close", "volume"), 3)
        self._deviations = above_zero("deviations", deviations, 1e6)
        self._weight = self._mean = self._squares = 0.0

    def _begin(self, bar: Bar) -> None:
        self._weight = self._mean = self._squares = 0.0

    def _inside(self, bar: Bar) -> Value:
        if bar.volume > 0:
            price = (bar.high + bar.low + bar.close) / 3
            first = self._weight == 0
            self._weight += bar.volume
            step = price - self._mean
            self._mean = price if first else self._mean + step * (bar.volume / self._weight)
            self._squares += bar.volume * step * (price - self._mean)
        if not self._weight > 0:
            return self._unknown
        band = self._deviations * math.sqrt(max(self._squares / self._weight, 0.0))
        return (self._mean, self._mean + band, self._mean - band)


class _AnchoredVwap(_Vwap):
    def _next(self, bar: Bar, inputs: tuple[float, ...]) -> Value:
        return self._inside(bar)

    def _check(self, bar: Bar, inputs: tuple[float, ...]) -> None:
        # sessions are not looked at
        Stream._check(self, bar, inputs)


class _OpeningRange(SessionStream):
    def __init__(self, slots: int) -> None:
        super().__init__(("high", "low"), 2, slots=True)
        self._until = slots
        self._high, self._low = -math.inf, math.inf

    def _begin(self, bar: Bar) -> None:
        self._high, self._low = -math.inf, math.inf

    def _inside(self, bar: Bar) -> Value:
        if bar.slot < self._until:
            self._high, self._low = max(self._high, bar.high), min(self._low, bar.low)
        known = bar.slot >= self._until - 1 and self._high >= self._low
        return (self._high, self._low) if known else self._unknown


class _RelativeVolume(SessionStream):
    def __init__(self, sessions: int) -> None:
        super().__init__(("volume",), 2, slots=True)
        self._sessions = sessions
        self._number = -1
        self._past: dict[int, deque[tuple[int, float, float]]] = {}
        self._so_far = 0.0

    def _begin(self, bar: Bar) -> None:
        self._number += 1
        self._so_far = 0.0

    def _inside(self, bar: Bar) -> Value:
        self._so_far += bar.volume
        past = self._past.setdefault(bar.slot, deque())
        while past and past[0][0] < self._number - self._sessions:
            past.popleft()
        value = self._unknown
        if past and self._number >= self._sessions:
            _, usual, usual_so_far = (sum(column) / len(past) for column in zip(*past, strict=True))
            value = (
                bar.volume / usual if usual > 0 else math.nan,
                self._so_far / usual_so_far if usual_so_far > 0 else math.nan,
            )
        past.append((self._number, bar.volume, self._so_far))
        return value


class _Pivots(SessionStream):
    def __init__(self) -> None:
        super().__init__(("high", "low", "close"), 7)
        self._high, self._low, self._close = -math.inf, math.inf, math.nan
        self._levels = self._unknown

    def _begin(self, bar: Bar) -> None:
        if self._session >= 0:
            h, low = self._high, self._low
            p = (h + low + self._close) / 3
            above = (2 * p - low, p + (h - low), h + 2 * (p - low))
            self._levels = (p, *above, 2 * p - h, p - (h - low), low - 2 * (h - p))
        self._high, self._low = -math.inf, math.inf

    def _inside(self, bar: Bar) -> Value:
        self._high, self._low, self._close = max(self._high, bar.high), min(self._low, bar.low), bar.close
        return self._levels


class _Gap(SessionStream):
    def __init__(self) -> None:
        super().__init__(("open", "close"), 1, positive=True)
        self._close = math.nan
        self._gap = math.nan

    def _begin(self, bar: Bar) -> None:
        self._gap = bar.open / self._close - 1

    def _inside(self, bar: Bar) -> Value:
        self._close = bar.close
        return self._gap


def vwap(deviations: float) -> Stream:
    """As `indicators.vwap`."""
    return _Vwap(deviations)


def anchored_vwap(deviations: float) -> Stream:
    """As `indicators.anchored_vwap`, anchored at the first bar that it is given."""
    return _AnchoredVwap(deviations)


def opening_range(slots: int) -> Stream:
    """As `indicators.opening_range`."""
    return _OpeningRange(whole("slots", slots, 1))


def relative_volume(sessions: int) -> Stream:
    """As `indicators.relative_volume`; an update costs as much as ``sessions`` numbers."""
    return _RelativeVolume(whole("sessions", sessions, 1, 10_000))


def pivots() -> Stream:
    """As `indicators.pivots`."""
    return _Pivots()


def gap() -> Stream:
    """As `indicators.gap`."""
    return _Gap()
