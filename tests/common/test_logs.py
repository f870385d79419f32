"""What a traceback in the logs shows, and what it must not."""

import logging

import pytest
import structlog

from ots_common import logs

SECRET = "password-in-a-local-variable"


def connect_with(credential):
    opened = {"credential": credential}
    raise ConnectionRefusedError(f"no answer after {len(opened)} tries")


@pytest.fixture(params=["console", "json"])
def fmt(request):
    root = logging.getLogger()
    before = root.handlers[:], root.level, structlog.get_config()
    yield request.param
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])


@pytest.mark.parametrize("logger", [structlog.get_logger, logging.getLogger], ids=["structlog", "logging"])
def test_a_traceback_names_its_lines_and_no_local_variable(fmt, logger, capsys):
    logs.configure("tests", fmt=fmt)
    try:
        connect_with(SECRET)
    except ConnectionRefusedError:
        logger(__name__).exception("refused")
    shown = capsys.readouterr().err
    assert "ConnectionRefusedError: no answer after 1 tries" in shown
    assert "in connect_with" in shown
    assert "Traceback (most recent call last)" in shown
    assert SECRET not in shown
