"""Seen of a map, read decimated, and pictures as files without any drawing library."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from flair_engine.grid import Window, thinned

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FULL = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a map shows, and of what; small."""

    image_bhw: np.ndarray
    """uint8 [3, h, w] of what was mapped."""
    seen_hw: np.ndarray
    """bool [h, w], where there is an image."""
    map_bhw: np.ndarray
    """uint8 [4, h, w], the last band opacity: 0 where the map has no label."""
    across_m: float | None
    """Metres that it shows from left to right, where that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LegendEntry:
    """A class that occurs in a map."""

    name: str
    color: str
    """`#rrggbb`."""
    pixels: int
    hectares: float
    share: float
    """Of the pixels that have a label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapPicture:
    """Pictures of a map as files, each (media type, content)."""

    path: Path
    """Of the map."""
    size_px: tuple[int, int]
    """Height and width of both pictures."""
    image: tuple[str, bytes]
    drawn: tuple[str, bytes]


def map_picture(raster: Path, most_px: int) -> np.ndarray:
    """Return a map of labels in its own colours, uint8 [4, h, w], decimated: the most frequent."""
    with rasterio.open(raster) as dataset:
        whole = Window(top=0, left=0, height=dataset.height, width=dataset.width)
        labels_hw = dataset.read(1, out_shape=thinned(whole, most_px), resampling=Resampling.mode)
        colors: Mapping[int, tuple[int, ...]] = dataset.colormap(1)
    palette = np.zeros((256, 4), np.uint8)
    for value, color in colors.items():
        palette[value] = color
    return np.moveaxis(palette[labels_hw], -1, 0)


def image_file(image_bhw: np.ndarray, seen_hw: np.ndarray) -> tuple[str, bytes]:
    """Return an image as (media type, content): JPEG where all of it is seen, else PNG."""
    if seen_hw.all():
        return "image/jpeg", _encoded(image_bhw, "JPEG", quality=88)
    alpha_hw = np.where(seen_hw, FULL, 0).astype(np.uint8)
    return "image/png", _encoded(np.concatenate([image_bhw, alpha_hw[None]]), "PNG")


def map_file(map_bhw: np.ndarray) -> tuple[str, bytes]:
    """Return the picture of a map as (media type, content)."""
    return "image/png", _encoded(map_bhw, "PNG")


def _encoded(pixels_bhw: np.ndarray, driver: str, **options: int) -> bytes:
    count, height, width = pixels_bhw.shape
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver=driver, dtype="uint8", count=count, height=height, width=width, **options
        ) as dataset:
            dataset.write(pixels_bhw)
        return bytes(memory.read())
