"""The one place that talks to Databento: its clients from our settings, its errors in our words.

The vendor's client retries nothing, raises ``requests`` exceptions beside its own, and knows no pace. Here every call
keeps below the vendor's limits (metadata 20/s, time series 100/s), repeats what may pass by itself, and ends in one of
our errors, each of which says what to do. The key is in no message.
"""

from __future__ import annotations

import errno
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import databento
import requests
from databento.common.error import BentoError, BentoHttpError

from ots_common.times import NS_PER_S, to_nanoseconds
from ots_ingestion import metrics
from ots_ingestion.settings import IngestionSettings

T = TypeVar("T")

_MAX_TEXT = 500
_PASSING_STATUS = (408, 425, 500, 502, 503, 504)
_RECENT_S = 5.0
_UNPACED_PER_S = 1000.0
_NO_AUTHORITY = "Could not find a suitable TLS CA certificate bundle"
_NOBODY = "None of the symbols could be resolved"


class VendorError(Exception):
    """Something that the vendor did not give. ``passes``: the same call may succeed later, unchanged."""

    passes = False
    kind = "vendor"
    hint: str | None = None


class NoKey(VendorError):
    """There is no key to ask with."""

    kind = "no-key"
    hint = "set DATABENTO_API_KEY and start again"


class WrongKey(VendorError):
    """The vendor does not know the key, or has deactivated it (401)."""

    kind = "wrong-key"
    hint = "compare DATABENTO_API_KEY with https://databento.com/portal/keys"


class NotEntitled(VendorError):
    """The key is good, but not for this dataset or schema (403)."""

    kind = "not-entitled"
    hint = "https://databento.com/portal/subscriptions says what the key may ask for; leave the rest out"


class PaymentRequired(VendorError):
    """The account cannot pay for it (402)."""

    kind = "payment-required"
    hint = "see https://databento.com/portal/billing"


class BadRequest(VendorError):
    """The vendor refuses the question itself; the message is the vendor's (400, 404, 422, ...)."""

    kind = "vendor-refused"


class TooCostly(VendorError):
    """Our own refusal, before any money is spent: it costs more than was allowed."""

    kind = "too-costly"


class RateLimited(VendorError):
    """Too many requests (429). ``retry_after``: seconds to wait, as the vendor said, or None."""

    passes = True
    kind = "rate-limited"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class VendorUnavailable(VendorError):
    """The vendor does not answer, or answers that it cannot now. ``retry_after`` as for :class:`RateLimited`."""

    passes = True
    kind = "vendor-unavailable"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TransferCut(VendorUnavailable):
    """The answer ended before its end."""

    kind = "transfer-cut"


class NoRoom(VendorError):
    """The answer does not fit on our disk."""

    passes = True
    kind = "disk-full"


class Stopped(VendorError):
    """We were asked to stop while waiting to try again."""

    passes = True
    kind = "stopped"


@dataclass(frozen=True)
class Request:
    """One question about records: [start_ns, end_ns) of index time. At most 2,000 symbols."""

    dataset: str
    schema: str
    stype_in: str
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int

    def arguments(self) -> dict[str, Any]:
        """As the client's methods take it."""
        return {
            "dataset": self.dataset,
            "schema": self.schema,
            "stype_in": self.stype_in,
            "symbols": list(self.symbols),
            "start": self.start_ns,
            "end": self.end_ns,
        }


@dataclass(frozen=True)
class Patience:
    """How often a call is repeated, and how long it may wait between two attempts and in all; in seconds."""

    attempts: int = 6
    first_s: float = 0.5
    most_s: float = 30.0
    total_s: float = 120.0


# in a request of a client who waits for the answer
HURRIED = Patience(attempts=3, first_s=0.2, most_s=2.0, total_s=6.0)


class Pace:
    """Lets calls through evenly, at most ``per_s`` a second, whichever thread makes them."""

    def __init__(self, per_s: float) -> None:
        self._interval = 1.0 / per_s
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Until it is this call's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            time.sleep(turn - now)


@lru_cache
def _pace(what: str, per_s: float) -> Pace:
    """One of this process, whoever asks. Half of what the vendor allows a key is the default: the web service and the
    backfiller do not know of each other."""
    return Pace(per_s)


class Vendor:
    """Databento's historical service, with patience. Any thread may call it.

    ``stopping`` ends a wait between two attempts with :class:`Stopped`. Raises :class:`NoKey` when there is no key.
    """

    def __init__(
        self, settings: IngestionSettings, *, patience: Patience | None = None, stopping: threading.Event | None = None
    ) -> None:
        self._key = _key(settings)
        url = settings.databento_historical_url
        self._client = databento.Historical(self._key, **({"gateway": url.rstrip("/")} if url else {}))
        self._patience = patience or Patience()
        # the simulator counts no calls: the pace would be most of the time that its small answers take
        simulated = settings.market_source == "simulated"
        self._metadata = _pace("metadata", _UNPACED_PER_S if simulated else settings.vendor_metadata_per_s)
        self._timeseries = _pace("timeseries", _UNPACED_PER_S if simulated else settings.vendor_timeseries_per_s)
        self._stopping = stopping or threading.Event()
        self._remembered: dict[tuple[str, str], tuple[float, Any]] = {}

    def list_schemas(self, dataset: str) -> list[str]:
        """Databento's names of the schemas that the dataset has."""
        ask = self._client.metadata.list_schemas
        found = self._recent("list_schemas", dataset, lambda: ask(dataset))
        return [str(name) for name in found]

    def dataset_range(self, dataset: str, schema: str | None = None) -> tuple[int, int]:
        """[first, end) ns of what may be asked for, of one schema where the vendor says it apart."""
        ask = self._client.metadata.get_dataset_range
        found: Any = self._recent("get_dataset_range", dataset, lambda: ask(dataset))
        apart = found.get("schema")
        if schema and isinstance(apart, dict) and isinstance(apart.get(schema), dict):
            found = apart[schema]
        return _moment(found["start"]), _moment(found["end"])

    def record_count(self, request: Request) -> int:
        """How many records answer it."""
        arguments = request.arguments()
        return int(self._figure("get_record_count", lambda: self._client.metadata.get_record_count(**arguments)))

    def billable_size(self, request: Request) -> int:
        """Its answer's size, bytes without compression."""
        arguments = request.arguments()
        return int(self._figure("get_billable_size", lambda: self._client.metadata.get_billable_size(**arguments)))

    def cost(self, request: Request) -> float:
        """What it costs, US dollars. Raises :class:`VendorUnavailable` when the answer is no price."""
        arguments = request.arguments()
        usd = float(self._figure("get_cost", lambda: self._client.metadata.get_cost(**arguments)))
        if not math.isfinite(usd) or usd < 0:
            raise VendorUnavailable(f"the vendor's price is no price: {usd}")
        return usd

    def unknown_symbols(
        self, dataset: str, symbols: Sequence[str], stype_in: str, start_ns: int, end_ns: int
    ) -> list[str]:
        """Those of ``symbols`` that meant nothing on any of these days."""
        day_ns = 86_400 * NS_PER_S
        first, end = _date(start_ns), _date(-(-end_ns // day_ns) * day_ns)
        found: Any = self._call(
            "symbology.resolve",
            self._metadata,
            lambda: self._client.symbology.resolve(
                dataset=dataset,
                symbols=list(symbols),
                stype_in=stype_in,
                stype_out="instrument_id",
                start_date=first,
                end_date=end,
            ),
        )
        return [symbol for symbol in symbols if symbol in set(found.get("not_found", ()))]

    def download(self, request: Request, path: Path) -> None:
        """The answer as a file, in one attempt that costs money; whole or not is for the caller to find out.

        ``path`` must not exist. Whatever is raised, a partial file may be there.
        """
        arguments = request.arguments()
        try:
            self._once("get_range", self._timeseries, lambda: self._client.timeseries.get_range(path=path, **arguments))
        except BadRequest as error:
            if path.exists():  # an answer came, and the client could not read it
                raise TransferCut(f"the answer is no DBN file: {error}") from None
            raise

    def _figure(self, name: str, call: Callable[[], Any]) -> Any:
        """A figure about records; 0 for days on which the symbols meant nothing, a 422 of the vendor."""
        try:
            return self._call(name, self._metadata, call)
        except BadRequest as error:
            if _NOBODY in str(error):
                return 0
            raise

    def _recent(self, name: str, dataset: str, call: Callable[[], Any]) -> Any:
        """What was answered a moment ago, or the answer now: one question to us is several to the vendor."""
        expires, answer = self._remembered.get((name, dataset), (0.0, None))
        if time.monotonic() >= expires:
            answer = self._call(name, self._metadata, call)
            self._remembered[name, dataset] = time.monotonic() + _RECENT_S, answer
        return answer

    def _call(self, name: str, pace: Pace, call: Callable[[], T]) -> T:
        """With as many attempts as patience allows."""
        deadline = time.monotonic() + self._patience.total_s
        attempt = 1
        while True:
            try:
                return self._once(name, pace, call)
            except VendorError as error:
                pause = backoff_s(attempt, self._patience, getattr(error, "retry_after", None))
                over = attempt >= self._patience.attempts or time.monotonic() + pause > deadline
                if not error.passes or over:
                    raise
                attempt += 1
            if self._stopping.wait(pause):
                raise Stopped(f"stopped while waiting to ask {name} again")

    def _once(self, name: str, pace: Pace, call: Callable[[], T]) -> T:
        pace.wait()
        try:
            answer = call()
        except Exception as error:
            ours = translated(error, self._key)
            if ours is None:
                metrics.VENDOR_CALLS.labels(name, "broken").inc()
                raise
            metrics.VENDOR_CALLS.labels(name, ours.kind).inc()
            raise ours from None  # the original may show the request's headers, and the key with them
        metrics.VENDOR_CALLS.labels(name, "ok").inc()
        return answer


def live(settings: IngestionSettings, **options: Any) -> databento.Live:
    """A live client of the address that the settings name; ``options`` as :class:`databento.Live` takes them.

    Raises :class:`NoKey`.
    """
    return databento.Live(
        key=_key(settings),
        gateway=settings.databento_live_host,
        port=settings.databento_live_port,
        **options,
    )


def backoff_s(attempt: int, patience: Patience, retry_after: float | None = None) -> float:
    """Seconds to wait after the ``attempt``-th failure: doubling, half of it by chance, never less than asked for."""
    most = min(patience.most_s, patience.first_s * 2.0 ** (attempt - 1))
    pause = most / 2 + random.uniform(0, most / 2)  # noqa: S311  (nobody gains by guessing it)
    return max(pause, retry_after or 0.0)


def translated(error: BaseException, key: str | None = None) -> VendorError | None:
    """Our word for what the vendor's client (historical or live) raised; None when it is none of the vendor's."""
    text = _text(error, key)
    if isinstance(error, VendorError):
        return error
    if isinstance(error, BentoHttpError):
        return _of_status(error, text)
    if isinstance(error, BentoError):
        return _of_words(text)
    if isinstance(error, requests.exceptions.SSLError):
        return VendorUnavailable(
            f"the vendor's certificate is not trusted here (REQUESTS_CA_BUNDLE is {_bundle()}): {text}"
        )
    if isinstance(error, requests.exceptions.RequestException):
        return VendorUnavailable(f"the vendor cannot be reached: {text}")
    if isinstance(error, OSError) and _NO_AUTHORITY in text:
        # requests looks for the file itself; the simulator writes it when it starts, which may be after us
        return VendorUnavailable(
            "the vendor's certificate cannot be checked: there is no readable file of authorities where"
            f" REQUESTS_CA_BUNDLE says ({_bundle()})"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(f"no room is left on the disk: {text}")
    if isinstance(error, ConnectionError | TimeoutError):
        return VendorUnavailable(f"the vendor cannot be reached: {text}")
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | KeyError | AttributeError):
        # the client takes the shape of an answer for granted
        return VendorUnavailable(f"the vendor's answer cannot be understood: {text}")
    if isinstance(error, ValueError):
        return BadRequest(text)  # the client's own checks of a question
    return None


def _bundle() -> str:
    return os.environ.get("REQUESTS_CA_BUNDLE") or "unset"


def _of_status(error: BentoHttpError, text: str) -> VendorError:
    status = error.http_status
    if status == 401:
        return WrongKey(f"the vendor does not accept the key: {text}")
    if status == 402:
        return PaymentRequired(f"the vendor wants payment first: {text}")
    if status == 403:
        return NotEntitled(f"the key is not entitled to this: {text}")
    if status == 429:
        return RateLimited(f"too many requests: {text}", _retry_after(error))
    if status in _PASSING_STATUS or status >= 500:
        return VendorUnavailable(f"the vendor cannot answer now: {text}", _retry_after(error))
    return BadRequest(text)


def _of_words(text: str) -> VendorError:
    """The client raises a bare BentoError for a cut stream and for a refused live login."""
    low = text.lower()
    if "no space left" in low or "quota exceeded" in low:
        return NoRoom(f"no room is left on the disk: {text}")
    if "streaming response" in low:
        return TransferCut(f"the transfer was cut: {text}")
    if "auth" in low or "api key" in low or "deactivated" in low:
        return WrongKey(f"the vendor does not accept the key: {text}")
    if "not entitled" in low or "entitlement" in low or "license" in low or "subscription required" in low:
        return NotEntitled(f"the key is not entitled to this: {text}")
    return VendorUnavailable(text)


def _text(error: BaseException, key: str | None) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if key:
        text = text.replace(key, "<key>")
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def _retry_after(error: BentoHttpError) -> float | None:
    """Seconds, the form that the vendor uses; a date is not understood and ignored."""
    try:
        seconds = float(error.headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _key(settings: IngestionSettings) -> str:
    key = settings.databento_api_key.get_secret_value().strip() if settings.databento_api_key else ""
    if not key:
        raise NoKey("there is no DATABENTO_API_KEY: nothing can be asked of Databento")
    return key


def _moment(text: str) -> int:
    """Nanoseconds of the vendor's times, which may come without an offset; they are UTC."""
    text = text.strip()
    if "T" in text.upper() and text[-1] not in "Zz" and "+" not in text:
        text += "Z"
    return to_nanoseconds(text)


def _date(moment_ns: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment_ns // NS_PER_S))
