"""The frame of a territory: what reading some of its files has to know of all of them.

With it the files that a block of cores sees give the pixels that all files would: the grid does not
move, what is warped is warped in the same blocks, and earlier files stay above later ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flair_engine.grid import Window
    from flair_engine.reading.pixel_grid import PixelGrid


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnGrid:
    """A grid that some files of a product share and the raster does not: they are warped."""

    grid: PixelGrid
    window: Window
    """Around all of these files, on their grid."""
    first: int
    """Number of the first of them among all files of the product, which says what it hides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """What all files of a raster have settled together."""

    pixel_grid: PixelGrid
    """Of the whole raster."""
    own_grids: Mapping[str, tuple[OwnGrid, ...]]
    """By product."""
    counts: bool
    """Whether every nDSM holds counts, so that they are read as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """A block of cores that is mapped by itself, on the frame of the whole raster."""

    frame: Frame
    window: Window
    """Pixels of the raster that are mapped; ends with cores, or with the raster."""
    numbers: Mapping[str, tuple[int, ...]]
    """Of the files that are given by product, their numbers among all, ascending."""
