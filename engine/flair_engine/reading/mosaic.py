"""Layers on one grid read as one, the first valid pixel of overlapping ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Window, bounds
from flair_engine.reading.layers import Pixels
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from flair_engine.reading.layers import GridSource, SkippedBlock

KEPT_OPEN = 8
"""Layers that a thread leaves open: a window lies on four of them where their corners meet, and the
next one to it on some of the same."""


class Mosaic:
    """Sources of one kind on one grid, the earlier above the later; at least one."""

    def __init__(self, sources: Sequence[GridSource], window: Window | None = None) -> None:
        """`window` is around more sources than are given, where these are some of a mosaic."""
        self.sources = sources
        self.name = sources[0].name
        self.window = window or bounds(source.window for source in sources)
        self.count = sources[0].count
        self.dtype = sources[0].dtype
        self._index = WindowIndex([source.window for source in sources])
        self._opened = threading.local()

    @property
    def skipped(self) -> Set[SkippedBlock]:
        """Blocks that could not be decoded and were left out on request."""
        return set().union(*(source.skipped for source in self.sources))

    def read(self, part: Window) -> Pixels:
        """Return the pixels of a window of the grid, anything where none is valid.

        Raises ReadError where a block cannot be decoded.
        """
        met = self._meeting(part)
        if len(met) == 1 and met[0].window.intersection(part) == part:
            return self._read_source(met[0], part)
        image_bhw = np.zeros((self.count, part.height, part.width), self.dtype)
        valid_hw = np.zeros((part.height, part.width), bool)
        lost_hw = np.zeros_like(valid_hw)
        for source in met:
            common = source.window.intersection(part)
            rows, cols = common.relative_to(part).slices
            pixels = self._read_source(source, common)
            seen_hw = ~valid_hw[rows, cols]
            if pixels.valid_hw is not None:
                seen_hw &= pixels.valid_hw
            np.copyto(image_bhw[:, rows, cols], pixels.image_bhw, where=seen_hw)
            valid_hw[rows, cols] |= seen_hw
            if pixels.lost_hw is not None:
                lost_hw[rows, cols] |= pixels.lost_hw
        return Pixels(image_bhw, valid_hw, lost_hw & ~valid_hw if lost_hw.any() else None)

    def close(self) -> None:
        """Close every source; reading opens them again."""
        for source in self.sources:
            source.close()

    def close_mine(self) -> None:
        """Close what reading opened in the calling thread."""
        opened = self._sources_opened()
        while opened:
            opened.popitem()[1].close_mine()

    def _meeting(self, part: Window) -> list[GridSource]:
        """Return the sources that lie in a window, in their order."""
        return [self.sources[number] for number in self._index.meeting(part)]

    def _sources_opened(self) -> OrderedDict[int, GridSource]:
        """Return what the calling thread has open, used last at the end."""
        if not hasattr(self._opened, "sources"):
            self._opened.sources = OrderedDict()
        opened: OrderedDict[int, GridSource] = self._opened.sources
        return opened

    def _read_source(self, source: GridSource, part: Window) -> Pixels:
        """Read a window of the grid of one source, closing those of long ago."""
        opened = self._sources_opened()
        opened[id(source)] = source
        opened.move_to_end(id(source))
        if len(opened) > KEPT_OPEN:
            opened.popitem(last=False)[1].close_mine()
        return source.read(part.relative_to(source.window))
