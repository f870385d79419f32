"""What is known of an indicator beside its function: parameters, bounds, outputs, and how far back it looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ots_quant.indicators.history import History
from ots_quant.indicators.panels import Series
from ots_quant.indicators.streaming import Stream

Values = Mapping[str, float]
Bars = Callable[[Values], float]


@dataclass(frozen=True)
class Parameter:
    """One parameter of an indicator, in the order in which ``name:value:value`` gives them."""

    name: str
    default: float
    least: float
    most: float
    whole: bool = True


@dataclass(frozen=True)
class Rule:
    """What must hold between parameters; ``says`` is the refusal where it does not."""

    says: str
    holds: Callable[[Values], bool]


@dataclass(frozen=True)
class Span:
    """A stretch of the past: whole sessions and, beside them, bars. `in_bars` is its greatest length."""

    bars: int = 0
    sessions: int = 0

    def in_bars(self, bars_per_session: int) -> int:
        """The bars it has at most, where a session has at most ``bars_per_session``."""
        return self.bars + self.sessions * bars_per_session


@dataclass(frozen=True)
class Indicator:
    """An indicator: ``function`` takes its inputs, named as the fields of `History`, and its parameters by name.

    ``lookback``: after how much of the past the value of a bar is there at the earliest. ``memory``: how much of the
    past, the bar itself and its session included, still matters to its value to 1e-9; None where that has no bound.
    ``unknown``: why a value may be missing though the past is long enough. ``stream`` begins its streaming state, with
    the same parameters; None where there is none.
    """

    name: str
    meaning: str
    source: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    lookback: Callable[[Values], Span]
    memory: Callable[[Values], Span | None]
    stream: Callable[..., Stream] | None
    rules: tuple[Rule, ...] = ()
    unknown: str | None = None

    @property
    def by_session(self) -> bool:
        """Whether it must be told which session a bar belongs to."""
        return "session" in self.inputs

    def defaults(self) -> dict[str, float]:
        """Each parameter's default."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def check(self, values: Values) -> None:
        """Raises ValueError that says which parameter is out of its bounds, or which rule is broken."""
        for parameter in self.parameters:
            value = values[parameter.name]
            if parameter.whole and not float(value).is_integer():
                raise ValueError(f"{parameter.name} must be a whole number")
            if not parameter.least <= value <= parameter.most:
                raise ValueError(f"{parameter.name} must be from {parameter.least:g} to {parameter.most:g}")
        for rule in self.rules:
            if not rule.holds(values):
                raise ValueError(rule.says)

    def compute(self, history: History, values: Values) -> tuple[Series, ...]:
        """One array for each of ``outputs``, of the shape of the bars. Raises ValueError as the function does."""
        inputs = {name: getattr(history, name) for name in self.inputs}
        if missing := [name for name, value in inputs.items() if value is None]:
            raise ValueError(f"{missing[0]} is needed for {self.name}")
        found = self.function(**inputs, **self._arguments(values))
        return tuple(found) if isinstance(found, tuple) else (found,)

    def begin(self, values: Values, bars_per_year: float = 252.0) -> Stream:
        """A streaming state before its first bar. Raises ValueError where there is none."""
        if self.stream is None:
            raise ValueError(f"{self.name} has no streaming state")
        annual = {"bars_per_year": bars_per_year} if "bars_per_year" in self.inputs else {}
        return self.stream(**self._arguments(values), **annual)

    def _arguments(self, values: Values) -> dict[str, Any]:
        return {p.name: int(values[p.name]) if p.whole else values[p.name] for p in self.parameters}


def of_bars(
    function: Callable[..., Any],
    stream: Callable[..., Stream],
    meaning: str,
    source: str,
    inputs: str,
    parameters: tuple[Parameter, ...],
    lookback: Bars,
    memory: Bars | None = None,
    *,
    outputs: str | None = None,
    rules: tuple[Rule, ...] = (),
) -> Indicator:
    """An indicator of bars whatever their session. Without ``memory``: a window of the lookback and the bar itself."""
    remembered = memory or (lambda p: lookback(p) + 1)
    return Indicator(
        name=function.__name__,
        meaning=meaning,
        source=source,
        function=function,
        inputs=tuple(inputs.split()),
        parameters=parameters,
        outputs=(function.__name__,) if outputs is None else tuple(outputs.split()),
        lookback=lambda p: Span(int(lookback(p))),
        memory=lambda p: Span(int(remembered(p))),
        stream=stream,
        rules=rules,
    )


def endless(entry: Indicator) -> Indicator:
    """The entry, whose values depend on all of the past."""
    return replace(entry, memory=lambda p: None)


def of_sessions(
    function: Callable[..., Any],
    stream: Callable[..., Stream] | None,
    meaning: str,
    source: str,
    inputs: str,
    parameters: tuple[Parameter, ...],
    lookback: Callable[[Values], Span],
    sessions: Bars,
    *,
    outputs: str | None = None,
    unknown: str,
) -> Indicator:
    """An indicator of sessions, of which ``sessions`` matter, the bar's own included."""
    return Indicator(
        name=function.__name__,
        meaning=meaning,
        source=source,
        function=function,
        inputs=tuple(inputs.split()),
        parameters=parameters,
        outputs=(function.__name__,) if outputs is None else tuple(outputs.split()),
        lookback=lookback,
        memory=lambda p: Span(sessions=int(sessions(p))),
        stream=stream,
        unknown=unknown,
    )
