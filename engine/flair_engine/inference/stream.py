"""Tiles through a few slots: the double buffer."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from flair_engine.inference.base import Slot

Key = TypeVar("Key")


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
