"""Whether the market is open: from the exchange calendar of the market source, and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from ots_common.times import to_datetime
from ots_market.sessions import Sessions

_NEW_YORK = ZoneInfo("America/New_York")
# US equities trade off the exchange's regular session too: pre-market from 04:00, post-market to 20:00 New York, to
# 17:00 after a half day (NYSE Arca's hours; Nasdaq's are the same)
_PRE_NS = 5 * 3600 * 10**9 + 1800 * 10**9
_POST_NS = 4 * 3600 * 10**9


@dataclass(frozen=True)
class Session:
    """One session; ``opens_ns`` and ``closes_ns`` in ns since 1970."""

    date: date
    opens_ns: int
    closes_ns: int
    half_day: bool


@dataclass(frozen=True)
class MarketStatus:
    """The market at one moment.

    ``phase``: ``regular``, ``pre-market``, ``post-market`` or ``closed``. ``why_closed``: ``holiday``, ``weekend`` or
    ``out of hours``; None when the regular session is on. ``current`` is the session in whose hours the moment lies.
    """

    open: bool
    phase: str
    why_closed: str | None
    local_date: date
    current: Session | None
    previous: Session | None
    next: Session | None


class OutsideCalendar(ValueError):
    """The calendar does not reach that moment."""


def session_at(sessions: Sessions, index: int) -> Session:
    """The session at ``index``."""
    opens, closes = int(sessions.opens[index]), int(sessions.closes[index])
    return Session(sessions.date_at(index), opens, closes, closes - opens < sessions.regular_ns)


def current_or_last(sessions: Sessions, at_ns: int) -> Session:
    """The session that is on at a moment, or else the last one before. Raises :class:`OutsideCalendar`."""
    index = int(np.searchsorted(sessions.opens, at_ns, side="right")) - 1
    if index < 0 or at_ns >= int(sessions.closes[-1]):
        raise OutsideCalendar(_reach(sessions))
    return session_at(sessions, index)


def session_of_date(sessions: Sessions, day: date) -> Session | None:
    """The session of a date; None when there is none. Raises :class:`OutsideCalendar`."""
    wanted = np.datetime64(day)
    if not sessions.dates[0] <= wanted <= sessions.dates[-1]:
        raise OutsideCalendar(_reach(sessions))
    index = int(np.searchsorted(sessions.dates, wanted))
    return session_at(sessions, index) if sessions.dates[index] == wanted else None


def local_day(sessions: Sessions, day: date) -> tuple[int, int]:
    """The calendar day of the market, [start, end) in ns: midnight to midnight in New York, or UTC around the clock."""
    zone = _zone(sessions)
    start, end = (
        to_datetime(0).astimezone(zone).replace(year=d.year, month=d.month, day=d.day, hour=0, minute=0)
        for d in (day, day + timedelta(days=1))
    )
    return int(start.timestamp()) * 10**9, int(end.timestamp()) * 10**9


def status_at(sessions: Sessions, at_ns: int) -> MarketStatus:
    """The market at ``at_ns``. Raises :class:`OutsideCalendar`."""
    index = int(np.searchsorted(sessions.opens, at_ns, side="right")) - 1
    if index < 0 or at_ns >= int(sessions.closes[-1]):
        raise OutsideCalendar(_reach(sessions))
    last = session_at(sessions, index)
    following = session_at(sessions, index + 1) if index + 1 < len(sessions.opens) else None
    is_open = at_ns < last.closes_ns
    local_date = to_datetime(at_ns).astimezone(_zone(sessions)).date()
    return MarketStatus(
        open=is_open,
        phase=_phase(at_ns, last, following),
        why_closed=None if is_open else _why_closed(sessions, local_date),
        local_date=local_date,
        current=last if is_open else None,
        previous=(session_at(sessions, index - 1) if index else None) if is_open else last,
        next=following,
    )


def _phase(at_ns: int, last: Session, following: Session | None) -> str:
    if at_ns < last.closes_ns:
        return "regular"
    if at_ns < last.closes_ns + _POST_NS:
        return "post-market"
    if following is not None and at_ns >= following.opens_ns - _PRE_NS:
        return "pre-market"
    return "closed"


def _why_closed(sessions: Sessions, local_date: date) -> str:
    if session_of_date(sessions, local_date) is not None:
        return "out of hours"
    return "weekend" if local_date.weekday() >= 5 else "holiday"


def _zone(sessions: Sessions) -> ZoneInfo:
    return _NEW_YORK if sessions.name == "XNYS" else ZoneInfo("UTC")


def _reach(sessions: Sessions) -> str:
    return f"the calendar {sessions.name} reaches from {sessions.dates[0]} to {sessions.dates[-1]}"
