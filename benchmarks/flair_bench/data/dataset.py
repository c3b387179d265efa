"""Pairs of image and mask in the FLAIR layout: IMG_x.tif and MSK_x.tif anywhere below a folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

import rasterio

from flair_bench.errors import DatasetError
from flair_export.cards import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec

IMAGE, MASK = "IMG_", "MSK_"


@dataclass(frozen=True, slots=True)
class Pair:
    """One patch."""

    image: Path
    mask: Path


def find_pairs(folder: Path, lists: Iterable[Path] = ()) -> list[Pair]:
    """Return the patches below `folder` by ascending name, or those that `lists` name.

    A list is one of the dataset's CSV files, a line `image path,mask path` per patch; files are
    found by their names, since the folders above them differ from one distribution to another.
    Raises DatasetError where there is nothing to score or half of a pair is missing.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is no folder", "give the one that holds the patches")
    images, masks = _by_id(folder, IMAGE), _by_id(folder, MASK)
    listed = [name for path in lists for name in _listed(path)]
    wanted = listed or sorted(images)
    if not wanted:
        raise DatasetError(f"{folder}: no {IMAGE}*.tif below it", "give a folder of FLAIR patches")
    for kind, found in ((IMAGE, images), (MASK, masks)):
        if missing := [name for name in wanted if name not in found]:
            raise DatasetError(
                f"{folder}: {len(missing)} of {len(wanted)} patches have no {kind}*.tif "
                f"({kind}{missing[0]}.tif first)",
                "complete the download",
            )
    return [Pair(images[name], masks[name]) for name in wanted]


def read_pair(pair: Pair, spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 image [bands, T, T] and mask [T, T] of values 1..19. Raises DatasetError."""
    with rasterio.open(pair.image) as image, rasterio.open(pair.mask) as mask:
        shape = (len(spec.bands), spec.tile_px, spec.tile_px)
        if (image.count, *image.shape) != shape or mask.shape != shape[1:]:
            raise DatasetError(
                f"{pair.image}: image {image.count} x {image.height} x {image.width}, mask "
                f"{mask.height} x {mask.width}; the model reads {' x '.join(map(str, shape))}",
                "export one with --tile of the patch size and --margin 0",
            )
        pixels_bhw, truth_hw = image.read(), mask.read(1)
    if truth_hw.min() < 1 or truth_hw.max() > CHANNELS:
        raise DatasetError(
            f"{pair.mask}: values {truth_hw.min()} to {truth_hw.max()}, expected 1 to {CHANNELS}",
            "give the masks as published",
        )
    return pixels_bhw, truth_hw


def _by_id(folder: Path, prefix: str) -> dict[str, Path]:
    return {path.stem.removeprefix(prefix): path for path in folder.rglob(f"{prefix}*.tif")}


def _listed(path: Path) -> list[str]:
    """Return the ids of the patches of one list; a header names no file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and row[0].endswith(".tif")]
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror})", "give a CSV list"
        ) from error
    if not rows:
        raise DatasetError(f"{path}: names no .tif", "give one of the dataset's path lists")
    return [row[0].rpartition("/")[2].removesuffix(".tif").removeprefix(IMAGE) for row in rows]
