"""The order of decoding: what the strips of a panel need of each layer, given out once.

Layers are decoded in whole rows of blocks, from the top, each pixel once; a canvas holds the rows
of several strips.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Cores, Window, blocks, ceil_div, reflected, strips_written
from flair_engine.reading.canvas import ORDER_BYTES, Canvas, Memory, Part
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flair_engine.reading.layers import Layer, Raster

MIN_ROWS = 256
"""Rows decoded at a time at least: files are often stored in strips of a few rows."""

PART_PIXELS = 2**19
"""Pixels one thread decodes at a time, about: so few that threads end together, so many that
calls do not count."""

CANVAS_BYTES = 512 * 2**20
"""Pixels held at a time where nothing else is said. More is taken for width alone: strips that
share a canvas spare copying some rows, panels that are narrower decode blocks twice."""

LABELLED_STRIPS = 6
"""Strips of labels on their way at a time: being labelled, waiting, packed and stored. Those that
lie in the rows of a map that are being written come on top."""

CANVAS_CORES = 3
"""Rows of cores in a canvas beside its first tile, at most: with more, memory is used again less
often."""


class ReadCounter:
    """What reading has cost and missed so far."""

    def __init__(self) -> None:
        self.blocks = 0
        """Blocks decoded; one decoded twice counts twice."""
        self.missing = 0
        """Valid pixels of cores without a product that is not required (height)."""
        self._seen: dict[int, np.ndarray] = {}
        """By layer bool [rows, columns] of blocks, True where one was decoded."""

    @property
    def distinct_blocks(self) -> int:
        """Blocks decoded, each counted once."""
        return sum(int(np.count_nonzero(seen)) for seen in self._seen.values())

    @property
    def decode_factor(self) -> float | None:
        """Blocks decoded by distinct ones, None where there is none."""
        return self.blocks / distinct if (distinct := self.distinct_blocks) else None

    def count(self, layer: Layer, window: Window) -> None:
        """Count the blocks of a window of a layer."""
        (height, width), whole = layer.block_px, layer.window
        if id(layer) not in self._seen:
            shape = ceil_div(whole.height, height), ceil_div(whole.width, width)
            self._seen[id(layer)] = np.zeros(shape, bool)
        rows = slice(window.top // height, ceil_div(window.bottom, height))
        cols = slice(window.left // width, ceil_div(window.right, width))
        self.blocks += (rows.stop - rows.start) * (cols.stop - cols.start)
        self._seen[id(layer)][rows, cols] = True


def panels(
    area: Cores, raster: Raster, memory_bytes: int = CANVAS_BYTES, output_bands: int = 1
) -> list[Cores]:
    """Cut an area by columns into as few panels as fit in memory, about equally wide.

    `output_bands` are those of all outputs of the model.
    """
    fixed = needed_bytes(area, raster, 0, output_bands)
    each = needed_bytes(area, raster, 1, output_bands) - fixed
    number = ceil_div(len(area.cols), max(1, (memory_bytes - fixed) // each))
    edges = [area.cols.start + n * len(area.cols) // number for n in range(number + 1)]
    return [replace(area, cols=range(*edge)) for edge in pairwise(edges)]


def needed_bytes(area: Cores, raster: Raster, cols: int, output_bands: int = 1) -> int:
    """Return what panels of an area that are `cols` cores wide take at least, about.

    One canvas is filled while the one before it is in use, and labels are on their way.
    """
    grid = area.grid
    width = cols * grid.core_px
    pixels = _rows_of_two(area, raster) * (width + 2 * grid.margin_px)
    return pixels * _bytes_per_px(raster) + _label_bytes(area, cols, output_bands)


def _label_bytes(area: Cores, cols: int, output_bands: int) -> int:
    size = area.grid.core_px
    return (LABELLED_STRIPS + strips_written(size)) * output_bands * size**2 * cols


def canvas_bytes(panel: Cores, memory_bytes: int, output_bands: int = 1) -> int:
    """Return what is left for canvases of the memory of a panel, beside labels on their way."""
    return memory_bytes - _label_bytes(panel, len(panel.cols), output_bands)


class Schedule:
    """What strips `rows` of a panel need, and how far its layers have been given out to decode."""

    def __init__(
        self,
        raster: Raster,
        panel: Cores,
        rows: Sequence[int],
        counter: ReadCounter,
        memory_bytes: int,
    ) -> None:
        grid, cores = panel.grid, panel.cols
        size, margin = grid.core_px, grid.margin_px
        self._grid, self._cores, self._counter = grid, cores, counter
        self.cols = range(cores.start * size - margin, cores.stop * size + margin)
        # In a narrow last panel the mirror reaches further left than the strips themselves.
        lowest = _lowest(self.cols, grid.width)
        self._canvas_cols = range(lowest, self.cols.stop)
        inside = range(max(0, lowest), min(self._canvas_cols.stop, grid.width))
        self._feeds = [
            feed
            for number, order, layer in _layers_near(raster, panel)
            if (feed := _Feed(number, order, layer, grid.height, inside)).covers_some
        ]
        # Of thousands of layers few lie in the rows of one strip.
        self._index = WindowIndex([feed.rows for feed in self._feeds])
        self._given: dict[int, list[_Feed]] = {}
        """By strip what it was given something of."""
        self._given_until = 0
        """Row down to which every layer that lies there has been given out."""
        # Reflection makes the last strips reach back further than their own tiles.
        reaches = [_lowest(self.span(i), grid.height) for i in rows]
        keep_from = np.minimum.accumulate(reaches[::-1])[::-1]
        self._keep_from = dict(zip(rows, keep_from.tolist(), strict=True))
        self._is_core = np.zeros(grid.height, bool)
        """Raster rows whose labels are wanted."""
        for i in rows:
            self._is_core[i * size : (i + 1) * size] = True
        self._raster, self._rows = raster, rows
        everything = self.reach(rows[-1]) - self._keep_from[rows[0]]
        least, most = (_canvas_rows(panel, raster, cores) for cores in (0, CANVAS_CORES))
        row_px, bytes_per_px = len(self._canvas_cols), _bytes_per_px(raster)
        fitting = min(memory_bytes, CANVAS_BYTES) // (2 * row_px * bytes_per_px)
        self._canvas_rows = min(max(least, min(most, fitting)), everything)
        """Rows of a canvas, but for one whose strips need more."""
        self._canvas_bytes = self._canvas_rows * row_px * raster.count
        self._memory = Memory(memory_bytes // bytes_per_px * raster.count)
        self._counted_to = 0
        """Row below the last whose missing pixels are counted."""

    def has_room(self) -> bool:
        """Return whether there is memory for one more canvas."""
        return self._memory.has_room(self._canvas_bytes)

    def canvas(self, i: int) -> Canvas:
        """Return a canvas that begins with strip `i`."""
        start = self._keep_from[i]
        rows = range(start, max(start + self._canvas_rows, self.reach(i)))
        return Canvas(self._raster, rows, self._canvas_cols, self._memory)

    def reach(self, i: int) -> int:
        """Return the row below the last that decoding and mirroring strip `i` writes."""
        bottom = self.span(i).stop
        inside = min(bottom, self._grid.height)
        return max([bottom, *(feed.end(inside) for feed in self._between(inside - 1, inside + 1))])

    def given_out_from(self, start: int) -> list[Part]:
        """Return what has been given out of the raster rows from `start`."""
        # Whole blocks were given out, which may reach below the rows that were asked for.
        feeds = self._between(min(start, self._given_until - 1), self._given_until)
        return [part for feed in feeds if (part := feed.given_out_from(start))]

    def give_out(self, i: int) -> list[Part]:
        """Give out what strip `i` needs and has not been given out yet: it moves every feed."""
        start, until = max(0, self._keep_from[i]), min(self.span(i).stop, self._grid.height)
        self._given_until = max(self._given_until, until)
        parts = []
        self._given[i] = []
        for feed in self._between(start, until):
            given = feed.give_out(start, until, strip=i)
            if given:
                self._given[i].append(feed)
            for part in given:
                self._counter.count(feed.layer, part.window)
            parts += given
        return parts

    def finish(self, i: int, canvas: Canvas) -> None:
        """Finish the rows of strip `i`, all of whose parts have been put into `canvas`."""
        stop, first = self.span(i).stop, max(0, canvas.finished_to)
        missing_hw = canvas.finish(stop)
        if missing_hw is not None:
            self._count_missing(missing_hw, first)
        self._counted_to = max(self._counted_to, stop)
        for feed in self._given.pop(i, ()):
            feed.close_after(i)

    def _between(self, start: int, stop: int) -> list[_Feed]:
        """Return the feeds that have a row from `start` on and before `stop`."""
        rows = Window(top=start, left=0, height=stop - start, width=1)
        return [self._feeds[number] for number in self._index.meeting(rows)]

    def _count_missing(self, missing_hw: np.ndarray, first: int) -> None:
        """Count pixels of wanted cores, each once; `missing_hw` begins at raster row `first`."""
        new = max(first, self._counted_to)
        wanted = self._is_core[new : first + len(missing_hw)]
        size, left = self._grid.core_px, max(0, self._canvas_cols.start)
        cols = slice(self._cores.start * size - left, self._cores.stop * size - left)
        self._counter.missing += int(np.count_nonzero(missing_hw[new - first :][wanted, cols]))

    def span(self, i: int) -> range:
        """Return the rows of strip `i`."""
        top = i * self._grid.core_px - self._grid.margin_px
        return range(top, top + self._grid.tile_px)


class _Feed:
    """The rows of one layer, given out from the top."""

    def __init__(self, number: int, order: int, layer: Layer, height: int, cols: range) -> None:
        window = layer.window
        self._number, self._order, self.layer = number, order, layer
        self._given_to = 0
        """Raster row below the last given out."""
        self._last_strip = -1
        """The strip that was last given something."""
        self._rows = range(max(0, window.top), min(window.bottom, height))
        self._cols = range(max(window.left, cols.start), min(window.right, cols.stop))
        self._step = rows_at_once(layer)

    @property
    def rows(self) -> Window:
        """Its rows of the raster, as a window of one column."""
        return Window(top=self._rows.start, left=0, height=len(self._rows), width=1)

    @property
    def covers_some(self) -> bool:
        """Whether the layer has a pixel in the panel."""
        return bool(self._rows and self._cols)

    def end(self, until: int) -> int:
        """Return the raster row that decoding whole rows of blocks down to `until` reaches."""
        if until <= self._rows.start:
            return until
        top = self.layer.window.top
        steps = ceil_div(min(until, self._rows.stop) - top, self._step)
        return min(top + steps * self._step, self._rows.stop)

    def given_out_from(self, start: int) -> Part | None:
        """Return what has been given out of the raster rows from `start`."""
        rows = range(max(start, self._rows.start), self._given_to)
        return self._part(self._window(rows)) if rows else None

    def give_out(self, start: int, until: int, *, strip: int) -> list[Part]:
        """Give out to a strip what is not given out yet of the raster rows from `start`.

        Whole rows of blocks down to `until`, cut at blocks.
        """
        first, stop = max(start, self._given_to, self._rows.start), self.end(until)
        if until <= self._rows.start or first >= stop:
            return []
        self._given_to, self._last_strip = stop, strip
        windows = split(self._window(range(first, stop)), self.layer.block_px)
        return [self._part(window) for window in windows]

    def _part(self, window: Window) -> Part:
        return Part(product=self._number, order=self._order, window=window)

    def _window(self, rows: range) -> Window:
        """Return raster rows as a window of the layer, all of the panel's columns."""
        window = self.layer.window
        return Window(
            top=rows.start - window.top,
            left=self._cols.start - window.left,
            height=len(rows),
            width=len(self._cols),
        )

    def close_after(self, i: int) -> None:
        """Close the layer where strip `i` was the last to be given its rows."""
        if self._given_to >= self._rows.stop and self._last_strip == i:
            self.layer.close()


def _lowest(span: range, size: int) -> int:
    """Return the first position that a span needs, its own or one mirrored into it."""
    return min(span.start, int(reflected(span.start, span.stop, size).min()))


def _bytes_per_px(raster: Raster) -> int:
    """Return what a canvas holds of a pixel: bands, validity, products and the order of layers."""
    stacked = sum(bool(product.stacked.any()) for product in raster.products)
    return raster.count + 1 + len(raster.products) + ORDER_BYTES * stacked


def _rows_of_two(area: Cores, raster: Raster) -> int:
    """Return the most rows of two canvases in a row, with no more strips than they must have."""
    grid = area.grid
    top, bottom = area.rows.start * grid.core_px - grid.margin_px, area.rows.stop * grid.core_px
    bottom += grid.margin_px
    rows = _canvas_rows(area, raster, cores=0)
    last = bottom - _lowest(range(bottom - grid.tile_px, bottom), grid.height)
    whole = bottom - _lowest(range(top, bottom), grid.height)
    return min(rows, whole) + min(max(rows, last), whole)


def _canvas_rows(area: Cores, raster: Raster, cores: int) -> int:
    """Return the rows of a canvas: a tile, `cores` more, and the most rows decoded at once."""
    deepest = max(
        (
            min(rows_at_once(layer), layer.window.height)
            for _, _, layer in _layers_near(raster, area)
        ),
        default=0,
    )
    return area.grid.tile_px + cores * area.grid.core_px + deepest


def _layers_near(raster: Raster, area: Cores) -> Iterator[tuple[int, int, Layer]]:
    """Yield the layers that an area may need, each after its product's and its own number.

    Mirroring at the raster's edge reaches back into it by a tile at most.
    """
    reach, window = area.grid.tile_px, area.window
    around = Window(
        top=window.top - reach,
        left=window.left - reach,
        height=window.height + 2 * reach,
        width=window.width + 2 * reach,
    )
    for number, product in enumerate(raster.products):
        for order in product.index.meeting(around):
            yield number, order, product.layers[order]


def rows_at_once(layer: Layer) -> int:
    """Return how many rows are decoded at a time: whole blocks, MIN_ROWS at least."""
    block_height, _ = layer.block_px
    return block_height * ceil_div(MIN_ROWS, block_height)


def split(window: Window, block_px: tuple[int, int]) -> list[Window]:
    """Cut a window at edges of blocks into windows of about PART_PIXELS, a block at least."""
    block_height, block_width = block_px
    blocks_across = ceil_div(window.width, block_width)
    across = max(1, min(blocks_across, PART_PIXELS // (block_width * block_height)))
    down = max(1, PART_PIXELS // (min(across * block_width, window.width) * block_height))
    return list(blocks(window, (down * block_height, across * block_width)))
