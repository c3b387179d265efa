"""Tiles through a few slots: the double buffer, of one device or of several."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from flair_engine.inference.base import Slot

Key = TypeVar("Key")

AHEAD_PER_SLOT = 2
"""Batches of outputs that are kept for each slot of several devices until those before them come:
enough for a device five times as fast as another to go on."""
LOOK_EVERY_S = 0.0002
"""Seconds between looks at several devices, of which none is ready: short beside any batch."""


def stream(
    tiles: Iterable[tuple[Key, np.ndarray | None]], slots: Sequence[Slot]
) -> Iterator[tuple[Key, Mapping[str, np.ndarray]]]:
    """Run (key, uint8 [bands, T, T]) tiles through the slots; yield (key, outputs) in order.

    Every batch is submitted full, the last one padded with zeros, so that a tile's labels do not
    depend on how many tiles there are. A key with None for an image only keeps its place among
    the others and has no outputs. Outputs are borrowed: valid until the next step. A device ends
    its batches in order; of several, the one that is ready first gets the next batch.
    """
    idle, busy = deque(slots), deque[_Batch[Key]]()
    ahead: dict[int, _Ended[Key]] = {}
    expected = 0
    for number, keyed in enumerate(_batches(tiles, len(slots[0].images_nchw))):
        while not idle:
            is_full = len(ahead) >= AHEAD_PER_SLOT * len(slots)
            batch = busy[0] if is_full else _first_ready(busy)
            busy.remove(batch)
            ended = _ended(batch)
            if batch.number > expected:
                ahead[batch.number] = _kept(ended)
            else:
                yield from _unpacked(ended)
                expected += 1
            idle.append(batch.slot)
            while expected in ahead:
                yield from _unpacked(ahead.pop(expected))
                expected += 1
        slot = idle.popleft()
        _submit([image for _, image in keyed if image is not None], slot)
        keys = [(key, image is not None) for key, image in keyed]
        busy.append(_Batch(number=number, slot=slot, keys=keys))
    while busy or ahead:
        is_ahead = expected in ahead
        yield from _unpacked(ahead.pop(expected) if is_ahead else _ended(busy.popleft()))
        expected += 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Batch(Generic[Key]):
    """A batch in flight."""

    number: int
    slot: Slot
    keys: Sequence[tuple[Key, bool]]
    """Each with whether it has a tile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended(Generic[Key]):
    """A batch that has ended."""

    keys: Sequence[tuple[Key, bool]]
    outputs: Mapping[str, np.ndarray]


def _first_ready(busy: Sequence[_Batch[Key]]) -> _Batch[Key]:
    """Return the batch to wait for: the oldest, of several devices the oldest that has ended."""
    oldest: dict[str, _Batch[Key]] = {}
    for batch in busy:
        oldest.setdefault(batch.slot.device, batch)
    while len(oldest) > 1:
        for batch in oldest.values():
            if batch.slot.is_ready():
                return batch
        time.sleep(LOOK_EVERY_S)
    return busy[0]


def _ended(batch: _Batch[Key]) -> _Ended[Key]:
    has_tiles = any(has_tile for _, has_tile in batch.keys)
    return _Ended(keys=batch.keys, outputs=batch.slot.wait() if has_tiles else {})


def _kept(ended: _Ended[Key]) -> _Ended[Key]:
    """Copy the outputs, so that the slot can be used again."""
    outputs = {name: array.copy() for name, array in ended.outputs.items()}
    return _Ended(keys=ended.keys, outputs=outputs)


def _batches(
    tiles: Iterable[tuple[Key, np.ndarray | None]], size: int
) -> Iterator[list[tuple[Key, np.ndarray | None]]]:
    """Group tiles and the keys among them so that each group but the last has `size` images."""
    batch: list[tuple[Key, np.ndarray | None]] = []
    images = 0
    for key, image in tiles:
        batch.append((key, image))
        images += image is not None
        if images == size:
            yield batch
            batch, images = [], 0
    if batch:
        yield batch


def _submit(images: Sequence[np.ndarray], slot: Slot) -> None:
    """Fill a slot and start it; with no image, which only the last batch can have, do nothing."""
    if images:
        for buffer, image in zip(slot.images_nchw, images, strict=False):
            buffer[...] = image
        slot.images_nchw[len(images) :] = 0
        slot.submit()


def _unpacked(ended: _Ended[Key]) -> Iterator[tuple[Key, Mapping[str, np.ndarray]]]:
    """Yield each key of a batch with its outputs, in order."""
    n = 0
    for key, has_tile in ended.keys:
        if has_tile:
            yield key, {name: array[n] for name, array in ended.outputs.items()}
            n += 1
        else:
            yield key, {}
