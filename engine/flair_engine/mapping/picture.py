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
SAMPLES = 4
"""Labels looked at in each direction for a pixel of a picture."""


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
    """Return a map of labels in its own colours, uint8 [4, h, w], decimated.

    A pixel shows the most frequent of SAMPLES x SAMPLES labels. GDAL's own mode, over all of them,
    takes three times as long on 25,000 px squared.
    """
    with rasterio.open(raster) as dataset:
        whole = Window(top=0, left=0, height=dataset.height, width=dataset.width)
        height, width = thinned(whole, most_px)
        if min(dataset.height // height, dataset.width // width) < SAMPLES:
            labels_hw = dataset.read(1, out_shape=(height, width), resampling=Resampling.mode)
        else:
            labels_hw = _most_frequent(
                dataset.read(1, out_shape=(height * SAMPLES, width * SAMPLES))
            )
        colors: Mapping[int, tuple[int, ...]] = dataset.colormap(1)
    palette = np.zeros((256, 4), np.uint8)
    for value, color in colors.items():
        palette[value] = color
    return np.moveaxis(palette[labels_hw], -1, 0)


def _most_frequent(labels_hw: np.ndarray) -> np.ndarray:
    """Return the label that most of SAMPLES x SAMPLES have, the lowest of equally many."""
    height, width = labels_hw.shape[0] // SAMPLES, labels_hw.shape[1] // SAMPLES
    cells = labels_hw.reshape(height, SAMPLES, width, SAMPLES)
    found_hw = np.zeros((height, width), np.uint8)
    most_hw = np.zeros((height, width), np.uint8)
    for value in np.unique(labels_hw):
        count_hw = (cells == value).sum(axis=(1, 3), dtype=np.uint8)
        found_hw[count_hw > most_hw] = value
        np.maximum(most_hw, count_hw, out=most_hw)
    return found_hw


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
