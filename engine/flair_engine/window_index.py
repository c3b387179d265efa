"""Windows by the ten thousand: which of them meet, and what they cover together.

They are packed as rectangles of rectangles, an R-tree (Leutenegger et al., STR: A Simple and
Efficient Algorithm for R-Tree Packing, ICDE 1997), in n log n steps; of what lies far away little
is looked at then.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import bounds, ceil_div

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from flair_engine.grid import Window

FAN_OUT = 64
"""Rectangles in a rectangle of the next level: fewer are looked at one by one."""
AT_ONCE = 256
"""Windows that are looked up together."""


class WindowIndex:
    """Windows, to find among many those that meet another."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        edges = _edges(windows)
        self._numbers = _packed(edges)
        """Numbers of the windows, in the order in which they are packed."""
        self._levels = [edges[:, self._numbers]]
        """Tops, bottoms, lefts and rights [4, n]: of windows, then of what holds FAN_OUT each."""
        while self._levels[-1].shape[1] > FAN_OUT:
            self._levels.append(_held(self._levels[-1]))

    def meeting(self, window: Window) -> list[int]:
        """Return the numbers of the windows that share a pixel with `window`, in their order."""
        _, found = self._met(_edges([window]))
        return sorted(found.tolist())

    def windows_meeting(self, window: Window) -> list[Window]:
        """Return the windows that share a pixel with `window`, in their order."""
        return [self._windows[number] for number in self.meeting(window)]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the numbers of every two windows that share a pixel, smaller first, in order."""
        edges = _edges(self._windows)
        for start in range(0, edges.shape[1], AT_ONCE):
            ones, others = self._met(edges[:, start : start + AT_ONCE])
            apart = start + ones < others
            ones, others = start + ones[apart], others[apart]
            order = np.lexsort((others, ones))
            yield from zip(ones[order].tolist(), others[order].tolist(), strict=True)

    def _met(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return numbers of windows, their edges [4, n] given, and those of the index they meet."""
        top = self._levels[-1].shape[1]
        asked = np.repeat(np.arange(edges.shape[1]), top)
        places = np.tile(np.arange(top), edges.shape[1])
        for depth in reversed(range(len(self._levels))):
            level = self._levels[depth]
            met = _meet(edges[:, asked], level[:, places])
            asked, places = asked[met], places[met]
            if depth:
                asked = np.repeat(asked, FAN_OUT)
                places = (places[:, None] * FAN_OUT + np.arange(FAN_OUT)).ravel()
                there = places < self._levels[depth - 1].shape[1]
                asked, places = asked[there], places[there]
        return asked, self._numbers[places]


def _edges(windows: Sequence[Window]) -> np.ndarray:
    """Return tops, bottoms, lefts and rights [4, n]."""
    edges = np.array([(w.top, w.bottom, w.left, w.right) for w in windows], np.int64)
    return np.ascontiguousarray(edges.reshape(-1, 4).T)


def _meet(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return bool [n], True where two rectangles share a pixel; edges [4, n]."""
    top, left = np.maximum(one[::2], other[::2])
    bottom, right = np.minimum(one[1::2], other[1::2])
    return np.asarray((top < bottom) & (left < right))


def _packed(edges: np.ndarray) -> np.ndarray:
    """Return the order in which windows that lie side by side follow one another."""
    number = edges.shape[1]
    slabs = max(1, math.isqrt(ceil_div(number, FAN_OUT)))
    middles = edges[::2] + edges[1::2]
    down = np.argsort(middles[0], kind="stable")
    slab = np.empty(number, np.int64)
    slab[down] = np.arange(number) * slabs // max(1, number)
    return np.asarray(np.lexsort((middles[1], slab)))


def _held(level: np.ndarray) -> np.ndarray:
    """Return the rectangles around each FAN_OUT of a level, edges [4, n]."""
    starts = np.arange(0, level.shape[1], FAN_OUT)
    least, most = (np.minimum.reduceat(level[::2], starts, axis=1),
                   np.maximum.reduceat(level[1::2], starts, axis=1))  # fmt: skip
    return np.stack([least[0], most[0], least[1], most[1]])


def meeting(windows: Sequence[Window]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of every two windows that share a pixel, the smaller first, in order."""
    return WindowIndex(windows).pairs()


def union_px(windows: Iterable[Window]) -> int:
    """Return how many pixels some windows cover together."""
    some = sorted((w for w in windows if w.pixels), key=lambda w: w.left)
    if not some:
        return 0
    index, around = WindowIndex(some), bounds(some)
    _, _, left, right = _edges(some)
    rows = sorted({edge for window in some for edge in (window.top, window.bottom)})
    total = 0
    for first, stop in pairwise(rows):
        # Sorted by their left edges: each adds what reaches beyond all before it.
        across = index.meeting(replace(around, top=first, height=stop - first))
        reached = np.maximum.accumulate(right[across])
        begins = np.maximum(left[across][1:], reached[:-1])
        widths = np.maximum(reached[1:] - begins, 0).sum() + (reached[:1] - left[across][:1]).sum()
        total += int(widths) * (stop - first)
    return total
