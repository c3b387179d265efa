"""Strips of pixels to strips of labels.

Strips are taken apart into the cores that are wanted, the tiles of these go through the slots in
full batches, and their outputs, which come back in order, are put together strip by strip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flair_engine.errors import InferenceError
from flair_engine.inference.stream import stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from flair_engine.grid import Grid, Window
    from flair_engine.inference.base import Slot


class PixelStrip(Protocol):
    """The pixels of one row of tiles of a panel, as labelling needs them."""

    @property
    def i(self) -> int:
        """Row of cores in the grid."""

    @property
    def cores(self) -> range:
        """Columns of cores."""

    @property
    def window(self) -> Window:
        """The pixels of the raster that the cores cover."""

    def tile(self, j: int) -> np.ndarray:
        """Return tile (i, j), uint8 [bands, T, T]."""

    def core_valid(self, j: int) -> np.ndarray | None:
        """Return the validity bool [h, w] of core (i, j); None where every pixel is valid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledStrip:
    """What the model says of one row of cores of a panel; 0 where nothing is known."""

    i: int
    """Row of cores in the grid."""
    window: Window
    """The pixels of the raster."""
    outputs: Mapping[str, np.ndarray]
    """uint8 [bands, h, w] by output name."""
    inferred_px: int
    """Pixels of the cores that went through the network."""


def label_strips(
    strips: Iterable[PixelStrip],
    grid: Grid,
    slots: Sequence[Slot],
    output_bands: Mapping[str, int],
    is_wanted: Callable[[int, int], bool] | None = None,
    *,
    values: Collection[int],
) -> Iterator[LabelledStrip]:
    """Run the tiles of every strip and put the cores together, cut at the raster's edge.

    `output_bands` says how many bands each output has, `values` which labels there can be (see
    `manifest.label_values`). A core (i, j) that is not wanted or has no valid pixel is not
    inferred; pixels that are not valid become 0. Raises InferenceError for another label.
    """
    labelled = stream(_taken_apart(strips, grid, is_wanted), slots)
    return _put_together(_checked(labelled, values), output_bands)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Destination:
    """Where in which strip the outputs of one tile belong.

    A strip of which nothing is wanted has one destination without a core.
    """

    i: int
    window: Window
    """Of the strip."""
    core: Window | None
    valid_hw: np.ndarray | None
    """bool, of the core; None where every pixel is valid."""
    ends_strip: bool


def _taken_apart(
    strips: Iterable[PixelStrip], grid: Grid, is_wanted: Callable[[int, int], bool] | None
) -> Iterator[tuple[_Destination, np.ndarray | None]]:
    """Yield the destinations of every strip in order, each with its tile where it has a core."""
    for strip in strips:
        i, window = strip.i, strip.window
        wanted = [
            (j, valid_hw)
            for j in strip.cores
            if (is_wanted is None or is_wanted(i, j))
            and ((valid_hw := strip.core_valid(j)) is None or valid_hw.any())
        ]
        if not wanted:
            yield _Destination(i=i, window=window, core=None, valid_hw=None, ends_strip=True), None
        for j, valid_hw in wanted:
            destination = _Destination(
                i=i,
                window=window,
                core=grid.core(i, j),
                valid_hw=valid_hw,
                ends_strip=j == wanted[-1][0],
            )
            yield destination, strip.tile(j)


def _checked(
    labelled: Iterable[tuple[_Destination, Mapping[str, np.ndarray]]], values: Collection[int]
) -> Iterator[tuple[_Destination, Mapping[str, np.ndarray]]]:
    """Pass on what a model says. Raises InferenceError for a label that is none of `values`."""
    low, high = min(values), max(values)
    gaps = sorted({*range(low, high)} - {*values})
    for destination, found in labelled:
        if "labels" in found:
            labels = found["labels"]
            # Each comparison is a pass of some 10 GB/s; looking labels up in a table is none.
            if labels.min() < low or labels.max() > high or any((labels == g).any() for g in gaps):
                stranger = next(v for v in np.unique(labels).tolist() if v not in values)
                raise InferenceError(
                    f"the model answers label {stranger}, which its manifest does not say it can",
                    "export the checkpoint again with flair-export",
                )
        yield destination, found


def _put_together(
    labelled: Iterable[tuple[_Destination, Mapping[str, np.ndarray]]],
    output_bands: Mapping[str, int],
) -> Iterator[LabelledStrip]:
    """Yield each strip with its last core. Cores come in order: one strip is filled at a time."""
    outputs: dict[str, np.ndarray] = {}
    inferred_px = 0
    for destination, found in labelled:
        inferred_px += destination.core.pixels if destination.core else 0
        if not outputs:
            size = (destination.window.height, destination.window.width)
            outputs = {n: np.zeros((bands, *size), np.uint8) for n, bands in output_bands.items()}
        _put(found, destination, outputs)
        if destination.ends_strip:
            yield LabelledStrip(
                i=destination.i,
                window=destination.window,
                outputs=outputs,
                inferred_px=inferred_px,
            )
            outputs, inferred_px = {}, 0


def _put(
    found: Mapping[str, np.ndarray], destination: _Destination, outputs: Mapping[str, np.ndarray]
) -> None:
    """Copy what was found of one core to its place in the outputs of the strip."""
    core = destination.core
    if core is None:
        return
    left = core.left - destination.window.left
    for name, pixels in found.items():
        kept = pixels[..., : core.height, : core.width]
        target = outputs[name][:, :, left : left + core.width]
        target[...] = kept if destination.valid_hw is None else kept * destination.valid_hw
