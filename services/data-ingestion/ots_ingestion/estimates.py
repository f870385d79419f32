"""What a question to history would bring and cost, asked of the vendor before anything is bought."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ots_ingestion.backfill_plan import Estimate, Want, Window
from ots_ingestion.vendor import Vendor
from ots_market.sessions import Sessions
from ots_market.timeframes import DAY_NS

_AT_ONCE = 4
# a want with more windows than this is estimated from a few of them
_EXACT_WINDOWS = 6


def estimate_all(
    vendor: Vendor, wants: Sequence[Want], sessions: Sessions, *, rough: bool = False
) -> list[tuple[Want, Estimate]]:
    """Each want with its estimate; ``rough``: from its last day alone.

    Raises :class:`~ots_ingestion.vendor.VendorError`.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        estimates = pool.map(lambda want: _estimate(vendor, want, sessions, rough), wants)
        return list(zip(wants, estimates, strict=True))


def total(estimated: Sequence[tuple[Want, Estimate]]) -> Estimate:
    """All together."""
    found = [estimate for _, estimate in estimated]
    return Estimate(
        sum(e.records for e in found),
        sum(e.bytes for e in found),
        sum(e.usd for e in found),
        any(e.sampled for e in found),
    )


def _estimate(vendor: Vendor, want: Want, sessions: Sessions, rough: bool) -> Estimate:
    samples = [_last_day(want.windows[-1], sessions)] if rough else list(_spread(want.windows))
    found = [_ask(vendor, want, window) for window in samples]
    if samples == list(want.windows):
        scale = 1.0
    elif rough and len(want.windows) == 1:
        scale = _length(want.windows, sessions) / max(_length(samples, sessions), 1e-9)
    else:
        scale = len(want.windows) / len(samples)
    return Estimate(
        round(sum(e.records for e in found) * scale),
        round(sum(e.bytes for e in found) * scale),
        sum(e.usd for e in found) * scale,
        sampled=scale != 1.0,
    )


def _ask(vendor: Vendor, want: Want, window: Window) -> Estimate:
    request = want.request(window)
    return Estimate(vendor.record_count(request), vendor.billable_size(request), vendor.cost(request))


def _spread(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """All, or a few of them from the first to the last."""
    if len(windows) <= _EXACT_WINDOWS:
        return windows
    last = len(windows) - 1
    return tuple(windows[last * i // (_EXACT_WINDOWS - 1)] for i in range(_EXACT_WINDOWS))


def _last_day(window: Window, sessions: Sessions) -> Window:
    """The last whole UTC day of the window that has a session; the window itself where it is no longer than that."""
    end = window[1] // DAY_NS * DAY_NS
    while end - DAY_NS >= window[0]:
        found = sessions.between(end - DAY_NS, end)
        if found.stop > found.start:
            return end - DAY_NS, end
        end -= DAY_NS
    return window


def _length(windows: Sequence[Window], sessions: Sessions) -> int:
    return sum(found.stop - found.start for found in (sessions.between(*window) for window in windows))
