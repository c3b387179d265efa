"""Pixels of a panel in memory, decoded in place, so that strips and tiles are views of them.

Positions are those of the raster and go on outside it, where the image is mirrored.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Window, reflected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.reading.layers import Layer, Raster


class Memory:
    """Hands out arrays, and their memory again when nobody holds a view any more.

    Fresh memory costs a page fault per page.
    """

    def __init__(self) -> None:
        self._free: defaultdict[int, list[np.ndarray]] = defaultdict(list)

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return uint8 of any values."""
        free = self._free[prod(shape)]
        owner = free.pop() if free else np.empty(prod(shape), np.uint8)
        # Views keep `lent` alive, not `owner`: numpy looks through arrays but not memoryviews.
        lent = np.frombuffer(owner.data, np.uint8)
        weakref.finalize(lent, free.append, owner).atexit = False
        return lent.reshape(shape)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one layer covers of raster rows and columns; the pieces of a product lie apart."""

    rows: range
    cols: range
    valid_hw: np.ndarray | None
    """bool [h, w], None where every pixel is valid."""

    def within(self, rows: range, cols: range) -> _Piece:
        """Return the part in a rectangle; it may be empty."""
        top, left = max(rows.start, self.rows.start), max(cols.start, self.cols.start)
        rows, cols = (
            range(top, max(top, min(rows.stop, self.rows.stop))),
            range(left, max(left, min(cols.stop, self.cols.stop))),
        )
        valid_hw = self.valid_hw
        if valid_hw is not None:
            valid_hw = valid_hw[_local(rows, self.rows), _local(cols, self.cols)]
        return _Piece(rows, cols, valid_hw)


class Canvas:
    """The pixels of a range of rows and columns.

    Threads `put` windows of layers into it; what they have put is then finished from the top:
    judged valid or not, filled and mirrored. Finished rows do not change any more.
    """

    def __init__(
        self,
        raster: Raster,
        rows: range,
        cols: range,
        stacked: Sequence[np.ndarray],
        memory: Memory,
    ) -> None:
        """`stacked` says of each product what `overlapping` does of its layers."""
        shape = len(rows), len(cols)
        self.rows, self.cols = rows, cols
        self.image_bhw = memory.array((raster.count, *shape))
        self._invalid_hw = np.zeros(shape, bool)
        self.finished_to = rows.start
        self._raster = raster
        self._flawed = np.zeros(len(rows), bool)
        """Rows in which a pixel is invalid; the others of `_invalid_hw` are not even touched."""
        self._pieces: list[list[_Piece]] = [[] for _ in raster.products]
        """By product, of layers that overlap no other."""
        self._stacked = stacked
        self._highest = {
            number: np.zeros(shape, np.uint32)
            for number, layers in enumerate(self._stacked)
            if layers.any()
        }
        """Which of a product's overlapping layers is seen, counted from 1; 0 is none."""
        self._lock = threading.Lock()

    def put(self, number: int, order: int, part: Window) -> None:
        """Decode a window of layer `order` of product `number`. Raises ReadError.

        Called from many threads, which put windows that lie apart or belong to other layers.
        """
        layer = self._raster.products[number].layers[order]
        rows, cols = _place(layer, part)
        if self._stacked[number][order]:
            self._put_above(number, order, rows, cols, *layer.read(part))
        else:
            _, valid_hw = layer.read(part, self._bands(number, rows, cols))
            self._pieces[number].append(_Piece(rows, cols, valid_hw))

    def take(self, other: Canvas, number: int, order: int, part: Window) -> None:
        """Copy what was put into another canvas, finished there or not."""
        rows, cols = _place(self._raster.products[number].layers[order], part)
        pixels_bhw = other._bands(number, rows, cols)
        if self._stacked[number][order]:
            there = _local(rows, other.rows), _local(cols, other.cols)
            seen_hw = other._highest[number][there] == order + 1
            self._put_above(number, order, rows, cols, pixels_bhw, seen_hw)
        else:
            self._bands(number, rows, cols)[...] = pixels_bhw
            found = [piece.within(rows, cols) for piece in other._pieces[number]]
            self._pieces[number].extend(piece for piece in found if piece.rows and piece.cols)

    def finish(self, until: int) -> np.ndarray | None:
        """Finish the rows above `until`, all of whose pixels inside the raster have been put.

        Return bool [h, w] of the rows and columns inside the raster that have just been finished,
        True where a product that is not required is missing on a valid pixel; None for nowhere.
        """
        first, self.finished_to = self.finished_to, until
        height = self._raster.height
        inside = range(max(first, 0), max(0, min(until, height)))
        missing_hw = self._judge(inside) if inside else None
        for outside in (range(first, min(0, until)), range(max(first, height), until)):
            if outside:
                self._mirror_rows(outside)
        return missing_hw

    def image(self, rows: range, cols: range) -> np.ndarray:
        """Return a view uint8 [bands, h, w] of finished rows."""
        return self.image_bhw[:, _local(rows, self.rows), _local(cols, self.cols)]

    def valid(self, rows: range, cols: range) -> np.ndarray | None:
        """Return the validity bool [h, w] of finished rows, None where all is valid."""
        here = _local(rows, self.rows)
        if not self._flawed[here].any():
            return None
        return ~self._invalid_hw[here, _local(cols, self.cols)]

    def _bands(self, number: int, rows: range, cols: range) -> np.ndarray:
        """Return the view of a product's bands."""
        bands = self._raster.products[number].bands
        return self.image_bhw[bands, _local(rows, self.rows), _local(cols, self.cols)]

    def _put_above(
        self,
        number: int,
        order: int,
        rows: range,
        cols: range,
        pixels_bhw: np.ndarray,
        valid_hw: np.ndarray | None,
    ) -> None:
        """Put pixels of a layer that overlaps others where no higher one is seen."""
        highest_hw = self._highest[number][_local(rows, self.rows), _local(cols, self.cols)]
        with self._lock:
            seen_hw = highest_hw <= order
            if valid_hw is not None:
                seen_hw &= valid_hw
            np.copyto(self._bands(number, rows, cols), pixels_bhw, where=seen_hw)
            highest_hw[seen_hw] = order + 1

    def _lacking(self, number: int, rows: range, cols: range) -> np.ndarray | None:
        """Return bool [h, w], True where no layer of a product is valid; None for nowhere."""
        pieces = [piece.within(rows, cols) for piece in self._pieces[number]]
        whole = sum(len(p.rows) * len(p.cols) for p in pieces if p.valid_hw is None)
        if whole == len(rows) * len(cols):
            return None
        highest = self._highest.get(number)
        if highest is None:
            lacking_hw = np.ones((len(rows), len(cols)), bool)
        else:
            lacking_hw = highest[_local(rows, self.rows), _local(cols, self.cols)] == 0
        for piece in pieces:
            here = _local(piece.rows, rows), _local(piece.cols, cols)
            lacking_hw[here] = False if piece.valid_hw is None else ~piece.valid_hw
        return lacking_hw if lacking_hw.any() else None

    def _judge(self, inside: range) -> np.ndarray | None:
        """Judge, fill and mirror sideways rows inside the raster; return what `finish` does."""
        rows = _local(inside, self.rows)
        across = range(max(0, self.cols.start), min(self.cols.stop, self._raster.width))
        cols = _local(across, self.cols)
        image_bhw, invalid_hw = self.image_bhw[:, rows, cols], self._invalid_hw[rows, cols]
        lacking = [
            (product, lacking_hw)
            for number, product in enumerate(self._raster.products)
            if (lacking_hw := self._lacking(number, inside, across)) is not None
        ]
        flawed = any(product.required for product, _ in lacking)
        for product, lacking_hw in lacking:
            if product.required:
                invalid_hw |= lacking_hw
        missing_hw: np.ndarray | None = None
        for product, lacking_hw in lacking:
            if not product.required:
                image_bhw[product.bands][:, lacking_hw] = 0
                missing_hw = lacking_hw & ~invalid_hw
        if flawed:
            image_bhw[:, invalid_hw] = np.array(self._raster.fill, np.uint8)[:, None]
            self._flawed[rows] = invalid_hw.any(1)
        self._mirror_cols(rows, across, flawed)
        return missing_hw

    def _mirror_cols(self, rows: slice, across: range, flawed: bool) -> None:
        for outside in (
            range(self.cols.start, across.start),
            range(across.stop, self.cols.stop),
        ):
            if outside:
                source = _mirror(outside, self._raster.width, self.cols)
                target = _local(outside, self.cols)
                self.image_bhw[:, rows, target] = self.image_bhw[:, rows, source]
                if flawed:
                    self._invalid_hw[rows, target] = self._invalid_hw[rows, source]

    def _mirror_rows(self, outside: range) -> None:
        source = _mirror(outside, self._raster.height, self.rows)
        target = _local(outside, self.rows)
        self.image_bhw[:, target] = self.image_bhw[:, source]
        if self._flawed[source].any():
            self._flawed[target] = self._flawed[source]
            self._invalid_hw[target] = self._invalid_hw[source]


def overlapping(layers: Sequence[Layer]) -> np.ndarray:
    """Return bool [layers], True for those that overlap another."""
    windows = [layer.window for layer in layers]
    edges = np.array([(w.top, w.bottom, w.left, w.right) for w in windows]).reshape(-1, 4)
    top, bottom, left, right = edges.T
    met = [
        (top < w.bottom) & (bottom > w.top) & (left < w.right) & (right > w.left) for w in windows
    ]
    # Every window meets itself.
    return np.array([np.count_nonzero(others) > 1 for others in met], bool)


def _place(layer: Layer, part: Window) -> tuple[range, range]:
    """Return the raster rows and columns of a window of a layer."""
    top = layer.window.top + part.top
    left = layer.window.left + part.left
    return range(top, top + part.height), range(left, left + part.width)


def _local(positions: range, origin: range) -> slice:
    """Return the slice of `positions` in an array whose first position is that of `origin`."""
    return slice(positions.start - origin.start, positions.stop - origin.start)


def _mirror(outside: range, size: int, origin: range) -> slice | np.ndarray:
    """Return where the mirrored pixels of `outside` positions stand in an array.

    A slice where they fall by one, which copies ten times as fast.
    """
    indices = reflected(outside.start, outside.stop, size) - origin.start
    if len(indices) < 2 or (np.diff(indices) != -1).any() or indices[-1] == 0:
        return indices
    return slice(int(indices[0]), int(indices[-1]) - 1, -1)
