"""What a client asks for: ``sma,rsi:14,macd:12:26:9`` checked against the registry."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ots_common.problems import FieldError, Problem
from ots_quant.registry import INDICATORS, Indicator, Parameter

_AT_MOST = 20
_POINTER = "#/query/indicators"


@dataclass(frozen=True)
class Wanted:
    """One indicator with its parameters; ``key`` names it in the answer."""

    key: str
    indicator: Indicator
    parameters: dict[str, float]

    def stated_parameters(self) -> dict[str, float]:
        """The parameters as they are answered: whole ones as integers."""
        return {
            p.name: int(self.parameters[p.name]) if p.whole else self.parameters[p.name]
            for p in self.indicator.parameters
        }


def parse_indicators(text: str, period: int | None) -> list[Wanted]:
    """The indicators that ``text`` names; ``period`` replaces the default of those that have one.

    A name asked for once is its own key; one asked for several times (``sma:20,sma:50``) is keyed by its whole text.
    Raises a 422 problem that names every wrong part and what there is.
    """
    parts = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not parts:
        raise _wrong(["name at least one indicator, such as sma,rsi,macd"])
    if len(parts) > _AT_MOST:
        raise _wrong([f"{len(parts)} indicators are asked for; {_AT_MOST} at once are the most"])
    wanted, errors = [], []
    names = [part.split(":")[0] for part in parts]
    for part, name in zip(parts, names, strict=True):
        try:
            wanted.append(_parse_one(part, name, period, once=names.count(name) == 1))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise _wrong(errors)
    if len({one.key for one in wanted}) < len(wanted):
        raise _wrong(["the same indicator is asked for twice"])
    return wanted


def _wrong(details: list[str]) -> Problem:
    return Problem(
        422,
        "invalid-indicators",
        "; ".join(details),
        errors=[FieldError(_POINTER, detail) for detail in details],
        hint="GET /api/v1/analytics/indicators lists them all",
        extra={"available": sorted(INDICATORS)},
    )


def _parse_one(part: str, name: str, period: int | None, *, once: bool) -> Wanted:
    indicator = INDICATORS.get(name)
    if indicator is None:
        raise ValueError(f"there is no indicator {name!r}")
    given = part.split(":")[1:]
    if len(given) > len(indicator.parameters):
        names = ":".join(p.name for p in indicator.parameters)
        raise ValueError(f"{part}: {name} takes {len(indicator.parameters)} parameters ({name}:{names})")
    parameters = {p.name: float(p.default) for p in indicator.parameters}
    if period is not None and "period" in parameters:
        parameters["period"] = float(period)
    for parameter, value in zip(indicator.parameters, given, strict=False):
        parameters[parameter.name] = _number(part, parameter, value)
    try:
        indicator.check(parameters)
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from None
    return Wanted(name if once else part, indicator, parameters)


def _number(part: str, parameter: Parameter, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (parameter.whole and number != int(number)):
        raise ValueError(f"{part}: {parameter.name} must be a {'whole ' if parameter.whole else ''}number")
    return number
