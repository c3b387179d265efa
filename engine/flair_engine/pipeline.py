"""Reading, inference and writing overlapped: generators over threads, ignorant of GDAL and CUDA.

Data flows through four generators, each pulled by the next:
strips (one thread ahead) -> tiles -> labelled tiles (slots in flight) -> strips of outputs,
written by one thread behind. Every queue is bounded, so memory does not grow with the raster.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from flair_engine.backends import Slot
    from flair_engine.grid import Grid
    from flair_engine.strips import Strip

T = TypeVar("T")
Key = TypeVar("Key")
_END = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledStrip:
    """What the model says of one row of cores."""

    i: int
    """Row of cores in the grid."""
    top: int
    """First raster row."""
    outputs: Mapping[str, np.ndarray]
    """uint8 by output name: [rows, width], or [channels, rows, width] for probabilities."""


class Stopwatch:
    """Adds up the seconds one stage is busy. Used by one thread at a time."""

    def __init__(self) -> None:
        self.busy_s = 0.0

    def time(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, counting only the time it takes to produce each."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            item = next(iterator, _END)
            self.busy_s += time.perf_counter() - start
            if item is _END:
                return
            yield item  # type: ignore[misc]  # everything but _END is a T

    def timed(self, function: Callable[[T], None]) -> Callable[[T], None]:
        """Return `function`, counting the time of its calls."""

        def call(item: T) -> None:
            start = time.perf_counter()
            function(item)
            self.busy_s += time.perf_counter() - start

        return call


def prefetched(items: Iterable[T], depth: int = 1) -> Generator[T]:
    """Yield `items`, made by another thread up to `depth` of them ahead."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
        ahead = deque(reader.submit(next, iterator, _END) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not _END:
                ahead.append(reader.submit(next, iterator, _END))
                yield item  # type: ignore[misc]  # everything but _END is a T
        finally:
            reader.shutdown(cancel_futures=True)


def written_behind(items: Iterable[T], write: Callable[[T], None], depth: int = 2) -> Generator[T]:
    """Pass each item to `write` in another thread, at most `depth` waiting; yield it when done."""
    pending: deque[tuple[T, Future[None]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        try:
            for item in items:
                pending.append((item, writer.submit(write, item)))
                if len(pending) > depth:
                    yield _done(*pending.popleft())
            while pending:
                yield _done(*pending.popleft())
        finally:
            writer.shutdown(cancel_futures=True)


def _done(item: T, future: Future[None]) -> T:
    future.result()
    return item


def stream(
    tiles: Iterable[tuple[Key, np.ndarray]], slots: Sequence[Slot]
) -> Iterator[tuple[Key, Mapping[str, np.ndarray]]]:
    """Run (key, uint8 [bands, T, T]) tiles through the slots; yield (key, outputs) in order.

    Every batch is submitted full, the last one padded with zeros, so that a tile's labels do not
    depend on how many tiles there are. The outputs are borrowed: valid until the next step.
    """
    tiles = iter(tiles)
    idle, busy = deque(slots), deque[tuple["Slot", list[Key]]]()
    while group := list(itertools.islice(tiles, len(slots[0].images_nchw))):
        if not idle:
            slot, keys = busy.popleft()
            yield from _unpacked(slot, keys)
            idle.append(slot)
        slot = idle.popleft()
        for buffer, (_, image) in zip(slot.images_nchw, group, strict=False):
            buffer[...] = image
        slot.images_nchw[len(group) :] = 0
        slot.submit()
        busy.append((slot, [key for key, _ in group]))
    for slot, keys in busy:
        yield from _unpacked(slot, keys)


def _unpacked(slot: Slot, keys: list[Key]) -> Iterator[tuple[Key, Mapping[str, np.ndarray]]]:
    outputs = slot.wait()
    for n, key in enumerate(keys):
        yield key, {name: array[n] for name, array in outputs.items()}


def label_strips(
    strips: Iterable[Strip], grid: Grid, slots: Sequence[Slot]
) -> Iterator[LabelledStrip]:
    """Run every tile of every strip and put the cores together, cut at the raster's edge."""
    tiles = (((strip.i, j), strip.tile(j)) for strip in strips for j in range(grid.cols))
    rows: dict[str, np.ndarray] = {}
    for (i, j), outputs in stream(tiles, slots):
        core = grid.core(i, j)
        for name, labels in outputs.items():
            if j == 0:
                rows[name] = np.empty((*labels.shape[:-2], core.height, grid.width), np.uint8)
            rows[name][..., core.left : core.right] = labels[..., : core.height, : core.width]
        if j == grid.cols - 1:
            yield LabelledStrip(i=i, top=core.top, outputs=rows)
            rows = {}
