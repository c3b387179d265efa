"""The raster that is segmented: layers of pixels on one grid, grouped by the bands they supply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from flair_engine.grid import Window, ceil_div
from flair_engine.window_index import WindowIndex, meeting

if TYPE_CHECKING:
    from collections.abc import Sequence, Set


class Pixels(NamedTuple):
    """What was read of a window."""

    image_bhw: np.ndarray
    """uint8 [bands, h, w]; of heights on their way float32 metres."""
    valid_hw: np.ndarray | None = None
    """bool [h, w], True where valid; None where all is."""
    lost_hw: np.ndarray | None = None
    """bool [h, w], True where pixels are not valid because they could not be decoded."""


class SkippedBlock(NamedTuple):
    """A block that could not be decoded."""

    file: str
    top: int
    """Its first row in the file."""
    left: int


class Layer(Protocol):
    """Bands that cover a window of the raster; read in windows of its own pixels."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def window(self) -> Window:
        """Where it lies on the raster's grid; it may reach outside."""

    @property
    def count(self) -> int:
        """Bands."""

    @property
    def block_px(self) -> tuple[int, int]:
        """Height and width of the blocks it is stored in."""

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return the pixels of a window of the layer; called from many threads.

        They are put into `out_bhw` where it is given, uint8 [bands, h, w] of any strides. Raises
        ReadError where a block cannot be decoded.
        """

    @property
    def skipped(self) -> Set[SkippedBlock]:
        """Blocks that could not be decoded and were left out on request."""

    def close(self) -> None:
        """Give back what reading opened; reading again is allowed."""


class GridSource(Layer, Protocol):
    """A layer that may hold metres, and gives back what one thread has opened."""

    @property
    def dtype(self) -> type[np.generic]:
        """uint8, or float32 for metres."""

    def close_mine(self) -> None:
        """Give back what reading opened in the calling thread."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """Layers that together supply some bands of the raster, the earlier ones above the later."""

    bands: slice
    layers: Sequence[Layer]
    required: bool = True
    """Whether a pixel without it is invalid; else the bands count as 0 there. One that could not be
    decoded is invalid either way."""

    @cached_property
    def index(self) -> WindowIndex:
        """Where the layers lie."""
        return WindowIndex([layer.window for layer in self.layers])

    @cached_property
    def stacked(self) -> np.ndarray:
        """Bool [layers], True for those that overlap another."""
        found = np.zeros(len(self.layers), bool)
        for pair in meeting([layer.window for layer in self.layers]):
            found[list(pair)] = True
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Raster:
    """Products on one grid: what is segmented."""

    height: int
    width: int
    count: int
    products: Sequence[Product]
    fill: tuple[int, ...]
    """Value of each band where a pixel is invalid: what the network takes for average."""

    @property
    def blocks(self) -> int:
        """Number of blocks its layers are stored in."""
        return sum(
            ceil_div(layer.window.height, layer.block_px[0])
            * ceil_div(layer.window.width, layer.block_px[1])
            for product in self.products
            for layer in product.layers
        )


@dataclass(frozen=True, slots=True)
class ArrayLayer:
    """An image in memory, uint8 [bands, H, W]."""

    image_bhw: np.ndarray
    name: str = "array"

    @property
    def window(self) -> Window:
        """The whole image, at the raster's origin."""
        _, height, width = self.image_bhw.shape
        return Window(top=0, left=0, height=height, width=width)

    @property
    def count(self) -> int:
        """Bands."""
        return len(self.image_bhw)

    @property
    def block_px(self) -> tuple[int, int]:
        """One row: memory has no blocks."""
        return 1, self.window.width

    @property
    def skipped(self) -> Set[SkippedBlock]:
        """Return none: nothing is decoded."""
        return frozenset()

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return a view, or a copy in `out_bhw`."""
        rows, cols = part.slices
        if out_bhw is None:
            return Pixels(self.image_bhw[:, rows, cols])
        out_bhw[...] = self.image_bhw[:, rows, cols]
        return Pixels(out_bhw)

    def close(self) -> None:
        """Do nothing."""


def array_raster(image_bhw: np.ndarray) -> Raster:
    """Return uint8 [bands, H, W] as a raster that is valid everywhere."""
    count, height, width = image_bhw.shape
    products = [Product(bands=slice(0, count), layers=[ArrayLayer(image_bhw)])]
    return Raster(height=height, width=width, count=count, products=products, fill=(0,) * count)
