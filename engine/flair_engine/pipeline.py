"""Reading, inference and writing overlapped: generators over threads, ignorant of GDAL and CUDA.

Data flows through four generators, each pulled by the next:
strips (one thread ahead) -> tiles -> labelled tiles (slots in flight) -> strips of outputs,
written by one thread behind; one more makes maps of what is written. Every queue is bounded, so
memory does not grow with the raster.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from flair_engine.backends import Slot
    from flair_engine.grid import Grid, Window
    from flair_engine.strips import Strip

T = TypeVar("T")
Key = TypeVar("Key")
_END = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledStrip:
    """What the model says of one row of cores of a panel; 0 where nothing is known."""

    i: int
    """Row of cores in the grid."""
    window: Window
    """The pixels of the raster."""
    outputs: Mapping[str, np.ndarray]
    """uint8 [bands, h, w] by output name."""


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


@contextmanager
def alongside(work: Callable[[], None], cancel: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Run `work` in another thread while the block runs, and wait for it at the end.

    Yields a function that raises what `work` has raised by then. Where the block raises, `cancel`
    makes `work` end soon.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="assemble") as thread:
        future = thread.submit(work)

        def check() -> None:
            if future.done():
                future.result()

        try:
            yield check
            future.result()
        except BaseException:
            cancel()
            raise


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
    strips: Iterable[Strip],
    grid: Grid,
    slots: Sequence[Slot],
    output_bands: Mapping[str, int],
    selected: np.ndarray | None = None,
) -> Iterator[LabelledStrip]:
    """Run the tiles of every strip and put the cores together, cut at the raster's edge.

    `output_bands` says how many bands each output has. A core that is not `selected` (bool [rows,
    cols] of cores) or has no valid pixel is not inferred; pixels that are not valid become 0.
    """
    waiting: deque[_Waiting] = deque()

    def tiles() -> Iterator[tuple[tuple[_Waiting, int, np.ndarray | None], np.ndarray]]:
        for strip in strips:
            entry = _Waiting(strip.i, strip.window)
            waiting.append(entry)
            wanted = [
                (j, valid)
                for j in strip.cores
                if (selected is None or selected[strip.i, j])
                and ((valid := strip.core_valid(j)) is None or valid.any())
            ]
            entry.tiles_left = len(wanted)
            for j, valid in wanted:
                yield (entry, j, valid), strip.tile(j)

    for (entry, j, valid), outputs in stream(tiles(), slots):
        entry.put(grid.core(entry.i, j), outputs, valid, output_bands)
        while waiting and waiting[0].tiles_left == 0:
            yield waiting.popleft().labelled(output_bands)
    while waiting:
        yield waiting.popleft().labelled(output_bands)


class _Waiting:
    """A strip whose tiles are not all labelled yet; one without tiles holds no pixels."""

    def __init__(self, i: int, window: Window) -> None:
        self.i = i
        self.window = window
        self.tiles_left = 0
        self._outputs: dict[str, np.ndarray] = {}

    def put(
        self,
        core: Window,
        outputs: Mapping[str, np.ndarray],
        valid: np.ndarray | None,
        output_bands: Mapping[str, int],
    ) -> None:
        """Copy the outputs of one core to their place."""
        if not self._outputs:
            self._outputs = self._nothing(output_bands)
        left = core.left - self.window.left
        for name, pixels in outputs.items():
            kept = pixels[..., : core.height, : core.width]
            place = self._outputs[name][:, :, left : left + core.width]
            place[...] = kept if valid is None else kept * valid
        self.tiles_left -= 1

    def labelled(self, output_bands: Mapping[str, int]) -> LabelledStrip:
        """Return the finished strip."""
        outputs = self._outputs or self._nothing(output_bands)
        return LabelledStrip(i=self.i, window=self.window, outputs=outputs)

    def _nothing(self, output_bands: Mapping[str, int]) -> dict[str, np.ndarray]:
        size = (self.window.height, self.window.width)
        return {name: np.zeros((bands, *size), np.uint8) for name, bands in output_bands.items()}
