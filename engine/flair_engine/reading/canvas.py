"""Pixels of a panel in memory, decoded in place, so that strips and tiles are views of them.

Positions are those of the raster and go on outside it, where the image is mirrored.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Window, reflected

if TYPE_CHECKING:
    from flair_engine.reading.layers import Raster

ORDER = np.uint32
"""Type of the numbers of layers that overlap."""
ORDER_BYTES = np.dtype(ORDER).itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A window of one layer of a raster."""

    product: int
    """Number of the product in the raster."""
    order: int
    """Number of the layer in the product."""
    window: Window
    """In pixels of the layer."""


class Memory:
    """Hands out arrays, and their memory again when nobody holds a view any more.

    Fresh memory costs a page fault per page. `limit_bytes` says when there is room for another:
    what is asked for beyond it is handed out all the same. One thread asks, any may let go.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._owned_bytes = 0
        self._free: list[np.ndarray] = []
        """What nobody has; others only append."""

    def has_room(self, size: int) -> bool:
        """Return whether one more array of `size` bytes keeps within the limit."""
        lent_bytes = self._owned_bytes - sum(len(owner) for owner in tuple(self._free))
        return lent_bytes + size <= self._limit_bytes

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return uint8 of any values."""
        size = prod(shape)
        owner = self._kept(size)
        # Views keep `lent` alive, not `owner`: numpy looks through arrays but not memoryviews.
        lent = np.frombuffer(owner.data, np.uint8)
        weakref.finalize(lent, self._free.append, owner).atexit = False
        return lent[:size].reshape(shape)

    def _kept(self, size: int) -> np.ndarray:
        """Return memory of `size` bytes or more that nobody has; what is too small goes."""
        while self._free:
            owner = self._free.pop()
            if len(owner) >= size:
                return owner
            self._owned_bytes -= len(owner)
        self._owned_bytes += size
        return np.empty(size, np.uint8)


class Canvas:
    """The pixels of a range of rows and columns.

    Threads `put` parts of layers into it; what they have put is then finished from the top:
    found valid or not, filled and mirrored. Finished rows do not change any more.
    """

    def __init__(
        self,
        raster: Raster,
        rows: range,
        cols: range,
        memory: Memory,
    ) -> None:
        shape = len(rows), len(cols)
        self.rows, self.cols = rows, cols
        self.image_bhw = memory.array((raster.count, *shape))
        self.finished_to = rows.start
        self._raster = raster
        self._invalid_hw = np.zeros(shape, bool)
        self._flawed = np.zeros(len(rows), bool)
        """Rows in which a pixel is invalid; the others of `_invalid_hw` are not even touched."""
        self._across = range(max(0, cols.start), min(cols.stop, raster.width))
        """Columns inside the raster."""
        self._uncovered_px = [np.full(len(rows), len(self._across)) for _ in raster.products]
        """By product int64 [h], how many pixels of a row inside the raster nothing valid covers.

        Masks are made only where that is not 0 in the end: they cost as much as copying pixels."""
        self._parts: list[list[Part]] = [[] for _ in raster.products]
        """By product, what was put of layers that overlap no other."""
        self._holes: dict[int, np.ndarray] = {}
        """By product bool [h, w], True where such a part is not valid."""
        self._lost: dict[int, np.ndarray] = {}
        """By product bool [h, w], True where a part could not be decoded."""
        self._seen = {
            number: np.zeros(shape, ORDER)
            for number, product in enumerate(raster.products)
            if product.stacked.any()
        }
        """Which of a product's overlapping layers is seen, counted from 1; 0 is none."""
        self._lock = threading.Lock()

    def put(self, part: Part) -> None:
        """Decode a part of a layer. Raises ReadError.

        Called from many threads, with parts that lie apart or belong to other layers.
        """
        layer = self._raster.products[part.product].layers[part.order]
        if self._raster.products[part.product].stacked[part.order]:
            pixels = layer.read(part.window)
            self._stack(part, pixels.image_bhw, pixels.valid_hw)
        else:
            pixels = layer.read(part.window, self._pixels(part))
            self._cover(part, None if pixels.valid_hw is None else ~pixels.valid_hw)
        if pixels.lost_hw is not None:
            self._lose(part, pixels.lost_hw)

    def take(self, other: Canvas, part: Part) -> None:
        """Copy what was put into another canvas, finished there or not."""
        there = other._place(part)
        if self._raster.products[part.product].stacked[part.order]:
            seen_hw = other._seen[part.product][there] == part.order + 1
            self._stack(part, other._pixels(part), seen_hw)
        else:
            self._pixels(part)[...] = other._pixels(part)
            holes = other._holes.get(part.product)
            self._cover(part, None if holes is None else holes[there])
        if part.product in other._lost:
            self._lose(part, other._lost[part.product][there])

    def finish(self, until: int) -> np.ndarray | None:
        """Finish the rows above `until`, all of whose pixels inside the raster have been put.

        Return bool [h, w] of the rows and columns inside the raster that have just been finished,
        True where a product that is not required is missing on a valid pixel; None for nowhere.
        """
        first, self.finished_to = self.finished_to, until
        height = self._raster.height
        inside = range(max(first, 0), max(0, min(until, height)))
        missing_hw = self._settle(inside) if inside else None
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

    def _place(self, part: Part) -> tuple[slice, slice]:
        """Return the rows and columns of the canvas that a part covers."""
        return self._slices(self._on_raster(part))

    def _on_raster(self, part: Part) -> Window:
        """Return the pixels of the raster that a part covers."""
        layer = self._raster.products[part.product].layers[part.order]
        top, left = layer.window.top + part.window.top, layer.window.left + part.window.left
        return replace(part.window, top=top, left=left)

    def _pixels(self, part: Part) -> np.ndarray:
        """Return the view of a part's pixels, uint8 [bands of the product, h, w]."""
        rows, cols = self._place(part)
        return self.image_bhw[self._raster.products[part.product].bands, rows, cols]

    def _cover(self, part: Part, hole_hw: np.ndarray | None) -> None:
        """Note that a part was put, valid but for `hole_hw`, bool [h, w]; None for no hole."""
        rows, cols = self._place(part)
        holes_px = 0 if hole_hw is None else np.count_nonzero(hole_hw, axis=1)
        with self._lock:
            self._parts[part.product].append(part)
            self._uncovered_px[part.product][rows] -= part.window.width - holes_px
            if hole_hw is not None:
                if part.product not in self._holes:
                    self._holes[part.product] = np.zeros(self._invalid_hw.shape, bool)
                self._holes[part.product][rows, cols] = hole_hw

    def _stack(self, part: Part, pixels_bhw: np.ndarray, valid_hw: np.ndarray | None) -> None:
        """Put pixels of a layer that overlaps others where no earlier one is seen."""
        rows, cols = self._place(part)
        before_hw = self._seen[part.product][rows, cols]
        with self._lock:
            first_hw = before_hw == 0
            seen_hw = first_hw | (before_hw > part.order + 1)
            if valid_hw is not None:
                seen_hw &= valid_hw
            np.copyto(self._pixels(part), pixels_bhw, where=seen_hw)
            self._uncovered_px[part.product][rows] -= np.count_nonzero(seen_hw & first_hw, axis=1)
            before_hw[seen_hw] = part.order + 1

    def _lose(self, part: Part, lost_hw: np.ndarray) -> None:
        """Note pixels of a part that could not be decoded, bool [h, w]."""
        rows, cols = self._place(part)
        with self._lock:
            if part.product not in self._lost:
                self._lost[part.product] = np.zeros(self._invalid_hw.shape, bool)
            self._lost[part.product][rows, cols] |= lost_hw

    def _missing(self, number: int, where: Window) -> np.ndarray | None:
        """Return bool [h, w], True where no layer of a product is valid; None for nowhere.

        `where` lies inside the raster, and all of it has been put.
        """
        rows, cols = self._slices(where)
        if not self._uncovered_px[number][rows].any():
            return None
        missing_hw = np.ones((where.height, where.width), bool)
        for part in self._parts[number]:
            covered = self._on_raster(part).intersection(where).relative_to(where)
            missing_hw[covered.slices] = False
        if number in self._holes:
            missing_hw |= self._holes[number][rows, cols]
        if number in self._seen:
            missing_hw[self._seen[number][rows, cols] > 0] = False
        return missing_hw

    def _slices(self, where: Window) -> tuple[slice, slice]:
        """Return the rows and columns of the canvas that show a window of the raster."""
        top, left = where.top - self.rows.start, where.left - self.cols.start
        return slice(top, top + where.height), slice(left, left + where.width)

    def _settle(self, inside: range) -> np.ndarray | None:
        """Fill and mirror sideways rows inside the raster; return what `finish` does."""
        across = self._across
        where = Window(top=inside.start, left=across.start, height=len(inside), width=len(across))
        rows, cols = self._slices(where)
        image_bhw, invalid_hw = self.image_bhw[:, rows, cols], self._invalid_hw[rows, cols]
        missing = {
            number: found_hw
            for number in range(len(self._raster.products))
            if (found_hw := self._missing(number, where)) is not None
        }
        flawed = False
        for number, found_hw in missing.items():
            if self._raster.products[number].required:
                flawed = True
                invalid_hw |= found_hw
            elif number in self._lost:
                # Height that is there and cannot be decoded is not height 0.
                flawed = True
                invalid_hw |= found_hw & self._lost[number][rows, cols]
        missing_hw: np.ndarray | None = None
        for number, found_hw in missing.items():
            product = self._raster.products[number]
            if not product.required:
                image_bhw[product.bands][:, found_hw] = 0
                missing_hw = found_hw & ~invalid_hw
        if flawed:
            image_bhw[:, invalid_hw] = np.array(self._raster.fill, np.uint8)[:, None]
            self._flawed[rows] = invalid_hw.any(1)
        self._mirror_cols(rows, flawed)
        return missing_hw

    def _mirror_cols(self, rows: slice, flawed: bool) -> None:
        for outside in (
            range(self.cols.start, self._across.start),
            range(self._across.stop, self.cols.stop),
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
