"""What every line of a log has, what it must not have, and that nobody can write one but us."""

from __future__ import annotations

import json
import logging
import re
import secrets
import subprocess
import sys
import threading
import time
import warnings
from types import SimpleNamespace

import pytest
import structlog
from pydantic import SecretStr, ValidationError

from ots_common import logs
from ots_common.log_file import SharedFile
from ots_common.log_flood import Flood
from ots_common.redaction import REDACTED, redact
from ots_common.settings import LogSettings, ServiceSettings

SECRET = "password-in-a-local-variable"
FORMATS = ("json", "console", "logfmt")


@pytest.fixture(autouse=True)
def _as_it_was():
    """What one test configures is not the next one's."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config(), logs._state, logs.REQUEST.get()
    yield
    logs.apply_levels({})
    logs._state = before[3]
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])
    for name in logs.STREAMS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logs.REQUEST.set(before[4])


def configured(**settings):
    logs.configure("tests", LogSettings(**settings))


def lines(capsys):
    """Every line of standard error since the last look; each is JSON, or this fails."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def connect_with(credential):
    opened = {"credential": credential}
    raise ConnectionRefusedError(f"no answer after {len(opened)} tries")


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("logger", [structlog.get_logger, logging.getLogger], ids=["structlog", "logging"])
def test_a_traceback_names_its_lines_and_no_local_variable(fmt, logger, capsys):
    configured(log_format=fmt)
    try:
        connect_with(SECRET)
    except ConnectionRefusedError:
        logger(__name__).exception("refused")
    shown = capsys.readouterr().err
    assert "ConnectionRefusedError: no answer after 1 tries" in shown
    assert "in connect_with" in shown
    assert "Traceback (most recent call last)" in shown
    assert SECRET not in shown


# --- shape ---


def test_every_line_has_the_same_fields_whoever_says_it(capsys):
    configured()
    logs.bind_request("request-0001", "ab" * 16, "cd" * 8)
    structlog.get_logger("ots_common.here").info("ours", rows=3)
    logging.getLogger("urllib3").warning("retried %d times", 2)
    logging.getLogger("gunicorn.error").error("worker %s died", 7)
    structlog.get_logger("audit").info("audit_row")
    found = lines(capsys)
    assert [(line["event"], line["logger"], line["level"], line["stream"]) for line in found] == [
        ("ours", "ots_common.here", "info", "application"),
        ("retried 2 times", "urllib3", "warning", "application"),
        ("worker 7 died", "gunicorn.error", "error", "application"),
        ("audit_row", "audit", "info", "audit"),
    ]
    for line in found:
        assert line["service"] == "tests"
        assert (line["request_id"], line["trace_id"], line["span_id"]) == ("request-0001", "ab" * 16, "cd" * 8)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert found[0]["rows"] == 3


def test_a_request_is_its_threads_alone(capsys):
    configured()
    logs.bind_request("request-0001", None)
    other = threading.Thread(target=lambda: structlog.get_logger("x").info("elsewhere"))
    other.start()
    other.join()
    structlog.get_logger("x").info("here")
    elsewhere, here = lines(capsys)
    assert "request_id" not in elsewhere
    assert here["request_id"] == "request-0001"
    assert "trace_id" not in here


def test_the_access_line_by_hand_is_what_the_machinery_would_make(capsys):
    for fmt in FORMATS:
        configured(log_format=fmt)
        request = logs.bind_request("request-0001", "ab" * 16)
        access = logs.AccessLines("caller")
        logs.write_lines([access.render("GET", "/a/b", 200, 0.01234, "somebody", "gateway", request)])
        structlog.get_logger("access").info(
            "request", method="GET", path="/a/b", status=200, ms=12.34, user="somebody", caller="gateway"
        )
        by_hand, made = (
            re.sub(r"\d{4}-\S+Z", "T", line).removesuffix("\n")
            for line in capsys.readouterr().err.splitlines(keepends=True)
        )
        if fmt == "json":
            assert json.loads(by_hand) == json.loads(made)
        else:
            assert by_hand == made


def test_what_has_parts_is_told_part_by_part(capsys):
    configured(log_format="logfmt")
    structlog.get_logger("x").info("slow", stages={"sql": 1.5, "more": {"a b": None}}, none={}, some=["a", 1])
    shown = capsys.readouterr().err
    assert shown.endswith(' stages.sql=1.5 "stages.more.a_b"=null none="{}" some="[\\"a\\",1]"\n'), shown


@pytest.mark.parametrize("fmt", FORMATS)
def test_values_that_json_does_not_have(fmt, capsys):
    configured(log_format=fmt)
    odd = {1: float("nan"), "set": {1}, "big": 2**80, "bytes": b"\xff", "half": "\ud800", "deep": [[[[[[[[[[1]]]]]]]]]]}
    structlog.get_logger("x").info("odd", odd=odd, service="elsewhere", level_of=object(), error=ValueError("v"))
    (line,) = capsys.readouterr().err.splitlines()
    if fmt == "json":
        assert json.loads(line)["service"] == "tests"
        assert json.loads(line)["service_"] == "elsewhere"


def test_a_text_of_any_length_makes_a_line_of_bounded_length(capsys):
    configured()
    try:
        raise ValueError("x" * 10**6)
    except ValueError:
        structlog.get_logger("x").exception("y" * 10**6, field="z" * 10**6)
    shown = capsys.readouterr().err
    assert len(shown) < 40_000
    assert "ValueError" in shown


# --- streams and levels ---


def say_all():
    for stream in logs.STREAMS:
        structlog.get_logger(stream).info("said")
        structlog.get_logger(stream).error("failed")


def test_streams_are_switched_off_or_given_a_level(capsys):
    configured(log_streams="access=off,performance=ERROR,application=WARNING")
    say_all()
    assert [(line["stream"], line["event"]) for line in lines(capsys)] == [
        ("application", "failed"), ("audit", "said"), ("audit", "failed"), ("performance", "failed"),
    ]  # fmt: skip
    assert not logs.AccessLines("caller").enabled


@pytest.mark.parametrize("streams", ["access", "access=LOUD", "everything=off", "access=off;audit=off"])
def test_streams_that_are_none_are_refused(streams):
    with pytest.raises(ValidationError):
        LogSettings(log_streams=streams)


def test_both_needs_a_file():
    with pytest.raises(ValidationError, match="LOG_FILE"):
        LogSettings(log_format="both")


def test_both_is_for_reading_here_and_for_machines_there(capsys, tmp_path):
    configured(log_format="both", log_file=str(tmp_path / "deep" / "{service}.jsonl"))
    structlog.get_logger("x").info("said", rows=2)
    shown = capsys.readouterr().err
    assert "[info    ] said rows=2" in shown or "said logger=x rows=2" in shown
    kept = json.loads((tmp_path / "deep" / "tests.jsonl").read_text())
    assert (kept["event"], kept["rows"]) == ("said", 2)


def test_levels_change_while_it_runs_and_return(capsys):
    configured(log_level="WARNING", log_streams="access=off")
    logger = structlog.get_logger("ots_tests.part")

    def heard():
        logger.debug("detail")
        structlog.get_logger("other").info("other")
        return [line["event"] for line in lines(capsys)] + (["access"] if logs.AccessLines("x").enabled else [])

    assert heard() == []
    logs.apply_levels({"ots_tests": "DEBUG", "access": "INFO"})
    assert heard() == ["detail", "access"]
    logs.apply_levels({"tests/application": "INFO", "elsewhere/ots_tests": "DEBUG", "ots_tests": "LOUD"})
    assert heard() == ["other"]
    logs.apply_levels({})
    assert heard() == []


# --- secrets ---

TOKEN = secrets.token_urlsafe(32)
while not re.search(r"\d", TOKEN) or not re.search(r"[A-Z]", TOKEN) or not re.search(r"[a-z]", TOKEN):
    TOKEN = secrets.token_urlsafe(32)
JWT = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
# what may stand in a text, and the part that must not be seen
KINDS = {
    "authorization": (f"Authorization: Bearer {TOKEN}", TOKEN),
    "basic": ("authorization: Basic YWRtaW46aHVudGVyMi1odW50ZXIy", "YWRtaW46aHVudGVyMi1odW50ZXIy"),
    "bearer": ("sent Bearer abcdef0123456789abcdef", "abcdef0123456789abcdef"),
    "api key header": ("X-API-Key=short-one", "short-one"),
    "api key": (f"with ots_abcdefgh_{TOKEN} in it", TOKEN),
    "jwt": (f"token {JWT} is old", JWT.split(".")[1]),
    "cut jwt": (JWT[:60], JWT[40:60]),
    "refresh token": (f"otr_{TOKEN}", TOKEN),
    "bare token": (f"it was {TOKEN}.", TOKEN),
    "internal token": ("X-OTS-Internal: some.internal-token", "some.internal-token"),
    "dsn": ("postgresql://ots:hunter2/x@127.0.0.1:5432/ots", "hunter2"),
    "dsn with at": ("connect to postgresql://ots:hunt@er2@db/ots failed", "er2"),
    "redis url": ("redis://:hunter2hunter2@127.0.0.1:6379/0", "hunter2hunter2"),
    "libpq": ("host=db user=ots password=hunter2 dbname=ots", "hunter2"),
    "libpq quoted": ("password = 'hunter 2 hunter' host=db", "hunter"),
    "databento": ("db-" + "abcdefghijklmnopqrstuvwxyz012", "abcdefghijklmnop"),
    "json": ('{"username": "admin", "password": "hun\\"ter2 x", "a": 1}', "ter2"),
    "json in json": (json.dumps(json.dumps({"refresh_token": "hunter2"})), "hunter2"),
    "dict": ("{'api_key': 'hunter2', 'b': b'x'}", "hunter2"),
    "bytes in a dict": ("{'api_key': b'hunter2'}", "hunter2"),
    "environment": ("DB_PASSWORD_OWNER=hunter2hunter2 KEY_GATEWAY_CACHE=hunter3hunter3", "hunter"),
    "form": ("grant=x&client_secret=hunter2&b=1", "hunter2"),
    "cookie": ("Set-Cookie: session=hunter2", "hunter2"),
}


def in_the_event(text):
    structlog.get_logger("x").info(text)


def in_a_message_of_a_library(text):
    logging.getLogger("urllib3").warning("failed: %s", text)


def in_a_field(text):
    structlog.get_logger("x").info("said", error=text)


def nested(text):
    structlog.get_logger("x").info("said", row={"list": [{"deep": (text,)}], "object": SimpleNamespace(inner=text)})


def in_a_name(text):
    structlog.get_logger("x").info("said", row={text: 1})


def in_a_traceback(text):
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError:
        structlog.get_logger("x").exception("failed")


PLACES = (in_the_event, in_a_message_of_a_library, in_a_field, nested, in_a_name, in_a_traceback)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_written_wherever_it_stands(kind, place, capsys):
    text, hidden = KINDS[kind]
    for fmt in FORMATS:
        configured(log_format=fmt)
        place(text)
        shown = capsys.readouterr().err
        assert shown
        assert hidden not in shown, shown
        assert REDACTED in shown


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD_OWNER", "token", "refresh_token", "X-API-Key", "authorization", "client_secret", "cookie",
     "metrics_token", "jwt_signing_key", "KEY_GATEWAY_CACHE", "passphrase"],
)  # fmt: skip
def test_what_a_name_calls_a_secret_is_one(name, capsys):
    configured()
    structlog.get_logger("x").info("said", **{name: "h2"}, row={name: ["h2", {"a": "h2"}], "n": 3})
    shown = capsys.readouterr().err
    assert "h2" not in shown
    assert '"n":3' in shown


def test_the_access_line_too(capsys):
    for fmt in FORMATS:
        configured(log_format=fmt)
        request = logs.bind_request(JWT, None)
        access = logs.AccessLines("address")
        for text, hidden in KINDS.values():
            logs.write_lines([access.render("GET", f"/x/{text}", 200, 0.1, text, text, request)])
            shown = capsys.readouterr().err
            assert hidden not in shown
            assert JWT.split(".")[1] not in shown


def test_the_secrets_of_the_settings_are_known_by_heart(capsys):
    settings = ServiceSettings(
        database_url=SecretStr("postgresql://u:plain%2Fwords@h/d"),
        signing_keys={"cache": SecretStr("only letters here " * 2)},
    )
    logs.configure("tests", settings)
    structlog.get_logger("x").info(
        "said", a="it is plain/words, or plain%2Fwords", b="(only letters here only letters here )"
    )
    shown = capsys.readouterr().err
    assert "words" not in shown
    assert "letters" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "/api/v1/analytics/options/AAPL/surface?moneyness=0.9,1.1",
        "/api/v1/users/8c5de5a4-6a8b-4a3e-9d4c-0d9f5a1a6c1e/keys/12", "http://127.0.0.1:8003/people/a@b",
        "GLBX.MDP3 ohlcv-1m", "0123456789abcdef" * 4, "Listening at: http://127.0.0.1:8000 (12)", "db-instances are 3",
        "a token expired", "basic checks passed", "no key for cache", "db-bento", "postgresql://127.0.0.1:5432/ots",
        "2026-12-01T17:02:00.000000Z", "sha256:" + "ab" * 32, "AAPL  261218C00250000", "ots_gateway.api_keys",
        "SELECT price FROM quotes WHERE instrument_id = 7", "tokens_left 7", "the password was wrong", "monkey=3",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "piece",
    ["x", "-", "eyJ", "eyJ.", "token", "token ", "token=", "://a:", "://", '"', "\\", 'password="', "password='\\",
     "bearer ", "key_", "secret-", "db-", "ots_", "aB3", "otr_", " ", "api key", "cookie:", "basic\t", "a.b.", "@"],
)  # fmt: skip
def test_what_somebody_sends_cannot_make_redaction_slow(piece):
    """A pattern that looks back over what it has seen would take minutes for this."""
    text = piece * (2**18 // len(piece))
    before = time.process_time()
    redact(text)
    assert time.process_time() - before < 8


# --- forging ---

FORGED = '{"level":"error","event":"forged"}'


@pytest.mark.parametrize(
    "end",
    ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2K\r", "\x7f", "\x9b", "\u202e"],
)
@pytest.mark.parametrize("fmt", FORMATS)
def test_nobody_forges_a_line(fmt, end, capsys):
    configured(log_format=fmt)
    text = f"a{end}{FORGED}"
    request = logs.bind_request(text, None)
    access = logs.AccessLines("address")
    structlog.get_logger("x").info(text, field=text, row={text: [text]}, **{f"a{end}b": 1})
    logging.getLogger("x").warning("%s", text)
    logs.write_lines([access.render(text, text, 200, 0.1, text, text, request)])
    shown = capsys.readouterr().err
    assert shown.count("\n") == len(shown.splitlines()) == 3
    assert re.sub(r"[ -~\n]", "", shown) == ""
    if fmt == "json":
        assert all("service" in json.loads(line) for line in shown.splitlines())


@pytest.mark.parametrize("fmt", FORMATS)
def test_nor_in_a_traceback(fmt, capsys):
    configured(log_format=fmt)
    try:
        raise ValueError("a\n2026-12-01T00:00:00.000000Z [error   ] forged\n\x1b[31m")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    # for reading, what belongs to a line is set in below it
    assert [line[:4] for line in shown.splitlines()[1:] if line[:4] != "    "] == []


# --- floods ---


def test_a_flood_is_sampled_and_every_line_accounted_for(capsys):
    configured(log_flood_lines=5, log_flood_keep_one_in=10)
    now = [100.0]
    logs._state.flood._clock = lambda: now[0]
    before = logs.DROPPED.labels("tests", "application")._value.get()
    for _ in range(105):
        structlog.get_logger("x").warning("again")
        structlog.get_logger("x").info("rare") if _ == 50 else None
    found = [line for line in lines(capsys) if line["event"] == "again"]
    assert len(found) == 5 + 10
    assert [line.get("suppressed", 0) for line in found] == [0] * 5 + [9] * 10
    assert logs.DROPPED.labels("tests", "application")._value.get() - before == 90
    structlog.get_logger("x").warning("again")
    now[0] += 3
    logs.tell_left_out()
    (told,) = lines(capsys)
    assert (told["event"], told["of_event"], told["suppressed"], told["logger"]) == ("lines_left_out", "again", 1, "x")
    structlog.get_logger("x").warning("again")
    assert "suppressed" not in lines(capsys)[0]


def test_an_error_is_always_told_and_in_a_flood_without_its_traceback(capsys):
    configured(log_flood_lines=2, log_flood_keep_one_in=100)
    logs._state.flood._clock = lambda: 100.0
    for _ in range(20):
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("x").exception("failed")
    found = lines(capsys)
    assert len(found) == 20
    assert ["Traceback" in line["exception"] for line in found] == [True] * 2 + [False] * 18
    assert found[-1]["exception"] == "ValueError: why"


def test_access_and_audit_are_whole(capsys):
    configured(log_flood_lines=1)
    for _ in range(30):
        structlog.get_logger("audit").info("row")
        structlog.get_logger("access").info("request")
    assert len(lines(capsys)) == 60


def test_names_without_bound_do_not_fill_the_memory():
    now = [0.0]
    flood = Flood(2, 10, lambda: now[0])
    admitted = [flood.admit(("x", f"event {i}")) for i in range(5000)]
    assert len(flood._buckets) <= 1001
    assert None in admitted
    now[0] += 10
    assert flood.admit(("x", "another")) == 0


def test_lines_are_counted_by_level(capsys):
    configured()
    before = logs.LINES.labels("tests", "error")._value.get()
    structlog.get_logger("x").error("one")
    assert logs.LINES.labels("tests", "error")._value.get() == before + 1


# --- the file ---

WRITER = """
import sys
from pathlib import Path
from ots_common.log_file import SharedFile
kept = SharedFile(Path(sys.argv[1]), most_bytes=4096, backups=90)
for i in range(400):
    kept.write(f"{sys.argv[2]} {i} {'x' * 60}\\n")
"""


def test_several_processes_write_and_rotate_one_file(tmp_path):
    path = tmp_path / "all.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)]) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    files = [path, *tmp_path.glob("all.jsonl.*[0-9]")]
    assert len(files) > 10
    assert max(file.stat().st_size for file in files) < 4096 + 3 * 100
    found = [line for file in files for line in file.read_text().splitlines()]
    assert sorted(found) == sorted(f"{n} {i} {'x' * 60}" for n in range(3) for i in range(400))


def test_who_comes_second_does_not_rotate_again(tmp_path):
    """Else two that find the file full at once would push the newest lines out with the oldest."""
    path = tmp_path / "one.jsonl"
    first, second = (SharedFile(path, most_bytes=1024, backups=2) for _ in range(2))
    for i in range(12):
        first.write(f"{i} {'x' * 100}\n")
    kept = (tmp_path / "one.jsonl.1").read_text()
    second._rotate()
    assert (tmp_path / "one.jsonl.1").read_text() == kept


def test_the_oldest_goes_and_what_is_taken_away_is_made_again(tmp_path):
    path = tmp_path / "one.jsonl"
    kept = SharedFile(path, most_bytes=1024, backups=2)
    for i in range(100):
        kept.write(f"{i} {'x' * 100}\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "one.jsonl",
        "one.jsonl.1",
        "one.jsonl.2",
        "one.jsonl.lock",
    ]
    assert path.read_text().splitlines()[-1].startswith("99 ")
    path.unlink()
    kept.write("new\n")
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o600


# --- what nobody says ---

ENDING = """
import threading, warnings, sys
from ots_common import logs
from ots_common.settings import LogSettings
logs.configure("tests", LogSettings())
logs.take_over()
warnings.warn("old way\\nof doing", DeprecationWarning, stacklevel=1)
class Odd:
    def __del__(self): raise OSError("in a destructor")
thread = threading.Thread(target=lambda: 1 / 0, name="worker-1"); thread.start(); thread.join()
odd = Odd(); del odd
raise RuntimeError("postgresql://u:hunter2@h/d")
"""


def test_warnings_and_what_nobody_caught_are_lines_too():
    ended = subprocess.run(
        [sys.executable, "-W", "always", "-c", ENDING], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    warned, thread, destructor, last = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (warned["event"], warned["category"]) == ("python_warning", "DeprecationWarning")
    assert warned["message"] == "old way\nof doing"
    assert {line["event"] for line in (thread, destructor, last)} == {"uncaught_exception"}
    assert thread["thread"] == "worker-1"
    assert "ZeroDivisionError" in thread["exception"]
    assert "in a destructor" in destructor["exception"]
    assert last["level"] == "critical"
    assert "hunter2" not in ended.stderr


GREENLET = """
from gevent import monkey
monkey.patch_all()
import gevent
from ots_common import logs
from ots_common.settings import LogSettings
logs.configure("tests", LogSettings())
logs.take_over()
gevent.spawn(lambda: 1 / 0).join()
"""


def test_what_ends_a_greenlet_is_a_line_too():
    ended = subprocess.run([sys.executable, "-c", GREENLET], capture_output=True, text=True, check=True, timeout=60)
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert line["event"] == "uncaught_exception"
    assert "ZeroDivisionError" in line["exception"]
    assert "Greenlet" in line["within"]


def test_a_library_takes_nothing_over():
    before = warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook
    configured()
    assert (warnings.showwarning, sys.excepthook, threading.excepthook, sys.unraisablehook) == before


def test_lines_that_go_nowhere_break_no_request():
    """Workers whose master was killed write into a pipe that nobody reads; a full disk takes nothing either."""
    script = """
import os, sys
from ots_common import logs
from ots_common.settings import LogSettings
logs.configure("a-service", LogSettings())
reader, writer = os.pipe()
os.dup2(writer, 2)
os.close(reader)
import structlog
structlog.get_logger("somewhere").warning("nobody_reads")
logs.write_lines([["a line\\n"]])
print("goes on")
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    assert said == "goes on\n"
