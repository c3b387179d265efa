"""Reads a raster strip by strip: every block decoded once, in parallel, the overlap kept.

A strip is the tiles of one row of cores within one panel of columns. Blocks are decoded straight
into a canvas that scrolls down the panel, strips are views of it, and consecutive strips share
twice the margin of rows. Panels bound the memory of wide rasters.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.canvas import Canvas
from flair_engine.grid import Grid, Window, blocks, ceil_div, reflected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flair_engine.layers import Layer, Raster

MIN_BAND_PX = 256
"""Rows decoded at a time at least: files are often stored in strips of a few rows."""

PART_PX = 2**19
"""Pixels one thread decodes at a time, about: so few that threads end together, so many that
calls do not count."""

CANVAS_BYTES = 512 * 2**20
"""Pixels held at a time, about: a canvas being filled, and the one before it still in use."""

CANVAS_CORES = (2, 8)
"""Rows of cores a canvas scrolls over, at least and at most: with fewer a third canvas could be in
use, with more the copy of the overlap hardly shrinks."""


@dataclass(slots=True)
class ReadCounter:
    """What reading has cost and missed so far."""

    blocks: int = 0
    """Blocks requested; a block requested twice counts twice."""
    missing: int = 0
    """Valid pixels of cores without a product that is not required (height)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """The pixels of one row of tiles of a panel, reflected where they lie outside the raster."""

    i: int
    """Row of cores in the grid."""
    cores: range
    """Columns of cores."""
    grid: Grid
    image_bhw: np.ndarray
    """uint8 [bands, tile_px, len(cores) * core_px + 2 * margin_px]."""
    valid_hw: np.ndarray | None
    """bool like `image_bhw` without bands; None where every pixel is valid."""

    def tile(self, j: int) -> np.ndarray:
        """Return the view uint8 [bands, tile_px, tile_px] of tile (i, j)."""
        left = (j - self.cores.start) * self.grid.core_px
        return self.image_bhw[:, :, left : left + self.grid.tile_px]

    @property
    def window(self) -> Window:
        """Return the pixels of the raster that the cores cover."""
        first, last = (self.grid.core(self.i, j) for j in (self.cores[0], self.cores[-1]))
        return Window(
            top=first.top, left=first.left, height=first.height, width=last.right - first.left
        )

    def core_valid(self, j: int) -> np.ndarray | None:
        """Return the validity bool [h, w] of core (i, j), cut at the raster's edge."""
        if self.valid_hw is None:
            return None
        core, margin = self.grid.core(self.i, j), self.grid.margin_px
        left = (j - self.cores.start) * self.grid.core_px + margin
        return self.valid_hw[margin : margin + core.height, left : left + core.width]


def panels(grid: Grid, raster: Raster, cores: range) -> list[range]:
    """Cut columns of cores so that the pixels held for one panel take about CANVAS_BYTES."""
    bytes_per_column = 2 * _bytes_per_px(raster) * _canvas_rows(grid, raster, CANVAS_CORES[0])
    count = max(1, CANVAS_BYTES // (bytes_per_column * grid.core_px))
    return [
        range(start, min(start + count, cores.stop))
        for start in range(cores.start, cores.stop, count)
    ]


def read_strips(
    raster: Raster,
    grid: Grid,
    cores: range,
    rows: Sequence[int],
    *,
    threads: int,
    counter: ReadCounter,
) -> Iterator[Strip]:
    """Yield the strips of the panel `cores`, for each of the ascending core `rows`.

    Raises ReadError where a block cannot be decoded.
    """
    panel = _Panel(raster, grid, cores, rows, counter)
    waiting = deque(rows)
    ahead = deque[tuple[int, list[Future[None]]]]()
    canvas = Canvas(raster, panel.canvas_rows(rows[0]), panel.cols)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:

        def decode_ahead() -> None:
            """Give the threads all that the canvas has room for."""
            while waiting and panel.reach(waiting[0]) <= canvas.rows.stop:
                i = waiting.popleft()
                parts = panel.parts(i)
                ahead.append((i, [pool.submit(canvas.put, *part) for part in parts]))

        try:
            decode_ahead()
            while ahead:
                i, decoding = ahead.popleft()
                for future in decoding:
                    future.result()
                yield panel.strip(i, canvas)
                if waiting and not ahead:  # the next strip reaches below the canvas
                    canvas = canvas.scrolled(panel.canvas_rows(waiting[0]), panel.decoded_to)
                    decode_ahead()
        finally:
            pool.shutdown(cancel_futures=True)


class _Panel:
    """What strips of one panel need, and how far its layers have been given out to decode."""

    def __init__(
        self,
        raster: Raster,
        grid: Grid,
        cores: range,
        rows: Sequence[int],
        counter: ReadCounter,
    ) -> None:
        size, margin = grid.core_px, grid.margin_px
        self._grid, self._cores, self._counter = grid, cores, counter
        self._strip_cols = range(cores.start * size - margin, cores.stop * size + margin)
        # In a narrow last panel the mirror reaches further left than the strips themselves.
        lowest = _lowest(self._strip_cols, grid.width)
        self.cols = range(lowest, self._strip_cols.stop)
        inside = range(max(0, lowest), min(self.cols.stop, grid.width))
        self._feeds = [
            feed
            for number, product in enumerate(raster.products)
            for order, layer in enumerate(product.layers)
            if (feed := _Feed(number, order, layer, grid.height, inside)).covers_some
        ]
        # Reflection makes the last strips reach back further than their own tiles.
        reaches = [_lowest(self._span(i), grid.height) for i in rows]
        keep_from = np.minimum.accumulate(reaches[::-1])[::-1]
        self._keep_from = dict(zip(rows, keep_from.tolist(), strict=True))
        self._is_core = np.zeros(grid.height, bool)
        """Raster rows whose labels are wanted."""
        for i in rows:
            self._is_core[i * size : (i + 1) * size] = True
        columns = CANVAS_BYTES // (2 * _bytes_per_px(raster) * len(self.cols))
        least, most = (_canvas_rows(grid, raster, count) for count in CANVAS_CORES)
        everything = self.reach(rows[-1]) - self._keep_from[rows[0]]
        self._canvas_rows = min(max(least, min(columns, most)), everything)

    @property
    def decoded_to(self) -> int:
        """Row below the last that has been given out."""
        return max((feed.decoded_to for feed in self._feeds), default=0)

    def canvas_rows(self, i: int) -> range:
        """Return the rows of a canvas that begins with strip `i`."""
        start = self._keep_from[i]
        return range(start, start + self._canvas_rows)

    def reach(self, i: int) -> int:
        """Return the row below the last that decoding and mirroring strip `i` writes."""
        bottom = self._span(i).stop
        inside = min(bottom, self._grid.height)
        return max([bottom, *(feed.end(inside) for feed in self._feeds)])

    def parts(self, i: int) -> list[tuple[int, int, Window]]:
        """Give out what strip `i` needs and is not decoded yet: arguments of `Canvas.put`."""
        start, until = max(0, self._keep_from[i]), min(self._span(i).stop, self._grid.height)
        parts = []
        for feed in self._feeds:
            for part in feed.parts(start, until):
                feed.last = i
                self._counter.blocks += sum(1 for _ in blocks(part, feed.layer.block_px))
                parts.append((feed.number, feed.order, part))
        return parts

    def strip(self, i: int, canvas: Canvas) -> Strip:
        """Return strip `i`, all of whose parts have been put into `canvas`."""
        span, first = self._span(i), max(0, canvas.finished_to)
        missing_hw = canvas.finish(span.stop)
        if missing_hw is not None:
            wanted = self._is_core[first : first + len(missing_hw)]
            left = max(0, self.cols.start)
            cols = slice(
                self._cores.start * self._grid.core_px - left,
                self._cores.stop * self._grid.core_px - left,
            )
            self._counter.missing += int(np.count_nonzero(missing_hw[wanted, cols]))
        for feed in self._feeds:
            feed.close_after(i)
        return Strip(
            i=i,
            cores=self._cores,
            grid=self._grid,
            image_bhw=canvas.image(span, self._strip_cols),
            valid_hw=canvas.valid(span, self._strip_cols),
        )

    def _span(self, i: int) -> range:
        top = i * self._grid.core_px - self._grid.margin_px
        return range(top, top + self._grid.tile_px)


class _Feed:
    """The rows of one layer, given out from the top."""

    def __init__(self, number: int, order: int, layer: Layer, height: int, cols: range) -> None:
        window = layer.window
        self.number, self.order, self.layer = number, order, layer
        self.decoded_to = 0
        """Raster row below the last given out."""
        self.last = -1
        """The strip that was last given something."""
        self._rows = range(max(0, window.top), min(window.bottom, height))
        self._cols = range(max(window.left, cols.start), min(window.right, cols.stop))
        self._step = band_height(layer)

    @property
    def covers_some(self) -> bool:
        """Whether the layer has a pixel in the panel."""
        return bool(self._rows and self._cols)

    def end(self, until: int) -> int:
        """Return the raster row that decoding whole bands down to `until` reaches."""
        if until <= self._rows.start:
            return until
        top = self.layer.window.top
        bands = ceil_div(min(until, self._rows.stop) - top, self._step)
        return min(top + bands * self._step, self._rows.stop)

    def parts(self, start: int, until: int) -> list[Window]:
        """Return windows of the layer with what is not given out yet of raster rows from `start`.

        Whole bands down to `until`, cut at blocks.
        """
        first, stop = max(start, self.decoded_to, self._rows.start), self.end(until)
        if until <= self._rows.start or first >= stop:
            return []
        self.decoded_to = stop
        window = self.layer.window
        needed = Window(
            top=first - window.top,
            left=self._cols.start - window.left,
            height=stop - first,
            width=len(self._cols),
        )
        return split(needed, self.layer.block_px)

    def close_after(self, i: int) -> None:
        """Close the layer where strip `i` was the last to be given its rows."""
        if self.decoded_to >= self._rows.stop and self.last == i:
            self.layer.close()


def _lowest(span: range, size: int) -> int:
    """Return the first position that a span needs, its own or one mirrored into it."""
    return min(span.start, int(reflected(span.start, span.stop, size).min()))


def _bytes_per_px(raster: Raster) -> int:
    """Return what a canvas holds of a pixel: bands, validity, products (not order of overlaps)."""
    return raster.count + 1 + len(raster.products)


def _canvas_rows(grid: Grid, raster: Raster, count: int) -> int:
    """Return the rows of a canvas that scrolls over `count` rows of cores."""
    deepest = max(
        (
            min(band_height(layer), layer.window.height)
            for product in raster.products
            for layer in product.layers
        ),
        default=0,
    )
    return grid.tile_px + count * grid.core_px + deepest


def band_height(layer: Layer) -> int:
    """Return how many rows are decoded at a time: whole blocks, MIN_BAND_PX at least."""
    block_height, _ = layer.block_px
    return block_height * ceil_div(MIN_BAND_PX, block_height)


def split(window: Window, block_px: tuple[int, int]) -> list[Window]:
    """Cut a window at edges of blocks into windows of about PART_PX, a block at least."""
    block_height, block_width = block_px
    blocks_across = ceil_div(window.width, block_width)
    across = max(1, min(blocks_across, PART_PX // (block_width * block_height)))
    down = max(1, PART_PX // (min(across * block_width, window.width) * block_height))
    return list(blocks(window, (down * block_height, across * block_width)))


def sample_tiles(raster: Raster, grid: Grid, count: int, threads: int) -> list[np.ndarray]:
    """Return at most `count` tiles spread evenly over the grid, uint8 [bands, tile, tile] each.

    Raises ReadError where a block cannot be decoded.
    """
    total = grid.rows * grid.cols
    cells = [divmod(n, grid.cols) for n in sorted({n * total // count for n in range(count)})]
    tiles = []
    for i, j in cells:
        counter = ReadCounter()  # these reads are no part of the run
        cores = range(j, j + 1)
        (strip,) = read_strips(raster, grid, cores, [i], threads=threads, counter=counter)
        tiles.append(strip.tile(j))
    return tiles
