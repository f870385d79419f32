"""What can go wrong with a market data vendor, on demand: armed over HTTP, fired at exact records, counted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ots_simulator.merging import Batch

LiveKind = Literal["drop", "reset", "mute", "trickle", "slow", "error", "skip", "remap"]
DoorKind = Literal["refuse", "auth", "aged-out"]
HistoricalKind = Literal["http", "truncate", "count"]


class Fault(BaseModel):
    """One fault. What each kind does, and which fields it reads, is said in the simulator's README."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: LiveKind | DoorKind | HistoricalKind
    dataset: str | None = Field(None, description="Only there; null: everywhere.")
    schema_name: str | None = Field(None, alias="schema", description="Only for its records; null: for all.")
    after_records: int | None = Field(None, ge=0, description="Fires when a session has sent so many since it armed.")
    at_ns: int | None = Field(None, ge=0, description="Fires at the first record of this index time or later.")
    times: int = Field(1, ge=0, description="How often it fires in all; 0: until it is deleted.")
    records: int = Field(1, ge=1, description="trickle, slow, skip: how many records are affected.")
    seconds: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="mute: how long, in real time; null: until deleted."
    )
    heartbeats: bool = Field(False, description="mute: whether heartbeats go on.")
    bytes_per_s: int = Field(10_000, ge=1, description="slow: the speed.")
    code: int = Field(6, ge=1, le=8, description="error: Databento's error code.")
    message: str | None = Field(None, description="error, auth, http: the text.")
    close: bool | None = Field(None, description="error: whether the session ends; null: as the code demands.")
    symbols: tuple[str, ...] = Field((), description="remap: whose ids are exchanged in a ring; empty: all.")
    status: int = Field(503, ge=400, le=599, description="http: the status.")
    retry_after_s: int | None = Field(None, ge=0, description="http: Retry-After.")
    call: str | None = Field(None, description="http, truncate: only this call, e.g. timeseries.get_range.")
    style: Literal["cut", "unfinished", "short"] = Field(
        "cut", description="truncate: connection cut; or a clean end of an unfinished zstd frame, or of a whole one."
    )
    delta: int = Field(1, description="count: added to what get_record_count says.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Fault:
        if self.after_records is not None and self.at_ns is not None:
            raise ValueError("after_records and at_ns exclude each other")
        if self.kind == "refuse" and self.dataset is not None:
            raise ValueError("a connection is refused before it names a dataset")
        return self


@dataclass
class Armed:
    """A fault in force."""

    number: int
    fault: Fault
    fired: int = 0
    deleted: bool = False

    @property
    def spent(self) -> bool:
        """Whether it will not fire again."""
        return self.deleted or (self.fault.times > 0 and self.fired >= self.fault.times)

    def concerns(self, dataset: str, schema: str | None = None) -> bool:
        """Whether it is about this dataset and schema."""
        return self.fault.dataset in (None, dataset) and (schema is None or self.fault.schema_name in (None, schema))


class Faults:
    """All faults of a simulator. Used from its event loop only."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._armed: dict[int, Armed] = {}
        self._waiting: list[Armed] = []

    def arm(self, fault: Fault) -> Armed:
        """Put ``fault`` in force."""
        armed = Armed(next(self._numbers), fault)
        self._armed[armed.number] = armed
        self._waiting.append(armed)
        return armed

    def all(self) -> list[Armed]:
        """Every fault that was not deleted, spent ones too."""
        return list(self._armed.values())

    def delete(self, number: int | None = None) -> int:
        """End one fault, or all; how many."""
        numbers = list(self._armed) if number is None else [number] if number in self._armed else []
        for one in numbers:
            self._armed.pop(one).deleted = True
        return len(numbers)

    def waiting(self, *kinds: str) -> list[Armed]:
        """Faults of ``kinds`` that may still fire, oldest first."""
        self._waiting = [one for one in self._waiting if not one.spent]
        return [one for one in self._waiting if one.fault.kind in kinds]

    def fire(self, dataset: str, schema: str | None, *kinds: str, call: str | None = None) -> Fault | None:
        """Fire the oldest fault of ``kinds`` that concerns this, and return it."""
        for armed in self.waiting(*kinds):
            if armed.concerns(dataset, schema) and armed.fault.call in (None, call):
                armed.fired += 1
                return armed.fault
        return None


@dataclass
class Triggers:
    """When faults fire in one live session. ``schemas``: the schema of each stream of its batches.

    A fault that waits for records fires whenever so many more were sent; any other once a session.
    """

    faults: Faults
    dataset: str
    schemas: list[str] = field(default_factory=list)
    _seen: dict[int, int] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def next_due(self, batch: Batch, now_ns: int) -> tuple[int, Armed | None]:
        """The first fault that fires while ``batch`` is sent, and how many of its records go before; counts those.

        Without one: all of the batch, and None.
        """
        mine = [armed for armed in self.faults.waiting(*get_args(LiveKind)) if armed.concerns(self.dataset)]
        count, due = len(batch), None
        for armed in mine:
            position = self._position(armed, batch, now_ns)
            if position is not None and (due is None or position < count):
                count, due = position, armed
        for armed in mine:
            sent = int(self.matching(armed.fault, batch)[:count].sum())
            self._seen[armed.number] = self._seen.get(armed.number, 0) + sent
        if due is not None:
            due.fired += 1
            self._seen[due.number] = 0
            if not due.fault.after_records:
                self._done.add(due.number)
        return count, due

    def matching(self, fault: Fault, batch: Batch) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which records of ``batch`` ``fault`` is about, shape (n,)."""
        if fault.schema_name is None:
            return np.ones(len(batch), bool)
        about = [number for number, schema in enumerate(self.schemas) if schema == fault.schema_name]
        return np.isin(batch.streams, about)

    def _position(self, armed: Armed, batch: Batch, now_ns: int) -> int | None:
        fault = armed.fault
        if armed.number in self._done:
            return None
        mask = self.matching(fault, batch)
        if fault.after_records:
            missing = fault.after_records - self._seen.get(armed.number, 0)
            if missing <= 0:
                return 0
            found = np.flatnonzero(mask)
            return int(found[missing - 1]) + 1 if len(found) >= missing else None
        if fault.at_ns is not None:
            found = np.flatnonzero(mask & (batch.times >= fault.at_ns))
            if len(found):
                return int(found[0])
            return len(batch) if now_ns >= fault.at_ns and not len(batch) else None
        return 0
