"""GeoTIFFs written in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rasterio
from rasterio.transform import from_origin

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

LAMBERT_93 = "EPSG:2154"
ORIGIN_M = (721104.4, 6248980.8)
"""Easting and northing of the top-left corner, near Narbonne."""


def write_tiff(path: Path, image_bhw: np.ndarray, *, gsd_m: float = 0.2, **profile) -> Path:
    """Write [bands, H, W] in its own type; `profile` replaces and adds creation options."""
    count, height, width = image_bhw.shape
    place = {"crs": LAMBERT_93, "transform": from_origin(*ORIGIN_M, gsd_m, gsd_m)}
    size = {"count": count, "height": height, "width": width, "dtype": image_bhw.dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **size, **{**place, **profile}) as dataset:
        dataset.write(image_bhw)
    return path
