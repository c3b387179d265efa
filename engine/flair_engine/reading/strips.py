"""Strips of a raster: every block of a panel decoded once, in parallel, the overlap kept.

A strip is the tiles of one row of cores within one panel of columns. Blocks are decoded straight
into a canvas of many rows, strips are views of it, and consecutive strips share twice the margin
of rows; what the next canvas shares with this one is copied. Panels bound the memory of wide
rasters, and are as wide as memory allows, since blocks where they meet are decoded twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from flair_engine.grid import Cores, Window
from flair_engine.reading.schedule import CANVAS_BYTES, ReadCounter, Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from flair_engine.reading.canvas import Canvas, Part
    from flair_engine.reading.layers import Raster


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """The pixels of one row of tiles of a panel, reflected where they lie outside the raster."""

    i: int
    """Row of cores in the grid."""
    panel: Cores
    image_bhw: np.ndarray
    """uint8 [bands, tile_px, len(cores) * core_px + 2 * margin_px]."""
    valid_hw: np.ndarray | None
    """bool like `image_bhw` without bands; None where every pixel is valid."""

    @property
    def cores(self) -> range:
        """Columns of cores."""
        return self.panel.cols

    @property
    def window(self) -> Window:
        """Return the pixels of the raster that the cores cover."""
        return self.panel.strip(self.i)

    def tile(self, j: int) -> np.ndarray:
        """Return the view uint8 [bands, tile_px, tile_px] of tile (i, j)."""
        grid = self.panel.grid
        left = (j - self.cores.start) * grid.core_px
        return self.image_bhw[:, :, left : left + grid.tile_px]

    def core_valid(self, j: int) -> np.ndarray | None:
        """Return the validity bool [h, w] of core (i, j), cut at the raster's edge."""
        if self.valid_hw is None:
            return None
        grid = self.panel.grid
        core, margin = grid.core(self.i, j), grid.margin_px
        left = (j - self.cores.start) * grid.core_px + margin
        return self.valid_hw[margin : margin + core.height, left : left + core.width]


def read_strips(
    raster: Raster,
    panel: Cores,
    rows: Sequence[int],
    *,
    threads: int,
    counter: ReadCounter,
    memory_bytes: int = CANVAS_BYTES,
) -> Iterator[Strip]:
    """Yield the strips of a panel for each of the ascending core `rows`.

    Decoded pixels take about `memory_bytes`, more where two canvases of a strip each do. Raises
    ReadError where a block cannot be decoded.
    """
    schedule = Schedule(raster, panel, rows, counter, memory_bytes)
    waiting = deque(rows)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            current, following = _load(schedule, waiting, pool), None
            while current.strips:
                i, decoding = current.strips.popleft()
                # Early, so that the threads never run out of work, but not before there is memory:
                # the canvas before this one may still be in use.
                if waiting and not following and schedule.has_room():
                    following = _load(schedule, waiting, pool)
                for future in decoding:
                    future.result()
                schedule.finish(i, current.canvas)
                yield Strip(
                    i=i,
                    panel=panel,
                    image_bhw=current.canvas.image(schedule.span(i), schedule.cols),
                    valid_hw=current.canvas.valid(schedule.span(i), schedule.cols),
                )
                if current.strips:
                    continue
                if waiting and not following:
                    following = _load(schedule, waiting, pool)
                if following:
                    for part in following.kept:
                        following.canvas.take(current.canvas, part)
                    current, following = following, None
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Load:
    """A canvas that threads are at work on."""

    canvas: Canvas
    kept: list[Part]
    """What it shares with the canvas before."""
    strips: deque[tuple[int, list[Future[None]]]]
    """Row of cores, and what must be done before it can be cut out."""


def _load(schedule: Schedule, waiting: deque[int], pool: ThreadPoolExecutor) -> _Load:
    """Give the threads all the `waiting` strips that one more canvas has room for."""
    canvas = schedule.canvas(waiting[0])
    kept = schedule.given_out_from(canvas.rows.start)
    strips = deque[tuple[int, list[Future[None]]]]()
    while waiting and schedule.reach(waiting[0]) <= canvas.rows.stop:
        i = waiting.popleft()
        strips.append((i, [pool.submit(canvas.put, part) for part in schedule.give_out(i)]))
    return _Load(canvas, kept, strips)


def sample_tiles(
    mapped: Sequence[tuple[Raster, Cores]], count: int, threads: int
) -> list[np.ndarray]:
    """Return at most `count` tiles spread evenly over what is mapped, uint8 [bands, tile, tile].

    Those without a valid pixel, which no run infers, are left out.

    Raises ReadError where a block cannot be decoded.
    """
    ends = list(accumulate(len(cores.rows) * len(cores.cols) for _, cores in mapped))
    tiles = []
    for number in sorted({(2 * n + 1) * ends[-1] // (2 * count) for n in range(count)}):
        where = bisect_right(ends, number)
        raster, cores = mapped[where]
        row, col = divmod(number - (ends[where - 1] if where else 0), len(cores.cols))
        i, j = cores.rows[row], cores.cols[col]
        cell = Cores(grid=cores.grid, rows=range(i, i + 1), cols=range(j, j + 1))
        counter = ReadCounter()  # these reads are no part of the run
        (strip,) = read_strips(raster, cell, [i], threads=threads, counter=counter)
        valid_hw = strip.core_valid(j)
        if valid_hw is None or valid_hw.any():
            tiles.append(strip.tile(j))
    return tiles
