"""What the vendor's client raises, in our words: what passes, what does not, and never the key."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time

import pytest
import requests
from databento.common.error import BentoClientError, BentoError, BentoServerError

from ots_ingestion import vendor
from ots_ingestion.settings import IngestionSettings
from ots_ingestion.vendor import Patience, RateLimited, Stopped, Vendor, VendorUnavailable, backoff_s, translated

KEY = "db-secretsecretsecretsecretsecre"


def client_error(status: int, **headers: str) -> BentoClientError:
    return BentoClientError(status, message=f"said of {KEY}", headers=headers)


@pytest.mark.parametrize(
    ("error", "kind", "passes"),
    [
        (client_error(401), vendor.WrongKey, False),
        (client_error(402), vendor.PaymentRequired, False),
        (client_error(403), vendor.NotEntitled, False),
        (client_error(422), vendor.BadRequest, False),
        (client_error(404), vendor.BadRequest, False),
        (client_error(408), vendor.VendorUnavailable, True),
        (client_error(429, **{"Retry-After": "7"}), vendor.RateLimited, True),
        (BentoServerError(500), vendor.VendorUnavailable, True),
        (BentoServerError(504), vendor.VendorUnavailable, True),
        (BentoError(f"Error streaming response: IncompleteRead {KEY}"), vendor.TransferCut, True),
        (BentoError("Error streaming response: [Errno 28] No space left on device"), vendor.NoRoom, True),
        (BentoError("User authentication failed: Unknown key"), vendor.WrongKey, False),
        (requests.exceptions.ConnectionError(f"refused {KEY}"), vendor.VendorUnavailable, True),
        (requests.exceptions.SSLError("self-signed"), vendor.VendorUnavailable, True),
        (requests.exceptions.ReadTimeout(), vendor.VendorUnavailable, True),
        (
            OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /no"),
            vendor.VendorUnavailable,
            True,
        ),
        (OSError(errno.ENOSPC, "full"), vendor.NoRoom, True),
        (json.JSONDecodeError("no", "", 0), vendor.VendorUnavailable, True),
        (ValueError("start is wrong"), vendor.BadRequest, False),
    ],
)
def test_each_error_in_our_words(error, kind, passes):
    ours = translated(error, KEY)
    assert type(ours) is kind
    assert ours.passes is passes
    assert KEY not in str(ours)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_authorities_that_are_not_there_yet_are_waited_for(settings, tmp_path, monkeypatch, content):
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        url = f"https://localhost:{somebody.getsockname()[1]}"
        asked = Vendor(
            settings.model_copy(update={"databento_historical_url": url}), patience=Patience(attempts=2, first_s=0.01)
        )
        began = time.monotonic()
        with pytest.raises(VendorUnavailable, match="certificate") as refusal:
            asked.list_schemas("EQUS.MINI")
    assert str(bundle) in str(refusal.value)
    assert time.monotonic() - began >= 0.005  # it was tried again
    assert KEY not in str(refusal.value)


def test_what_is_not_the_vendors_is_left_alone():
    assert translated(RuntimeError("ours")) is None


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("0.5", 0.5), ("nan", None), ("-1", None), ("soon", None)])
def test_how_long_the_vendor_asks_us_to_wait(text, seconds):
    ours = translated(client_error(429, **{"Retry-After": text}))
    assert isinstance(ours, RateLimited)
    assert ours.retry_after == seconds


def test_waits_double_and_never_end_before_what_was_asked():
    patience = Patience(first_s=1, most_s=8)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 8), (50, 8)):
        assert all(most / 2 <= backoff_s(attempt, patience) <= most for _ in range(50))
    assert backoff_s(1, patience, retry_after=30) == 30


@pytest.fixture
def settings(tmp_path) -> IngestionSettings:
    return IngestionSettings(
        database_url="postgresql://nobody@127.0.0.1:1/nothing",
        spool_dir=tmp_path,
        databento_api_key=KEY,
        databento_historical_url="https://127.0.0.1:1",
        vendor_metadata_per_s=1000,
    )


def test_nobody_answers(settings):
    with pytest.raises(VendorUnavailable, match="cannot be reached") as caught:
        Vendor(settings, patience=Patience(attempts=2, first_s=0.01)).list_schemas("EQUS.MINI")
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_stopping_ends_a_wait(settings):
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Stopped):
        Vendor(settings, patience=Patience(first_s=60, most_s=60), stopping=stopping).list_schemas("EQUS.MINI")


@pytest.mark.parametrize("key", [None, "", "   "])
def test_no_key(settings, key):
    with pytest.raises(vendor.NoKey):
        Vendor(settings.model_copy(update={"databento_api_key": key and type(settings.databento_api_key)(key)}))


def test_the_pace_is_kept():
    turns = []
    pace = vendor.Pace(100)
    threads = [threading.Thread(target=lambda: [(pace.wait(), turns.append(1)) for _ in range(5)]) for _ in range(4)]
    began = vendor.time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(turns) == 20
    assert vendor.time.monotonic() - began >= 19 / 100
