"""Rounds: what is kept of figures measured several times."""

from collections.abc import Iterable
from typing import NamedTuple


class Spread(NamedTuple):
    """Least and most of some rounds."""

    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of values, at least one."""
        kept = list(values)
        return cls(min(kept), max(kept))
