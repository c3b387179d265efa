"""Tiles through a few slots: the double buffer."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from flair_engine.inference.base import Slot

Key = TypeVar("Key")


def stream(
    tiles: Iterable[tuple[Key, np.ndarray | None]], slots: Sequence[Slot]
) -> Iterator[tuple[Key, Mapping[str, np.ndarray]]]:
    """Run (key, uint8 [bands, T, T]) tiles through the slots; yield (key, outputs) in order.

    Every batch is submitted full, the last one padded with zeros, so that a tile's labels do not
    depend on how many tiles there are. A key with None for an image only keeps its place among
    the others and has no outputs. Outputs are borrowed: valid until the next step.
    """
    idle, busy = deque(slots), deque[tuple["Slot", list[tuple[Key, bool]]]]()
    for batch in _batches(tiles, len(slots[0].images_nchw)):
        if not idle:
            slot, keys = busy.popleft()
            yield from _unpacked(slot, keys)
            idle.append(slot)
        slot = idle.popleft()
        _submit([image for _, image in batch if image is not None], slot)
        busy.append((slot, [(key, image is not None) for key, image in batch]))
    for slot, keys in busy:
        yield from _unpacked(slot, keys)


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


def _unpacked(
    slot: Slot, keys: Sequence[tuple[Key, bool]]
) -> Iterator[tuple[Key, Mapping[str, np.ndarray]]]:
    """Wait for a slot; yield each key of its batch with its outputs, in order."""
    has_tiles = any(has_tile for _, has_tile in keys)
    outputs = slot.wait() if has_tiles else {}
    n = 0
    for key, has_tile in keys:
        if has_tile:
            yield key, {name: array[n] for name, array in outputs.items()}
            n += 1
        else:
            yield key, {}
