"""Writes docs/INDICATORS.md from the registry of indicators.

python docs/generate_indicators.py            writes it
python docs/generate_indicators.py --check    exit code 1 when what is there is not current
"""

from __future__ import annotations

import sys
from pathlib import Path

from ots_quant.registry import INDICATORS, Indicator, Span

TARGET = Path(__file__).with_name("INDICATORS.md")
_HEAD = """# Indicators

Made from `ots_quant.registry` by `python docs/generate_indicators.py`; a test keeps it current.

Over HTTP: `GET /api/v1/analytics/indicators/AAPL?indicators=sma:50,macd:12:26:9&timeframe=1d`. Parameters follow the
name in the order of the table, those that are left out keep their default, `period=` replaces the default period of
all. In Python: `ots_quant.indicators.sma(close, 50)`, for one series of bars or a panel of (symbols, bars), and bar by
bar `ots_quant.indicators.streaming.sma(50)`.

- Where TA-Lib has an indicator it computes it, with its conventions: an EMA begins with the mean of its first values,
  Wilder's means alike, MACD's two averages begin together, Bollinger's deviation divides by n. Supertrend has TA-Lib's
  values by a faster recursion; it and what TA-Lib has not is ours, after the source named.
- **No value looks ahead.** What stands at a bar follows from the bars up to it; a test appends bars to each indicator
  and finds nothing before them changed. Ichimoku's cloud stands where it was known, pivots are those of the session
  before, ranges and profiles grow with their session.
- Bars are adjusted for the splits in force at `as_of`, unless `adjusted=false`.
- A NaN, an infinity, a negative volume or a high below its low among the bars is refused with the reason, never passed
  over. NaN before a row's first bar in a panel is a symbol that was listed later, and gives NaN.
- *First value* is how much must lie before a bar until it has a value: bars, or whole sessions. *Remembers* is how much
  of the past still matters to a value to 1e-9, the bar itself or its session included: `all` means that it depends on
  where the bars begin; the HTTP answer lists those in `since_first_bar`, with `first_bar` beside it.
- A session is a regular session of the exchange's calendar, half days included; a daily bar is a session of its own. A
  bar outside the regular hours has no session: its value is null, with the reason. `slot` is the time of day, counted
  in bars from the opening.
- Volatilities are a year's, as decimals: 252 sessions of regular hours. On bars shorter than a day close-to-close and
  Yang-Zhang include the jump over night when it lies in the window; the others do not see it.
- What a flat market leaves undefined has TA-Lib's value: 0 for RSI, the stochastics, CCI, MFI and Williams' %R.
"""
_ROOMS = (
    ("averages", "Averages"),
    ("momentum", "Momentum"),
    ("trend", "Trend"),
    ("volatility", "Volatility"),
    ("volume", "Volume"),
    ("sessions", "Sessions"),
)


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for module, title in _ROOMS:
        entries = [entry for entry in INDICATORS.values() if entry.function.__module__.endswith(f".{module}")]
        parts.append(f"## {title}\n")
        parts.append("| name | meaning | of | parameters | outputs | first value | remembers | source |")
        parts.append("|---|---|---|---|---|---|---|---|")
        parts += [_row(entry) for entry in entries]
        parts += _rules(entries)
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _row(entry: Indicator) -> str:
    parameters = ", ".join(f"`{p.name}` {p.default:g} ({p.least:g} to {p.most:g})" for p in entry.parameters)
    outputs = ", ".join(f"`{output}`" for output in entry.outputs)
    memory = entry.memory(entry.defaults())
    cells = (
        f"`{entry.name}`" + ("" if entry.stream else " (not streaming)"),
        entry.meaning,
        ", ".join(entry.inputs),
        parameters or "none",
        outputs,
        _length(entry.lookback(entry.defaults())) or "the first bar",
        "all" if memory is None else _length(memory),
        entry.source,
    )
    return f"| {' | '.join(cells)} |"


def _rules(entries: list[Indicator]) -> list[str]:
    ruled = [f"- `{entry.name}`: {rule.says}." for entry in entries for rule in entry.rules]
    return ["", *ruled] if ruled else []


def _length(span: Span) -> str:
    """The span with the default parameters, in words."""
    parts = [f"{n:,} {unit}{'s' if n > 1 else ''}" for n, unit in ((span.sessions, "session"), (span.bars, "bar")) if n]
    return " and ".join(parts)


def main() -> int:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    print(f"wrote {TARGET.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
