"""The part of the raster that is mapped: cores that a box or shapes of a vector file touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affine import Affine

from flair_engine.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from flair_engine.grid import Grid
    from flair_engine.reading.pixel_grid import PixelGrid


def selected_cores(
    grid: Grid, pixel_grid: PixelGrid, bbox: Sequence[float] | None, aoi: str | None
) -> np.ndarray | None:
    """Return bool [rows, cols] of the cores a box or the shapes of a file touch; None for all.

    `bbox` is xmin, ymin, xmax, ymax in the raster's CRS. Raises SourceError where nothing is.
    """
    if bbox is None and aoi is None:
        return None
    from rasterio.features import rasterize

    shapes = _area_shapes(aoi, pixel_grid) if aoi else [_box(bbox or ())]
    cores: np.ndarray = rasterize(
        shapes,
        out_shape=(grid.rows, grid.cols),
        transform=pixel_grid.transform @ Affine.scale(grid.core_px),
        all_touched=True,
        dtype="uint8",
    ).astype(bool)
    if not cores.any():
        what = aoi or f"the box {','.join(f'{edge:g}' for edge in bbox or ())}"
        raise SourceError(
            f"{what}: does not touch the images", "check its coordinates against their CRS"
        )
    return cores


def _area_shapes(path: str, pixel_grid: PixelGrid) -> list[object]:
    try:
        import fiona
    except ImportError as error:
        raise SourceError(
            f"{path}: reading areas of interest needs one more package",
            "run pip install 'flair-engine[aoi]'",
        ) from error
    from rasterio.crs import CRS
    from rasterio.warp import transform_geom

    try:
        with fiona.open(path) as features:
            crs = CRS.from_wkt(features.crs_wkt) if features.crs_wkt else pixel_grid.crs
            shapes = [feature.geometry.__geo_interface__ for feature in features]
    except (fiona.errors.FionaError, OSError) as error:
        raise SourceError(f"{path}: cannot be read ({error})", "give a vector file") from error
    if not shapes:
        raise SourceError(f"{path}: holds no shape", "give a vector file with areas")
    if crs != pixel_grid.crs:
        shapes = [transform_geom(crs, pixel_grid.crs, shape) for shape in shapes]
    return shapes


def _box(bbox: Sequence[float]) -> object:
    left, bottom, right, top = bbox
    if left >= right or bottom >= top:
        raise SourceError(
            f"the box {','.join(f'{edge:g}' for edge in bbox)} is empty",
            "give xmin,ymin,xmax,ymax in the CRS of the images",
        )
    ring = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    return {"type": "Polygon", "coordinates": [ring]}
