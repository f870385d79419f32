"""How far something is: one line of a terminal that is written again, or a few plain lines where there is none."""

from __future__ import annotations

import shutil
from typing import TextIO

_BAR = 24
_STEP = 0.1


class ProgressLine:
    """Writes to ``stream`` while :meth:`show` is called; :meth:`end` leaves the last line standing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._next = 0.0
        self._last = ""

    def show(self, fraction: float, words: str) -> None:
        """``fraction`` of the work is done; ``words`` say the rest."""
        done = round(fraction * _BAR)
        line = f"[{'#' * done}{'.' * (_BAR - done)}] {fraction:4.0%} {words}"
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("\r" + line[:width].ljust(min(width, len(self._last))))
            self._last = line[:width]
            self._stream.flush()
        elif fraction >= self._next or (not self._last and not fraction):
            self._stream.write(f"{fraction:4.0%} {words}\n")
            self._stream.flush()
            self._last = line
            self._next = (fraction // _STEP + 1) * _STEP

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._last:
            self._stream.write("\n")
            self._stream.flush()


def duration(seconds: float | None) -> str:
    """``1:02:03`` or ``2:03``; ``?`` where it is not known."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
