"""Strips of pixels to strips of labels."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.inference.stream import stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from flair_engine.grid import Grid, Window
    from flair_engine.inference.base import Slot
    from flair_engine.reading.strips import Strip


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledStrip:
    """What the model says of one row of cores of a panel; 0 where nothing is known."""

    i: int
    """Row of cores in the grid."""
    window: Window
    """The pixels of the raster."""
    outputs: Mapping[str, np.ndarray]
    """uint8 [bands, h, w] by output name."""


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
