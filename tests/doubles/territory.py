"""A territory of 36 tiles, and its parts put side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio

from doubles.field import noise, write
from doubles.position_model import write_position_model
from flair_engine import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

    from flair_engine.territory.plan_file import Plan

CPU = RunOptions(engine="ort", device="cpu", threads=1, batch=2)
TILE_PX, TILES = 330, 6
SIZE_PX = TILE_PX * TILES


@dataclass(frozen=True)
class Territory:
    """Tiles of two bands in a folder, the pixels of all, and a model."""

    tiles: Path
    image_bhw: np.ndarray
    model: Path


def write_territory(folder: Path) -> Territory:
    """Write noise as 36 tiles."""
    image = noise(2, SIZE_PX, SIZE_PX, seed=16)
    for row in range(TILES):
        for col in range(TILES):
            top, left = row * TILE_PX, col * TILE_PX
            part = image[:, top : top + TILE_PX, left : left + TILE_PX]
            write(folder / "tiles" / f"t{row}{col}.tif", part, row=top, col=left)
    return Territory(folder / "tiles", image, write_position_model(folder))


def labels_of(path: Path) -> np.ndarray:
    """Return the pixels of a map."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def put_together(plan: Plan) -> np.ndarray:
    """Return the maps of all parts side by side, 0 where there is none."""
    grid = plan.frame.pixel_grid
    found = np.zeros((grid.height, grid.width), np.uint8)
    for part in plan.parts:
        path = plan.folder / "parts" / f"{part.id}.tif"
        if path.exists():
            found[part.window.slices] = labels_of(path)
    return found
