"""Speed of a run, and lines that say how far it is where there is no terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LINE_S = 60.0
"""Seconds after which another line is due."""
LINE_SHARE = 0.05
"""Share of the whole after which another line is due, sooner than that."""
SOONEST_S = 10.0
"""Seconds between lines at least: a log of a short run stays short."""


class Pace:
    """Speed since the first look, which does not count: a resumed run has pixels to begin with."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.began: int | None = None
        """Pixels at the first look."""
        self._clock = clock
        self._since_s = 0.0

    def at(self, done: int) -> float:
        """Return pixels per second since the first look, 0 at that."""
        if self.began is None:
            self.began, self._since_s = done, self._clock()
        elapsed_s = self._clock() - self._since_s
        return (done - self.began) / elapsed_s if elapsed_s > 0 else 0.0


class LineProgress:
    """Lines for a log: one a minute, or sooner each 5 %."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._pace = Pace(clock)
        self._said: tuple[float, float] | None = None
        """Time and share of the whole at the last line."""

    def progress(self, done: int, total: int) -> None:
        """Say how far it is, where a line is due; the first one is due a while after the start."""
        rate, now = self._pace.at(done), self._clock()
        share = done / total if total else 1.0
        if self._said is None:
            self._said = now, share
            if done and done < total:
                self._say(
                    f"note: {share:.0%} was labelled before, {mpx(total - done)} Mpx are left"
                )
            return
        waited_s, gained = now - self._said[0], share - self._said[1]
        due = waited_s >= LINE_S or (gained > LINE_SHARE * 0.999 and waited_s >= SOONEST_S)
        if not due or done >= total:
            return
        self._said = now, share
        left = f", {duration((total - done) / rate)} left" if rate else ""
        self._say(f"{share:.0%}, {mpx(done)} of {mpx(total)} Mpx, {rate / 1e6:.2f} Mpx/s{left}")


def mpx(pixels: int) -> str:
    """Return megapixels with one decimal."""
    return f"{pixels / 1e6:.1f}"


def duration(seconds: float) -> str:
    """Return a duration as people say it: `4.2 s`, `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
