"""How a live session opens: the challenge's answer, and what the client says of itself."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ots_simulator.settings import SimulatorSettings
from ots_simulator.sources import Source

_HEARTBEAT_S = "30"


class RefusedError(Exception):
    """The client may not come in; the message is for it."""


@dataclass(frozen=True)
class Greeting:
    """How a session was opened."""

    dataset: str
    ts_out: bool
    compressed: bool
    heartbeat_s: float
    slow_reader: str


def fields_of(line: bytes) -> dict[str, str]:
    """``name=value|name=value`` as a dictionary."""
    pairs = (token.partition("=") for token in line.decode(errors="replace").strip().split("|"))
    return {name: value for name, _, value in pairs}


def admit(fields: Mapping[str, str], challenge: str, source: Source, settings: SimulatorSettings) -> Greeting:
    """Who comes in with ``fields``. Raises :class:`RefusedError`."""
    key = settings.simulator_key.get_secret_value()
    expected = hashlib.sha256(f"{challenge}|{key}".encode()).hexdigest() + f"-{key[-5:]}"
    if not hmac.compare_digest(fields.get("auth", "").encode(), expected.encode()):
        raise RefusedError("Authentication failed.")
    dataset = fields.get("dataset", "")
    if dataset not in source.schemas():
        raise RefusedError(f"Unknown dataset {dataset!r}.")
    if dataset in settings.simulator_denied_datasets:
        raise RefusedError(f"Not entitled to live data of {dataset}.")
    if fields.get("encoding", "dbn") != "dbn" or fields.get("compression", "none") not in ("none", "zstd"):
        raise RefusedError("Only encoding=dbn with compression=none or zstd.")
    heartbeat = fields.get("heartbeat_interval_s") or _HEARTBEAT_S
    if re.fullmatch(r"[1-9][0-9]{0,8}", heartbeat) is None:
        raise RefusedError("Invalid heartbeat_interval_s.")
    return Greeting(
        dataset=dataset,
        ts_out=fields.get("ts_out") == "1",
        compressed=fields.get("compression") == "zstd",
        heartbeat_s=float(heartbeat),
        slow_reader=fields.get("slow_reader_behavior", ""),
    )
