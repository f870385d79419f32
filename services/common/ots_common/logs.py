"""Structured logs: every line of a process in one shape, whoever said it: us, gunicorn, a library, Python itself.

Four streams, told by the logger's name: ``access``, ``audit``, ``performance``, and ``application`` for all the rest.
Lines are redacted (see :mod:`ots_common.redaction`) and bounded; whatever a user sends stays within its field.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import re
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TextIO

import orjson
import structlog
from prometheus_client import Counter
from structlog.typing import WrappedLogger

from ots_common.log_file import SharedFile
from ots_common.log_flood import Flood
from ots_common.redaction import REDACTED, bounded, know, redact, redact_fields
from ots_common.settings import LogSettings

STREAMS = ("application", "access", "audit", "performance")
OFF = logging.CRITICAL + 1
LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR, "off": OFF}

LINES = Counter("ots_log_lines_total", "Log lines written", ["service", "level"])
DROPPED = Counter("ots_log_dropped_total", "Log lines left out of a flood", ["service", "stream"])

_OWN_STREAMS = frozenset(STREAMS[1:])
_LONGEST_TEXT = 8_192
_LONGEST_TRACEBACK = 16_384
_LONGEST_PATH = 2_048
_NUMBERS = {
    "debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "exception": 40, "critical": 50, "fatal": 50,
}  # fmt: skip
_PLAIN = re.compile(r"[\w./:@+,-]+", re.ASCII)
_NO_ID = re.compile(r"[^\w.\[\]-]", re.ASCII)
_SENTENCE = re.compile(r"[\w ./:@+,()'-]+", re.ASCII)
# what the line says of itself; a field of the same name goes by another
_TAKEN = frozenset({"timestamp", "level", "event", "logger", "service", "stream", "exception", "stack", "suppressed"})

Fields = dict[str, Any]


class Request(NamedTuple):
    """Whose lines these are: the ids of the request that a thread or greenlet is at, as lines show them."""

    request_id: str
    trace_id: str | None
    span_id: str | None = None


REQUEST: ContextVar[Request | None] = ContextVar("ots_request", default=None)


class Sink(Protocol):
    """Where whole lines go."""

    def write(self, text: str) -> None:
        """Take some lines; each ends with its line end."""


class _Stderr:
    """Standard error as it is at that moment."""

    def write(self, text: str) -> None:
        stream: TextIO = sys.stderr
        stream.write(text)
        stream.flush()


@dataclass
class _State:
    """How this process logs. There is one; a new one takes the place of the former."""

    service: str
    outputs: list[tuple[Callable[[Fields], str], Sink]]
    flood: Flood
    levels: dict[str, int]


_state = _State("unconfigured", [], Flood(0, 1), {})
_overridden: set[str] = set()
# one list for ever: what caches it, and what replaces its content in a test, see the same
_processors: list[Any] = []


class EventLogger(structlog.stdlib.BoundLogger):
    """structlog's, but it asks for the level first, and hands its fields on without a second pass."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *event_args: Any, **event_kw: Any) -> Any:
        logger: logging.Logger = self._logger
        level = _NUMBERS.get(method_name, logging.INFO)
        if not logger.isEnabledFor(level):
            return
        try:
            _, fields = self._process_event(method_name, event, event_kw)
        except structlog.DropEvent:
            return
        said = dict(fields)
        text = str(said.pop("event", ""))
        record = logging.LogRecord(
            logger.name, level, "", 0, text, event_args, _exception_of(said.pop("exc_info", None)),
            sinfo=_stack_of(said.pop("stack_info", None)),
        )  # fmt: skip
        record.fields = said
        logger.handle(record)


class LineHandler(logging.Handler):
    """Makes lines of records and writes them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless it is one too many."""
        try:
            stream = stream_of(record.name)
            suppressed = 0
            if stream == "application" or stream == "performance":
                admitted = _state.flood.admit((record.name, str(record.msg)))
                if admitted is None and record.levelno < logging.ERROR:
                    DROPPED.labels(_state.service, stream).inc()
                    return
                # an error is always told; in a flood of one and the same without its traceback
                bare, suppressed = admitted is None, admitted or 0
            else:
                bare = False
            level = record.levelname.lower()
            line = _head(record.created, level, _event_of(record), record.name, stream)
            request = REQUEST.get()
            if request is not None:
                _name_request(line, request)
            said: Mapping[str, Any] | None = getattr(record, "fields", None)
            if said:
                for name, value in redact_fields(said, _LONGEST_TEXT).items():
                    line[f"{name}_" if name in _TAKEN else name] = value
            if suppressed:
                line["suppressed"] = suppressed
            if record.exc_info and record.exc_info[1] is not None:
                line["exception"] = _told(record.exc_info[1]) if bare else _traceback(record.exc_info[1])
            if record.stack_info:
                line["stack"] = bounded(record.stack_info, _LONGEST_TRACEBACK)
            _write(line)
            _count(level)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say that a line could not be made, and nothing of what was in it: it did not pass the redaction."""
        kind = sys.exc_info()[0]
        line = _head(record.created, "error", "line_not_written", record.name, stream_of(record.name))
        with contextlib.suppress(Exception):  # there is nobody left to tell
            _write({**line, "error": kind.__name__ if kind else "?"})


class AccessLines:
    """Renders the lines of the access log, one for each request: by hand, since they are on every request's path.

    ``last`` names the field beside those that all have: the client's ``address``, the ``caller``.
    """

    def __init__(self, last: str) -> None:
        self._last = last
        self._second = 0
        self._stamp = ""
        self._logger = logging.getLogger("access")
        self._head = ',"level":"info","event":"request","logger":"access"'
        self._head += f',"service":{json.dumps(_state.service)},"stream":"access"'

    @property
    def enabled(self) -> bool:
        """Whether anybody wants them."""
        return self._logger.isEnabledFor(logging.INFO)

    def render(
        self, method: str, path: str, status: int, seconds: float, user: str | None, last: str | None, request: Request
    ) -> list[str]:
        """A line for each output of this process, in the outputs' order; counted."""
        _count("info")
        lines = []
        for form, _ in _state.outputs:
            if form is as_json:
                lines.append(self._json(method, path, status, seconds, user, last, request))
            else:
                line = _head(time.time(), "info", "request", "access", "access")
                _name_request(line, request)
                line |= redact_fields({"method": method, "path": path, "status": status}, _LONGEST_PATH)
                line |= {
                    "ms": round(seconds * 1000, 2),
                    **redact_fields({"user": user, self._last: last}, _LONGEST_PATH),
                }
                lines.append(form(line))
        return lines

    def _json(
        self, method: str, path: str, status: int, seconds: float, user: str | None, last: str | None, request: Request
    ) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, _seconds_of(second)
        trace = f',"trace_id":"{request.trace_id}"' if request.trace_id else ""
        span = f',"span_id":"{request.span_id}"' if request.span_id else ""
        return (
            f'{{"timestamp":"{self._stamp}.{int(now % 1 * 1e6):06d}Z"{self._head}'
            f',"request_id":"{request.request_id}"{trace}{span},"method":{_quoted(method)},"path":{_quoted(path)}'
            f',"status":{status},"ms":{seconds * 1000:.2f},"user":{"null" if user is None else _quoted(user)}'
            f',"{self._last}":{"null" if last is None else _quoted(last)}}}\n'
        )


def configure(service: str, settings: LogSettings | None = None, *, level: str | None = None) -> None:
    """Send every log record of the process where ``settings`` say, as lines of ``service``; may be called again.

    ``level`` wins over the settings'. Raises OSError when the file that they name cannot be written.
    """
    global _state
    settings = settings or LogSettings()
    know(settings)
    outputs: list[tuple[Callable[[Fields], str], Sink]] = [(_FORMS[settings.log_format], _Stderr())]
    if settings.log_file:
        path = Path(settings.log_file.replace("{service}", service))
        kept = SharedFile(path, most_bytes=settings.log_file_bytes, backups=settings.log_file_backups)
        outputs.append((as_json, kept))
    levels = dict.fromkeys(("", *_OWN_STREAMS), LEVELS[level or settings.log_level])
    levels |= _stream_levels(settings.log_streams)
    _state = _State(service, outputs, Flood(settings.log_flood_lines, settings.log_flood_keep_one_in), levels)
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=EventLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [LineHandler()]
    for name in (*_OWN_STREAMS, *_overridden, ""):
        logging.getLogger(name or None).setLevel(levels.get(name, logging.NOTSET))
    _overridden.clear()
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    logging.getLogger("gunicorn.access").disabled = True  # the service writes its own access log, with the request id


def take_over() -> None:
    """Let Python's warnings and whatever ends a thread, a greenlet or the process become lines too.

    For a process of our own: a library must not take these from whoever imports it.
    """
    warnings.showwarning = _warned
    sys.excepthook = _uncaught
    threading.excepthook = lambda what: _uncaught(
        what.exc_type, what.exc_value, what.exc_traceback, thread=what.thread.name if what.thread else None
    )
    sys.unraisablehook = lambda what: _uncaught(
        what.exc_type, what.exc_value, what.exc_traceback, within=what.err_msg or repr(what.object)
    )
    if "gevent" in sys.modules:
        from gevent.hub import Hub

        Hub.print_exception = _uncaught_in_greenlet
    atexit.register(tell_left_out, older_than_s=0.0)


def bind_request(request_id: str, trace_id: str | None, span_id: str | None = None) -> Request:
    """Say whose lines those of this thread or greenlet are from here on."""
    # a client may choose it; what is nothing but letters and digits has the shape of no credential
    if not (len(request_id) <= 40 and request_id.isalnum() and request_id.isascii()):
        request_id = _NO_ID.sub("?", redact(request_id))
    request = Request(request_id, trace_id, span_id)
    REQUEST.set(request)
    return request


def write_lines(lines: list[list[str]]) -> None:
    """Write what :class:`AccessLines` rendered, some requests at once."""
    for place, (_, sink) in enumerate(_state.outputs):
        _put(sink, "".join(made[place] for made in lines))


def apply_levels(wanted: Mapping[str, str]) -> None:
    """Give loggers other levels than they began with, and those that are not in ``wanted`` theirs again.

    A key is a logger's or a stream's name, ``application`` for all loggers without a level of their own, and may
    begin with the name of a service and a slash: ``analytics/ots_analytics.desk``. What is none is left out.
    """
    levels: dict[str, int] = {}
    for key, level in wanted.items():
        service, slash, name = key.rpartition("/")
        if level in LEVELS and (not slash or service == _state.service):
            levels["" if name == "application" else name] = LEVELS[level]
    for name in _overridden - levels.keys():
        logging.getLogger(name or None).setLevel(_state.levels.get(name, logging.NOTSET))
    for name, number in levels.items():
        logging.getLogger(name or None).setLevel(number)
    _overridden.clear()
    _overridden.update(levels)


def tell_left_out(*, older_than_s: float = 1.0) -> None:
    """A line for each flood that has ended, or is that old, without having told how many lines it has lost."""
    for (name, event), number in _state.flood.left_out(older_than_s=older_than_s):
        line = _head(time.time(), "warning", "lines_left_out", name, stream_of(name))
        _write({**line, "of_event": redact(event), "suppressed": number})
        _count("warning")


def stream_of(logger: str) -> str:
    """The stream that a logger's lines belong to."""
    return logger if logger in _OWN_STREAMS else "application"


# --- shapes ---


def as_json(line: Fields) -> str:
    """One line of JSON, ASCII only: what a terminal or a reader might take for an end of line is escaped."""
    try:
        text = orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair
        text = json.dumps(line, separators=(",", ":"), default=str)
    if not text.isascii() or "\x7f" in text:
        text = json.dumps(orjson.loads(text), separators=(",", ":")).replace("\x7f", "\\u007f")
    return text + "\n"


def as_logfmt(line: Fields) -> str:
    """``key=value`` for each, on one line."""
    return " ".join(_pair(name, value) for name, value in line.items()) + "\n"


def as_console(line: Fields) -> str:
    """For reading: the time, the level, the event; then what else there is; a traceback below, set in."""
    rest = dict(line)
    stamp, level, event = rest.pop("timestamp"), rest.pop("level"), str(rest.pop("event"))
    del rest["service"]
    below = "".join(_set_in(rest.pop(name, None)) for name in ("exception", "stack"))
    if rest.pop("stream") in _OWN_STREAMS:
        del rest["logger"]
        stream = f" {line['stream']}:"
    else:
        stream = ""
    # the ids are long: last
    ids = {name: rest.pop(name) for name in ("request_id", "trace_id", "span_id") if name in rest}
    words = "".join(f" {_pair(name, value)}" for name, value in (rest | ids).items())
    return f"{stamp} [{level:<8}]{stream} {event if _SENTENCE.fullmatch(event) else _escaped(event)}{words}\n{below}"


_FORMS: dict[str, Callable[[Fields], str]] = {
    "json": as_json,
    "console": as_console,
    "logfmt": as_logfmt,
    "both": as_console,
}


def _pair(name: str, value: Any) -> str:
    """``name=value``; of what has parts ``name.part=value`` each."""
    if isinstance(value, dict) and value:
        return " ".join(_pair(f"{name}.{part}", inner) for part, inner in value.items())
    return f"{_key(name)}={_value(value)}"


def _key(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _escaped(name).replace(" ", "_").replace("=", "_")


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else _escaped(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return _escaped(json.dumps(value, separators=(",", ":"), default=str))


def _escaped(text: str) -> str:
    return json.dumps(text).replace("\x7f", "\\u007f")


def _set_in(text: str | None) -> str:
    if not text:
        return ""
    lines = text.splitlines()
    plain = ("".join(c if c.isprintable() or c == "\t" else "?" for c in line) for line in lines)
    return "".join(f"    {line}\n" for line in plain)


# --- what lines are made of ---


def _head(created: float, level: str, event: str, logger: str, stream: str) -> Fields:
    stamp = f"{_seconds_of(int(created))}.{int(created % 1 * 1e6):06d}Z"
    return {
        "timestamp": stamp,
        "level": level,
        "event": event,
        "logger": logger,
        "service": _state.service,
        "stream": stream,
    }


@lru_cache(maxsize=4)
def _seconds_of(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=4096)
def _quoted_short(text: str) -> str:
    return json.dumps(redact(text)).replace("\x7f", "\\u007f")


def _quoted(text: str) -> str:
    """A JSON string without credentials. The same paths and names come again and again."""
    return (
        _quoted_short(text) if len(text) <= 256 else json.dumps(bounded(text, _LONGEST_PATH)).replace("\x7f", "\\u007f")
    )


def _name_request(line: Fields, request: Request) -> None:
    line["request_id"] = request.request_id
    if request.trace_id:
        line["trace_id"] = request.trace_id
    if request.span_id:
        line["span_id"] = request.span_id


def _event_of(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # arguments that do not fit their text: the text is better than nothing
        text = str(record.msg)
    return bounded(text, _LONGEST_TEXT)


def _traceback(error: BaseException) -> str:
    # without local variables, which may hold secrets, and arrays that take half a minute to print
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    if len(text) <= _LONGEST_TRACEBACK:
        return redact(text)
    # where it began and how it ended, in whole lines
    half = _LONGEST_TRACEBACK // 2
    return f"{bounded(text, half)}\n{redact(text[-half:].partition(chr(10))[2])}"


def _told(error: BaseException) -> str:
    return bounded(f"{type(error).__name__}: {error}", _LONGEST_TEXT)


def _exception_of(given: Any) -> Any:
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    if isinstance(given, tuple):
        return given
    return sys.exc_info() if given else None


def _stack_of(given: Any) -> str | None:
    if isinstance(given, str):
        return given
    return "".join(traceback.format_stack()[:-3]).rstrip("\n") if given else None


@lru_cache(maxsize=16)
def _counter(service: str, level: str) -> Any:
    return LINES.labels(service, level)


def _count(level: str) -> None:
    try:  # noqa: SIM105 - suppress takes as long as the rest of it
        _counter(_state.service, level).inc()
    except OSError:
        pass  # gunicorn speaks before the folder of the metrics is made


def _put(sink: Sink, text: str) -> None:
    """A full disk, or a reader that went away, takes lines: never the request that they tell of."""
    try:  # noqa: SIM105 - as in _count
        sink.write(text)
    except OSError:
        pass


def _write(line: Fields) -> None:
    for form, sink in _state.outputs:
        _put(sink, form(line))


def _stream_levels(text: str) -> dict[str, int]:
    pairs = (part.split("=") for part in text.split(",") if part)
    return {"" if stream == "application" else stream: LEVELS[level] for stream, level in pairs}


# --- what Python says by itself ---


def _uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None, **where: str | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
        return
    said = {name: value for name, value in where.items() if value}
    known: WrappedLogger = structlog.get_logger("python")
    known.critical("uncaught_exception", exc_info=(kind, error or kind(), trace), **said)


def _uncaught_in_greenlet(_hub: Any, context: Any, kind: Any, error: Any, trace: Any) -> None:
    _uncaught(kind, error, trace, within=redact(repr(context)))


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del file, line
    structlog.get_logger("python").warning(
        "python_warning", category=category.__name__, message=str(message), file=f"{filename}:{lineno}"
    )


__all__ = [
    "LEVELS", "REDACTED", "REQUEST", "STREAMS", "AccessLines", "EventLogger", "LineHandler", "Request", "apply_levels",
    "bind_request", "configure", "stream_of", "take_over", "tell_left_out", "write_lines",
]  # fmt: skip
