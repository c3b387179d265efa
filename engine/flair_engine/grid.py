"""Raster size, tile and margin to tiles: pure arithmetic on whole pixels.

The grid is anchored at the raster's top-left pixel. Core (i, j) covers rows [i*C, (i+1)*C) and
columns [j*C, (j+1)*C) with C = tile - 2*margin; its tile reaches `margin` further on every side.
Cores cover every pixel exactly once; what falls outside the raster is reflected when read and cut
when written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Iterator


TILE_STEP_PX = 32
"""Every network of the collection halves its input five times."""


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
                f"raster of {self.height} x {self.width} px has no pixel: give one with some"
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


def check_geometry(tile_px: int, margin_px: int) -> None:
    """Raise GeometryError unless the networks can run on `tile_px` and keep something of it."""
    if tile_px < TILE_STEP_PX or tile_px % TILE_STEP_PX:
        below = max(TILE_STEP_PX, tile_px - tile_px % TILE_STEP_PX)
        raise GeometryError(
            f"tile {tile_px} px is not a positive multiple of {TILE_STEP_PX}, which the network "
            f"needs: use {below} or {below + TILE_STEP_PX}"
        )
    if margin_px < 0 or 2 * margin_px >= tile_px:
        raise GeometryError(
            f"margin {margin_px} px leaves nothing of a {tile_px} px tile: "
            f"use 0 to {(tile_px - 1) // 2}"
        )


def ceil_div(whole: int, part: int) -> int:
    """Return how many `part`s cover `whole`."""
    return -(whole // -part)


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
