"""Cores that are wanted of an area, a bit each: of a country's grid 50 MB instead of 400."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS_AT_ONCE = 2048
"""Rows of cores that are looked at together, a byte each: of a country's grid 40 MB."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CoreMask:
    """Which cores of a rectangle are wanted."""

    packed: np.ndarray
    """uint8 [rows, bytes]; bits of a byte from the highest on, those past the last column 0."""
    cols: int

    @classmethod
    def of(cls, wanted: np.ndarray) -> CoreMask:
        """Return bool [rows, cols] as bits."""
        return cls(packed=np.packbits(wanted, axis=1), cols=wanted.shape[1])

    @classmethod
    def in_blocks(cls, rows: range, cols: int, of_rows: Callable[[range], np.ndarray]) -> CoreMask:
        """Return the mask of rows of the grid, whose bool [rows, cols] are asked for by and by.

        Blocks end at the same rows of the grid wherever `rows` begin.
        """
        packed = np.zeros((len(rows), ceil_div(cols, 8)), np.uint8)
        for start in range(rows.start // ROWS_AT_ONCE * ROWS_AT_ONCE, rows.stop, ROWS_AT_ONCE):
            block = range(max(rows.start, start), min(rows.stop, start + ROWS_AT_ONCE))
            here = slice(block.start - rows.start, block.stop - rows.start)
            packed[here] = np.packbits(of_rows(block), axis=1)
        return cls(packed=packed, cols=cols)

    def __getitem__(self, place: tuple[int, int]) -> bool:
        """Return whether one core is wanted, by row and column."""
        row, col = place
        return bool(self.packed[row, col >> 3] >> (7 - (col & 7)) & 1)

    def any(self) -> bool:
        """Return whether a core is wanted."""
        return bool(self.packed.any())

    def by_row(self) -> np.ndarray:
        """Return bool [rows], True where a core of the row is wanted."""
        return np.asarray(self.packed.any(1))

    def by_col(self) -> np.ndarray:
        """Return bool [cols], True where a core of the column is wanted."""
        return np.asarray(self.unpacked(np.bitwise_or.reduce(self.packed, axis=0)[None])[0])

    def column(self, col: int) -> np.ndarray:
        """Return bool [rows] of one column."""
        return np.asarray(self.packed[:, col >> 3] >> (7 - (col & 7)) & 1, bool)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return bool [stop - start, cols] of some rows."""
        return self.unpacked(self.packed[start:stop])

    def cut(self, rows: slice, cols: slice) -> CoreMask:
        """Return the mask of a rectangle of it, between rows and columns that are given."""
        whole = range(*rows.indices(len(self.packed)))
        width = len(range(*cols.indices(self.cols)))
        return self.in_blocks(whole, width, lambda r: self.rows(r.start, r.stop)[:, cols])

    def within(self, rows: np.ndarray, cols: np.ndarray) -> CoreMask:
        """Return what lies in rows, bool [rows], and in columns, bool [cols], too."""
        kept = np.where(rows[:, None], np.packbits(cols)[None], np.uint8(0))
        return CoreMask(packed=np.bitwise_and(self.packed, kept, out=kept), cols=self.cols)

    def tiles(self, first: tuple[int, int], size: int) -> Iterator[tuple[int, int]]:
        """Yield row and column of the squares of `size` cores in which one is wanted, in order.

        Its first core is `first`, by row and column, of the grid that squares are counted on.
        """
        top, left = first
        rows, cols = len(self.packed), self.cols
        starts = [max(0, edge - left) for edge in range(left // size * size, left + cols, size)]
        for edge in range(top // size * size, top + rows, size):
            some = self.packed[max(0, edge - top) : edge - top + size]
            met = self.unpacked(np.bitwise_or.reduce(some, axis=0)[None])[0]
            found = np.flatnonzero(np.logical_or.reduceat(met, starts))
            yield from ((edge // size, left // size + int(number)) for number in found)

    def unpacked(self, packed: np.ndarray) -> np.ndarray:
        """Return bytes of some rows as bool [rows, cols]."""
        return np.unpackbits(packed, axis=1, count=self.cols).view(bool)
