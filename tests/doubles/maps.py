"""Maps of labels as flair-run writes them, from arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from doubles.paths import TINY
from doubles.rasters import LAMBERT_93, ORIGIN_M
from flair_engine.grid import Window
from flair_engine.manifest import LandCoverClass, read_model_spec
from flair_engine.mapping.landcover import MapStyle, write_maps
from flair_engine.mapping.targets import Target

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = tuple(
    LandCoverClass(value=value, name=name, color=color, active=True)
    for value, name, color in (
        (1, "building", "#db0e9a"),
        (2, "water", "#1553ae"),
        (3, "bare soil", "#a97101"),
        (4, "deciduous", "#46e483"),
    )
)
LOCAL_PLANE = CRS.from_wkt('LOCAL_CS["a site",UNIT["metre",1]]')
"""Metres that are metres: what a pixel covers is what the grid says."""


def transform_of(gsd_m: float = 0.2, left: float = ORIGIN_M[0], top: float = ORIGIN_M[1]) -> Affine:
    """Return the geotransform of pixels from a corner on."""
    return Affine(gsd_m, 0, left, 0, -gsd_m, top)


def write_map(
    path: Path,
    labels_hw: np.ndarray,
    *,
    confidence_hw: np.ndarray | None = None,
    classes: tuple[LandCoverClass, ...] = CLASSES,
    crs: CRS | str | None = LAMBERT_93,
    **style: object,
) -> Path:
    """Write labels, 0 where there is none, and their confidence by the engine's own writer."""
    outputs = {"labels": labels_hw, "confidence": confidence_hw}
    given = {name: array for name, array in outputs.items() if array is not None}
    spec = replace(read_model_spec(TINY), name="tiny", classes=classes, outputs=tuple(given))
    made = MapStyle(
        spec=spec,
        crs=CRS.from_user_input(crs) if crs else None,
        **{
            "transform": transform_of(),
            "values": "flair",
            "tags": {"FLAIR_MODEL": "tiny", "FLAIR_RUN": "0123456789abcdef"},
            "cog": False,
            **style,
        },
    )
    work = path.with_name(f".{path.name}.work")
    work.mkdir(parents=True)
    height, width = labels_hw.shape
    window = Window(top=0, left=0, height=height, width=width)
    write_maps(
        Target(path=path, window=window),
        made,
        lambda name, part: given[name][(None, *part.slices)],
        work,
    )
    work.rmdir()
    return path


def patchy(height: int, width: int, seed: int = 0, classes: int = 4, nodata: bool = True):
    """Return uint8 [height, width] of regions of many sizes and shapes, 0 among them."""
    rng = np.random.default_rng(seed)
    found = np.zeros((height, width), np.uint8)
    for edge in (16, 5, 2, 1):
        shape = (height // edge + 1, width // edge + 1)
        coarse = rng.integers(0 if nodata else 1, classes + 1, shape)
        where = rng.random(shape) < (1 if edge == 16 else 0.25)
        grown, chosen = (
            np.kron(array, np.ones((edge, edge), int))[:height, :width] for array in (coarse, where)
        )
        found = np.where(chosen, grown, found).astype(np.uint8)
    return found
