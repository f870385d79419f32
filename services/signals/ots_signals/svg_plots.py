"""Plots as SVG text, for pages that must stand alone: no script, no font, no address of anything else.

Colours are classes of the page (``a`` to ``d``, ``band``), so that a page decides them for light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ots_signals.market_view import Floats

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 44
_TICKS = 5


@dataclass(frozen=True)
class Line:
    """Points joined in order; NaN breaks it. ``style``: a class of the page."""

    name: str
    x: Sequence[float] | Floats
    y: Sequence[float] | Floats
    style: str


@dataclass(frozen=True)
class Band:
    """The area between two lines."""

    name: str
    x: Sequence[float] | Floats
    low: Sequence[float] | Floats
    high: Sequence[float] | Floats


@dataclass(frozen=True)
class Dots:
    """Points apart, with an interval each where ``low`` and ``high`` are given."""

    name: str
    x: Sequence[float] | Floats
    y: Sequence[float] | Floats
    style: str
    low: Sequence[float] | Floats | None = None
    high: Sequence[float] | Floats | None = None


@dataclass(frozen=True)
class Plot:
    """One pair of axes. ``labels``: texts along x at their places, instead of numbers. ``square``: the same on both."""

    title: str
    x_title: str
    y_title: str
    marks: Sequence[Line | Band | Dots]
    labels: Sequence[tuple[float, str]] = ()
    square: bool = False
    zero: bool = True  # a line at y = 0
    percent: bool = True

    def svg(self) -> str:
        """The whole element; a text where there is nothing to show."""
        xs, ys = _reach(self.marks, self.zero)
        if xs is None or ys is None:
            return f'<p class="none">{escape(self.title)}: nothing to show.</p>'
        if self.square:
            xs = ys = (min(xs[0], ys[0]), max(xs[1], ys[1]))
        x_ticks, y_ticks = _ticks(*xs), _ticks(*ys)
        place = _Places(xs, ys)
        parts = [
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.title, quote=True)}">',
            f"<title>{escape(self.title)}</title>",
        ]
        for value in y_ticks:
            y = place.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:g}" class="right">{_number(value, self.percent)}</text>')
        if self.zero and ys[0] < 0 < ys[1]:
            parts.append(f'<path class="zero" d="M{_LEFT} {place.y(0.0)}H{_WIDTH - _RIGHT}"/>')
        for value, text in self.labels or [(one, _number(one, self.percent)) for one in x_ticks]:
            x = place.x(value)
            # a long one at an end stays within
            anchor = "right" if self.labels and x > _WIDTH - 60 else "middle" if x > _LEFT + 20 else "left"
            parts.append(f'<text x="{x:g}" y="{_HEIGHT - _BOTTOM + 16}" class="{anchor}">{escape(text)}</text>')
        for mark in self.marks:
            parts.append(_drawn(mark, place))
        parts.append(
            f'<text x="{(_LEFT + _WIDTH - _RIGHT) // 2}" y="{_HEIGHT - 6}" class="middle">{escape(self.x_title)}</text>'
            f'<text transform="rotate(-90)" x="{-(_TOP + _HEIGHT - _BOTTOM) // 2}" y="14" class="middle">'
            f"{escape(self.y_title)}</text></svg>"
        )
        return f"<figure>{''.join(parts)}<figcaption>{self._legend()}</figcaption></figure>"

    def _legend(self) -> str:
        keys = [
            f'<span class="key {"band" if isinstance(mark, Band) else mark.style}">{escape(mark.name)}</span>'
            for mark in self.marks
            if mark.name
        ]
        return f"<b>{escape(self.title)}.</b> {' '.join(keys)}"


class _Places:
    """Values to pixels, of a tenth at most."""

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self._xs, self._ys = xs, ys

    def x(self, value: float) -> float:
        part = (value - self._xs[0]) / (self._xs[1] - self._xs[0])
        return round(_LEFT + part * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        part = (value - self._ys[0]) / (self._ys[1] - self._ys[0])
        return round(_HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM), 1)


def _drawn(mark: Line | Band | Dots, place: _Places) -> str:
    if isinstance(mark, Band):
        known = np.isfinite(np.asarray(mark.low)) & np.isfinite(np.asarray(mark.high))
        x, low, high = (np.asarray(one, np.float64)[known].tolist() for one in (mark.x, mark.low, mark.high))
        if not x:
            return ""
        points = [*zip(x, high, strict=True), *zip(x[::-1], low[::-1], strict=True)]
        return f'<path class="band" d="M{"L".join(f"{place.x(a):g} {place.y(b):g}" for a, b in points)}Z"/>'
    x, y = np.asarray(mark.x, np.float64), np.asarray(mark.y, np.float64)
    if isinstance(mark, Line):
        pen, path = "M", []
        for a, b in zip(x.tolist(), y.tolist(), strict=True):
            if not (np.isfinite(a) and np.isfinite(b)):
                pen = "M"
                continue
            path.append(f"{pen}{place.x(a):g} {place.y(b):g}")
            pen = "L"
        return f'<path class="line {mark.style}" d="{"".join(path)}"/>'
    parts = []
    known = np.isfinite(x) & np.isfinite(y)
    if mark.low is not None and mark.high is not None:
        low, high = np.asarray(mark.low, np.float64), np.asarray(mark.high, np.float64)
        for a, b, c in zip(x[known].tolist(), low[known].tolist(), high[known].tolist(), strict=True):
            if np.isfinite(b) and np.isfinite(c):
                parts.append(f'<path class="line {mark.style}" d="M{place.x(a):g} {place.y(b):g}V{place.y(c):g}"/>')
    for a, b in zip(x[known].tolist(), y[known].tolist(), strict=True):
        parts.append(f'<circle class="dot {mark.style}" cx="{place.x(a):g}" cy="{place.y(b):g}" r="2.2"/>')
    return "".join(parts)


def _reach(
    marks: Sequence[Line | Band | Dots], zero: bool
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """From the least to the greatest of all marks, on both axes; None without a point."""
    xs: list[Floats] = []
    ys: list[Floats] = [np.zeros(1)] if zero else []
    for mark in marks:
        xs.append(np.asarray(mark.x, np.float64))
        sides: tuple[Sequence[float] | Floats, ...]
        sides = (mark.low, mark.high) if isinstance(mark, Band) else (mark.y,)
        if isinstance(mark, Dots) and mark.low is not None and mark.high is not None:
            sides = (mark.y, mark.low, mark.high)
        ys += [np.asarray(side, np.float64) for side in sides]
    return _span(xs), _span(ys) if any(len(one) for one in xs) else None


def _span(values: list[Floats]) -> tuple[float, float] | None:
    every = np.concatenate(values) if values else np.zeros(0)
    every = every[np.isfinite(every)]
    if not every.size:
        return None
    low, high = float(every.min()), float(every.max())
    room = (high - low) * 0.03 or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between, about five."""
    raw = (high - low) / _TICKS
    size = 10.0 ** np.floor(np.log10(raw))
    step = float(size * min((one for one in (1, 2, 2.5, 5, 10) if size * one >= raw), default=10))
    first = int(np.ceil(low / step))
    return [k * step for k in range(first, int(np.floor(high / step)) + 1)]


def _number(value: float, percent: bool) -> str:
    text = f"{value * 100:.4g} %" if percent else f"{value:.4g}"
    return text.replace("-", "−")
