"""Reads a raster strip by strip: every block decoded once, in parallel, the overlap kept.

A strip is the tiles of one row of cores within one panel of columns. Consecutive strips share
twice the margin of rows; each layer's decoded rows stay in memory for as long as a later strip
needs them. Panels bound the memory of wide rasters.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Grid, Window, ceil_div, reflected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flair_engine.layers import Layer, Product, Raster

MIN_BAND_PX = 256
"""Rows decoded at a time at least: files are often stored in strips of a few rows."""

PANEL_BYTES = 384 * 2**20
"""Decoded pixels held at a time, about: three strips (being filled, ahead, in use) and a band."""


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
    """Cut columns of cores so that the pixels held for one panel take about PANEL_BYTES."""
    deepest = max(
        (band_height(layer) for product in raster.products for layer in product.layers), default=0
    )
    bytes_per_column = (raster.count + 1) * (3 * grid.tile_px + 2 * deepest)
    count = max(1, PANEL_BYTES // (bytes_per_column * grid.core_px))
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
    size, margin = grid.core_px, grid.margin_px
    cols = reflected(cores.start * size - margin, cores.stop * size + margin, grid.width)
    needed = {i: reflected(i * size - margin, (i + 1) * size + margin, grid.height) for i in rows}
    # Reflection makes the last strips reach back further than their own tiles.
    lowest = np.minimum.accumulate([needed[i].min() for i in reversed(rows)])[::-1]
    columns = Window(
        top=0,
        left=int(cols.min()),
        height=grid.height,
        width=int(cols.max()) + 1 - int(cols.min()),
    )
    queues = [
        (product, [LayerRows(layer, columns, threads, counter) for layer in product.layers])
        for product in raster.products
    ]
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:

        def decode(i: int) -> list[Future[None]]:
            span = int(needed[i].min()), int(needed[i].max()) + 1
            return [
                future
                for _, layers in queues
                for layer in layers
                for future in layer.decode(*span, pool)
            ]

        decoding = decode(rows[0])
        for i, after, keep_from in zip(rows, [*rows[1:], None], [*lowest[1:], None], strict=True):
            for future in decoding:
                future.result()
            # The threads go on with the next strip while this one is put together.
            decoding = [] if after is None else decode(after)
            yield _strip(raster, grid, i, cores, queues, needed[i], cols, counter)
            for _, layers in queues:
                for layer in layers:
                    layer.forget(grid.height if keep_from is None else int(keep_from))


class LayerRows:
    """Decoded rows of one layer, from the lowest still needed to the last decoded."""

    def __init__(self, layer: Layer, columns: Window, threads: int, counter: ReadCounter) -> None:
        block_width = layer.block_px[1]
        left = max(0, columns.left - layer.window.left)
        right = min(layer.window.width, columns.right - layer.window.left)
        # Whole blocks: GDAL decodes them anyway.
        self.left = left // block_width * block_width
        self.right = min(layer.window.width, ceil_div(right, block_width) * block_width)
        self.layer = layer
        self.bands: deque[_Band] = deque()
        self._decoded_to = 0
        self._step = band_height(layer)
        self._threads = threads
        self._counter = counter

    def forget(self, keep_from: int) -> None:
        """Drop raster rows below `keep_from`; close the layer after its last."""
        origin, height = self.layer.window.top, self.layer.window.height
        while self.bands and self.bands[0].bottom + origin <= keep_from:
            self.bands.popleft()
            if self._decoded_to >= height and not self.bands:
                self.layer.close()

    def decode(self, start: int, until: int, pool: ThreadPoolExecutor) -> Iterator[Future[None]]:
        """Start decoding what is not decoded yet of raster rows `start` to `until`."""
        if self.right <= self.left:
            return
        origin, height = self.layer.window.top, self.layer.window.height
        first = max(0, start - origin) // self._step * self._step
        self._decoded_to = max(self._decoded_to, first)
        while self._decoded_to < min(until - origin, height):
            rows = min(self._step, height - self._decoded_to)
            yield from self._decode_band(rows, pool)
            self._decoded_to += rows

    def paste(self, window: Window, image_bhw: np.ndarray, covered_hw: np.ndarray) -> None:
        """Copy the valid pixels of raster `window` to `image_bhw`; mark them in `covered_hw`."""
        origin = self.layer.window
        for band in self.bands:
            part = _overlap(window, band.window, origin)
            if part is None:
                continue
            rows, cols = _relative(part, window.top, window.left)
            band_rows, band_cols = _relative(
                part, origin.top + band.window.top, origin.left + band.window.left
            )
            pixels = band.image_bhw[:, band_rows, band_cols]
            if band.all_valid:
                image_bhw[:, rows, cols] = pixels
                covered_hw[rows, cols] = True
            else:
                valid_hw = band.valid_hw[band_rows, band_cols]
                np.copyto(image_bhw[:, rows, cols], pixels, where=valid_hw)
                covered_hw[rows, cols] |= valid_hw

    def _decode_band(self, height: int, pool: ThreadPoolExecutor) -> Iterator[Future[None]]:
        whole = Window(
            top=self._decoded_to, left=self.left, height=height, width=self.right - self.left
        )
        band = _Band(whole, self.layer.count)
        self.bands.append(band)
        block_height, block_width = self.layer.block_px
        for part in split(whole, self.layer.block_px, self._threads):
            self._counter.blocks += ceil_div(part.height, block_height) * ceil_div(
                part.width, block_width
            )
            yield pool.submit(band.fill, self.layer, part)


class _Band:
    """Decoded rows of a layer."""

    def __init__(self, window: Window, count: int) -> None:
        self.window = window
        self.image_bhw = np.empty((count, window.height, window.width), np.uint8)
        self.valid_hw = np.ones((window.height, window.width), bool)
        self.all_valid = True

    @property
    def bottom(self) -> int:
        return self.window.bottom

    def fill(self, layer: Layer, part: Window) -> None:
        """Decode `part` of the layer into its place."""
        rows, cols = _relative(part, self.window.top, self.window.left)
        image_bhw, valid_hw = layer.read(part)
        self.image_bhw[:, rows, cols] = image_bhw
        if valid_hw is not None:
            self.valid_hw[rows, cols] = valid_hw
            self.all_valid = False


def band_height(layer: Layer) -> int:
    """Return how many rows are decoded at a time: whole blocks, MIN_BAND_PX at least."""
    block_height, _ = layer.block_px
    return block_height * ceil_div(MIN_BAND_PX, block_height)


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


def _strip(
    raster: Raster,
    grid: Grid,
    i: int,
    cores: range,
    queues: Sequence[tuple[Product, Sequence[LayerRows]]],
    rows: np.ndarray,
    cols: np.ndarray,
    counter: ReadCounter,
) -> Strip:
    """Put the decoded rows of every layer together and mirror what lies outside the raster."""
    window = Window(
        top=int(rows.min()),
        left=int(cols.min()),
        height=int(rows.max()) + 1 - int(rows.min()),
        width=int(cols.max()) + 1 - int(cols.min()),
    )
    # The part inside the raster is decoded straight to where it belongs in the padded strip,
    # unless the mirror reaches further left than the strip itself (a narrow last panel).
    start = cores.start * grid.core_px - grid.margin_px
    pad = max(0, -start)
    in_place = window.left == max(0, start)
    shape = (window.height, len(cols) if in_place else window.width)
    image_bhw = np.empty((raster.count, *shape), np.uint8)
    valid_hw = np.empty(shape, bool)
    inside = slice(pad, pad + window.width) if in_place else slice(None)
    strip = Strip(i=i, cores=cores, grid=grid, image_bhw=image_bhw, valid_hw=valid_hw)
    _paste(queues, window, strip.window, image_bhw[:, :, inside], valid_hw[:, inside], counter)
    all_valid = bool(valid_hw[:, inside].all())
    if not all_valid:
        image_bhw[:, :, inside][:, ~valid_hw[:, inside]] = np.array(raster.fill, np.uint8)[:, None]
    if in_place:
        for side in (slice(0, pad), slice(pad + window.width, None)):
            mirrored = _as_slice(cols[side] - window.left + pad)
            image_bhw[:, :, side] = image_bhw[:, :, mirrored]
            valid_hw[:, side] = valid_hw[:, mirrored]
    else:
        mirrored = cols - window.left
        image_bhw, valid_hw = image_bhw[:, :, mirrored], valid_hw[:, mirrored]
    if window.height != len(rows) or (np.diff(rows) != 1).any():
        image_bhw, valid_hw = image_bhw[:, rows - window.top], valid_hw[rows - window.top]
    return replace(strip, image_bhw=image_bhw, valid_hw=None if all_valid else valid_hw)


def _paste(
    queues: Sequence[tuple[Product, Sequence[LayerRows]]],
    window: Window,
    core: Window,
    image_bhw: np.ndarray,
    valid_hw: np.ndarray,
    counter: ReadCounter,
) -> None:
    """Fill `image_bhw` and `valid_hw` of raster `window`; count what `core` lacks."""
    valid_hw[...] = True
    for product, layers in queues:
        covered_hw = np.zeros(valid_hw.shape, bool)
        for layer in layers:
            layer.paste(window, image_bhw[product.bands], covered_hw)
        if product.required:
            valid_hw &= covered_hw
        elif not covered_hw.all():
            image_bhw[product.bands][:, ~covered_hw] = 0
            here = _relative(core, window.top, window.left)
            counter.missing += int((valid_hw & ~covered_hw)[here].sum())


def _overlap(window: Window, band: Window, origin: Window) -> Window | None:
    """Return the part of raster `window` that `band` of a layer at `origin` covers."""
    top = max(window.top, origin.top + band.top)
    left = max(window.left, origin.left + band.left)
    height = min(window.bottom, origin.top + band.bottom) - top
    width = min(window.right, origin.left + band.right) - left
    if height <= 0 or width <= 0:
        return None
    return Window(top=top, left=left, height=height, width=width)


def _as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """Return indices that fall by one as a slice, which copies ten times as fast."""
    if len(indices) < 2 or (np.diff(indices) != -1).any() or indices[-1] == 0:
        return indices
    return slice(int(indices[0]), int(indices[-1]) - 1, -1)


def _relative(part: Window, top: int, left: int) -> tuple[slice, slice]:
    """Return the slices of `part` in an array whose first pixel is (top, left)."""
    return slice(part.top - top, part.bottom - top), slice(part.left - left, part.right - left)
