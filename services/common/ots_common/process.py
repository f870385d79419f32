"""What a process of ours does once, at its beginning and at its end, whatever its work is."""

from __future__ import annotations

from ots_common import database_timing, log_levels, logs, traces
from ots_common.settings import LogSettings, ServiceSettings


def begin(service: str, settings: LogSettings, *, level: str | None = None) -> None:
    """For a process without gunicorn: its lines, whatever Python says by itself, levels that can be changed."""
    logs.configure(service, settings, level=level)
    logs.take_over()
    watch(settings)


def begin_worker(service: str) -> None:
    """For a worker of gunicorn, which has configured its logs already: what needs a thread, and so comes after the
    fork.
    """
    watch(ServiceSettings())
    traces.start(service)


def end_worker() -> None:
    """Send and tell what is left."""
    traces.stop()


def watch(settings: LogSettings) -> None:
    """Levels at run time, floods that tell their end, slow queries."""
    log_levels.watch(settings if isinstance(settings, ServiceSettings) else None)
    database_timing.tell_slower_than(settings.slow_query_ms)
