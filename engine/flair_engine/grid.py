"""Raster size, tile and margin to tiles: pure arithmetic on whole pixels.

The grid is anchored at the raster's top-left pixel. Core (i, j) covers rows [i*C, (i+1)*C) and
columns [j*C, (j+1)*C) with C = tile - 2*margin; its tile reaches `margin` further on every side.
Cores cover every pixel exactly once; what falls outside the raster is reflected when read and cut
when written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


TILE_STEP_PX = 32
"""Every network of the collection halves its input five times."""
LARGEST_TILE_PX = 8192
"""One feature map of 16 channels is 4 GiB then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A rectangle of a raster, whole pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """Row past the last one."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """Column past the last one."""
        return self.left + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices, to index the last two axes of an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def intersection(self, other: Window) -> Window:
        """Return what both cover; of height or width 0 where they lie apart."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Window(
            top=top,
            left=left,
            height=max(0, min(self.bottom, other.bottom) - top),
            width=max(0, min(self.right, other.right) - left),
        )

    def relative_to(self, origin: Window) -> Window:
        """Return the same rectangle with rows and columns counted from the corner of `origin`."""
        return replace(self, top=self.top - origin.top, left=self.left - origin.left)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The tiles of a raster. Raises GeometryError for sizes that make no grid."""

    height: int
    """Rows of the raster."""
    width: int
    """Columns of the raster."""
    tile_px: int
    margin_px: int

    def __post_init__(self) -> None:
        check_geometry(self.tile_px, self.margin_px)
        if self.height < 1 or self.width < 1:
            raise GeometryError(
                f"raster of {self.height} x {self.width} px has no pixel", "give one with some"
            )

    @property
    def core_px(self) -> int:
        """Edge of the square of labels one tile yields."""
        return self.tile_px - 2 * self.margin_px

    @property
    def rows(self) -> int:
        """Number of core rows."""
        return ceil_div(self.height, self.core_px)

    @property
    def cols(self) -> int:
        """Number of core columns."""
        return ceil_div(self.width, self.core_px)

    def core(self, i: int, j: int) -> Window:
        """Return the pixels core (i, j) labels, cut at the raster's edge."""
        top, left = i * self.core_px, j * self.core_px
        return Window(
            top=top,
            left=left,
            height=min(self.core_px, self.height - top),
            width=min(self.core_px, self.width - left),
        )

    def tile(self, i: int, j: int) -> Window:
        """Return the pixels tile (i, j) reads, `tile_px` square; it may reach outside."""
        return Window(
            top=i * self.core_px - self.margin_px,
            left=j * self.core_px - self.margin_px,
            height=self.tile_px,
            width=self.tile_px,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cores:
    """A rectangle of cores: all that is mapped, or one panel of it. At least one core."""

    grid: Grid
    rows: range
    cols: range

    @property
    def left(self) -> int:
        """First column of pixels, which names a panel among those of one area."""
        return self.cols.start * self.grid.core_px

    @property
    def window(self) -> Window:
        """Return the pixels the cores label."""
        return bounds(
            (
                self.grid.core(self.rows[0], self.cols[0]),
                self.grid.core(self.rows[-1], self.cols[-1]),
            )
        )

    def strip(self, i: int) -> Window:
        """Return the pixels that the cores of row `i` label."""
        return bounds((self.grid.core(i, self.cols[0]), self.grid.core(i, self.cols[-1])))


def whole_area(grid: Grid) -> Cores:
    """Return all cores of a grid."""
    return Cores(grid=grid, rows=range(grid.rows), cols=range(grid.cols))


def cut_to(area: Cores, in_rows: np.ndarray, in_cols: np.ndarray) -> Cores:
    """Return the smallest rectangle that holds rows, bool [rows], and columns of an area.

    At least one of each.
    """
    rows, cols = np.flatnonzero(in_rows), np.flatnonzero(in_cols)
    return Cores(
        grid=area.grid,
        rows=area.rows[int(rows[0]) : int(rows[-1]) + 1],
        cols=area.cols[int(cols[0]) : int(cols[-1]) + 1],
    )


def check_geometry(tile_px: int, margin_px: int) -> None:
    """Raise GeometryError unless the networks can run on `tile_px` and keep something of it."""
    if tile_px < TILE_STEP_PX or tile_px % TILE_STEP_PX:
        below = max(TILE_STEP_PX, tile_px - tile_px % TILE_STEP_PX)
        raise GeometryError(
            f"tile {tile_px} px is not a positive multiple of {TILE_STEP_PX}, which the network "
            "needs",
            f"use {below} or {below + TILE_STEP_PX}",
        )
    if tile_px > LARGEST_TILE_PX:
        raise GeometryError(
            f"tile {tile_px} px is more than {LARGEST_TILE_PX} px, the most that fits in memory",
            f"use {LARGEST_TILE_PX} or less",
        )
    if margin_px < 0 or 2 * margin_px >= tile_px:
        raise GeometryError(
            f"margin {margin_px} px leaves nothing of a {tile_px} px tile",
            f"use 0 to {(tile_px - 1) // 2}",
        )


def ceil_div(whole: int, part: int) -> int:
    """Return how many `part`s cover `whole`."""
    return -(whole // -part)


def thinned(window: Window, most_px: int) -> tuple[int, int]:
    """Return height and width of a picture of a window, of at most `most_px`, in its proportions.

    None of them is below 1, and none above that of the window.
    """
    step = max(1.0, max(window.height, window.width) / most_px)
    return max(1, round(window.height / step)), max(1, round(window.width / step))


def blocks(part: Window, block_px: tuple[int, int]) -> Iterator[Window]:
    """Yield the blocks that a window touches, cut at the window."""
    height, width = block_px
    for row in range(part.top // height, ceil_div(part.bottom, height)):
        for col in range(part.left // width, ceil_div(part.right, width)):
            top, left = max(part.top, row * height), max(part.left, col * width)
            yield Window(
                top=top,
                left=left,
                height=min(part.bottom, (row + 1) * height) - top,
                width=min(part.right, (col + 1) * width) - left,
            )


def cut_at(part: Window, edges_of: Iterable[Window]) -> Iterator[Window]:
    """Yield a window cut where others begin and end inside it, row by row."""
    met = [other for other in edges_of if other.intersection(part).pixels]
    rows = {part.top, part.bottom, *(w.top for w in met), *(w.bottom for w in met)}
    cols = {part.left, part.right, *(w.left for w in met), *(w.right for w in met)}
    inside_rows = sorted(row for row in rows if part.top <= row <= part.bottom)
    inside_cols = sorted(col for col in cols if part.left <= col <= part.right)
    for top, bottom in pairwise(inside_rows):
        for left, right in pairwise(inside_cols):
            yield Window(top=top, left=left, height=bottom - top, width=right - left)


def bounds(windows: Iterable[Window]) -> Window:
    """Return the smallest window that holds all of some, at least one."""
    edges = [(w.top, w.left, w.bottom, w.right) for w in windows]
    tops, lefts, bottoms, rights = zip(*edges, strict=True)
    top, left = min(tops), min(lefts)
    return Window(top=top, left=left, height=max(bottoms) - top, width=max(rights) - left)


MAP_BLOCK_PX = 512
"""Edge of the blocks of maps, of which a row is put together and written at a time."""


def strips_written(core_px: int) -> int:
    """Return how many strips lie in a row of blocks of a map."""
    return ceil_div(MAP_BLOCK_PX, core_px) + 1


def reflected(start: int, stop: int, size: int) -> np.ndarray:
    """Return for positions start..stop-1 of an endless mirrored axis the indices 0..size-1.

    The edge pixel is not repeated (numpy's `reflect`), the mirror repeats where the axis is
    shorter than the reach, and an axis of one pixel is repeated: for any `before` and `after`,
    `a[reflected(-before, len(a) + after, len(a))]` equals
    `np.pad(a, (before, after), mode="reflect")`.
    """
    positions = np.arange(start, stop)
    if size == 1:
        return np.zeros_like(positions)
    period = 2 * (size - 1)
    folded = positions % period
    return np.minimum(folded, period - folded)


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """Return `window` of `image` [..., H, W], reflected outside; a view where it lies inside."""
    height, width = image.shape[-2:]
    inside = window.top >= 0 <= window.left and window.bottom <= height and window.right <= width
    if inside:
        rows, cols = window.slices
        return image[..., rows, cols]
    mirrored_rows = reflected(window.top, window.bottom, height)
    mirrored_cols = reflected(window.left, window.right, width)
    return image[..., mirrored_rows[:, None], mirrored_cols[None, :]]
