"""Reads a raster strip by strip: every block decoded once, in parallel, the overlap kept.

A strip is all the tiles of one row of cores. Consecutive strips share twice the margin of rows;
decoded rows stay in memory for as long as a later strip needs them.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flair_engine.grid import Grid, Window, ceil_div, reflected

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_BAND_PX = 256
"""Rows decoded at a time at least: files are often stored in strips of a few rows."""


class Source(Protocol):
    """A raster of uint8 bands on one grid."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def count(self) -> int:
        """Bands read, in the order the model wants them."""

    @property
    def block_px(self) -> tuple[int, int]:
        """Height and width of the blocks it is stored in."""

    def read(self, window: Window) -> np.ndarray:
        """Return uint8 [bands, height, width] of a window inside; called from many threads.

        Raises ReadError where a block cannot be decoded.
        """


@dataclass(frozen=True, slots=True)
class ArraySource:
    """An image in memory, uint8 [bands, H, W], as a Source."""

    image_bhw: np.ndarray

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.image_bhw.shape[1])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.image_bhw.shape[2])

    @property
    def count(self) -> int:
        """Bands."""
        return int(self.image_bhw.shape[0])

    @property
    def block_px(self) -> tuple[int, int]:
        """One row: memory has no blocks."""
        return 1, self.width

    def read(self, window: Window) -> np.ndarray:
        """Return the view uint8 [bands, height, width] of `window`."""
        rows, cols = window.slices
        return self.image_bhw[:, rows, cols]


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """The pixels of one row of tiles, reflected where they lie outside the raster."""

    i: int
    """Row of cores in the grid."""
    grid: Grid
    image_bhw: np.ndarray
    """uint8 [bands, tile_px, cols * core_px + 2 * margin_px]."""

    def tile(self, j: int) -> np.ndarray:
        """Return the view uint8 [bands, tile_px, tile_px] of tile (i, j)."""
        left = j * self.grid.core_px
        return self.image_bhw[:, :, left : left + self.grid.tile_px]


def read_strips(source: Source, grid: Grid, threads: int) -> Iterator[Strip]:
    """Yield the strips of `source` from top to bottom, decoding with `threads` threads.

    Raises ReadError where a block cannot be decoded.
    """
    needed = [reflected(*_rows(grid, i), grid.height) for i in range(grid.rows)]
    # Reflection makes the last strips reach back further than their own tiles.
    lowest = np.minimum.accumulate([rows.min() for rows in needed][::-1])[::-1]
    bands: deque[_Band] = deque()
    decoded_to = 0
    step = band_height(source)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for i, rows in enumerate(needed):
            while bands and bands[0].bottom <= lowest[i]:
                bands.popleft()
            while decoded_to <= rows.max():
                height = min(step, grid.height - decoded_to)
                bands.append(_decode_band(source, decoded_to, height, pool, threads))
                decoded_to += height
            yield Strip(i=i, grid=grid, image_bhw=_assemble(bands, rows, grid, source.count))


def sample_tiles(source: Source, grid: Grid, count: int) -> list[np.ndarray]:
    """Return at most `count` tiles spread evenly over the grid, uint8 [bands, tile, tile] each.

    Raises ReadError where a block cannot be decoded.
    """
    total = grid.rows * grid.cols
    numbers = sorted({number * total // count for number in range(count)})
    return [_read_tile(source, grid, *divmod(number, grid.cols)) for number in numbers]


def _read_tile(source: Source, grid: Grid, i: int, j: int) -> np.ndarray:
    tile = grid.tile(i, j)
    rows = reflected(tile.top, tile.bottom, grid.height)
    cols = reflected(tile.left, tile.right, grid.width)
    top, left = int(rows.min()), int(cols.min())
    window = Window(
        top=top, left=left, height=int(rows.max()) + 1 - top, width=int(cols.max()) + 1 - left
    )
    return source.read(window)[:, (rows - top)[:, None], cols - left]


def band_height(source: Source) -> int:
    """Return how many rows are decoded at a time: whole blocks, MIN_BAND_PX at least."""
    block_height, _ = source.block_px
    return block_height * ceil_div(MIN_BAND_PX, block_height)


@dataclass(frozen=True, slots=True)
class _Band:
    """Decoded full-width rows top..bottom."""

    top: int
    image_bhw: np.ndarray

    @property
    def bottom(self) -> int:
        return self.top + int(self.image_bhw.shape[1])


def _rows(grid: Grid, i: int) -> tuple[int, int]:
    tile = grid.tile(i, 0)
    return tile.top, tile.bottom


def _decode_band(
    source: Source, top: int, height: int, pool: ThreadPoolExecutor, threads: int
) -> _Band:
    image_bhw = np.empty((source.count, height, source.width), np.uint8)

    def decode(part: Window) -> None:
        rows, cols = slice(part.top - top, part.bottom - top), slice(part.left, part.right)
        image_bhw[:, rows, cols] = source.read(part)

    band = Window(top=top, left=0, height=height, width=source.width)
    for future in [pool.submit(decode, part) for part in split(band, source.block_px, threads)]:
        future.result()
    return _Band(top, image_bhw)


def split(band: Window, block_px: tuple[int, int], parts: int) -> list[Window]:
    """Cut a block-aligned window into about `parts` windows of whole blocks.

    Tiled files are cut into columns, files in strips (blocks as wide as the window) into rows.
    """
    block_height, block_width = block_px
    if block_width < band.width:
        step = block_width * ceil_div(ceil_div(band.width, block_width), parts)
        return [
            Window(
                top=band.top,
                left=left,
                height=band.height,
                width=min(step, band.right - left),
            )
            for left in range(band.left, band.right, step)
        ]
    step = block_height * ceil_div(ceil_div(band.height, block_height), parts)
    return [
        Window(top=top, left=band.left, height=min(step, band.bottom - top), width=band.width)
        for top in range(band.top, band.bottom, step)
    ]


def _assemble(bands: deque[_Band], rows: np.ndarray, grid: Grid, count: int) -> np.ndarray:
    """Copy raster rows `rows` out of the decoded bands and mirror the columns at both sides."""
    margin, width = grid.margin_px, grid.width
    cols = reflected(-margin, grid.cols * grid.core_px + margin, width)
    image_bhw = np.empty((count, len(rows), len(cols)), np.uint8)
    inside = slice(margin, margin + width)
    for band in bands:
        at = np.flatnonzero((rows >= band.top) & (rows < band.bottom))
        if len(at) == 0:
            continue
        source_rows = rows[at] - band.top
        if len(at) == at[-1] - at[0] + 1 and (np.diff(source_rows) == 1).all():
            run = slice(source_rows[0], source_rows[-1] + 1)
            image_bhw[:, at[0] : at[-1] + 1, inside] = band.image_bhw[:, run]
        else:
            image_bhw[:, at, inside] = band.image_bhw[:, source_rows]
    right = margin + width
    image_bhw[:, :, :margin] = image_bhw[:, :, margin + cols[:margin]]
    image_bhw[:, :, right:] = image_bhw[:, :, margin + cols[right:]]
    return image_bhw
