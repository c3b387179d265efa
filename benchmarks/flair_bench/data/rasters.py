"""Rasters that are measured on: patches put together, a scene drawn, either mirrored larger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.transform import from_origin
from rasterio.windows import Window

from flair_bench.errors import DatasetError
from flair_engine.grid import reflected
from flair_export.cards import GSD_M
from flair_export.synthetic.scene import SCENE_CRS, SCENE_ORIGIN_M, synthetic_orthophoto

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RASTER_BLOCK_PX = 512
"""Edge of blocks, and rows written at a time."""
DEFLATE: dict[str, Any] = {
    "tiled": True,
    "blockxsize": RASTER_BLOCK_PX,
    "blockysize": RASTER_BLOCK_PX,
    "compress": "deflate",
    "interleave": "pixel",
}
"""Creation options of rasters as they are mostly delivered."""
SCENE_SEED = 2024
SCENE_PX = 1536
"""Edge of a drawn scene."""


def read_image(paths: Sequence[Path]) -> np.ndarray:
    """Return uint8 [bands, H, W] of one raster, or of patches put together.

    Patches lie on one grid, to within rounding of their corners; where none lies, 0. Raises
    DatasetError for files that make no such image.
    """
    if not paths:
        raise DatasetError("no image given", "name one raster, or the patches of a block")
    corners, step = [], GSD_M
    for path in paths:
        with rasterio.open(path) as dataset:
            corners.append((dataset.transform.f, dataset.transform.c, dataset.shape))
            step, count = dataset.transform.a, dataset.count
    top, left = max(y for y, _, _ in corners), min(x for _, x, _ in corners)
    places = [(round((top - y) / step), round((x - left) / step), hw) for y, x, hw in corners]
    height = max(row + hw[0] for row, _, hw in places)
    width = max(col + hw[1] for _, col, hw in places)
    if height * width > 4 * sum(hw[0] * hw[1] for _, _, hw in places):
        raise DatasetError(
            f"{len(paths)} images span {height} x {width} px and fill less than a quarter of it",
            "give the patches of one block",
        )
    image = np.zeros((count, height, width), np.uint8)
    for path, (row, col, (rows, cols)) in zip(paths, places, strict=True):
        with rasterio.open(path) as dataset:
            image[:, row : row + rows, col : col + cols] = dataset.read()
    return image


def files_in(paths: Sequence[Path]) -> list[Path]:
    """Return files as they are, and every .tif below folders by ascending name."""
    return [
        file
        for path in paths
        for file in (sorted(path.rglob("*.tif")) if path.is_dir() else [path])
    ]


def image_or_scene(paths: Sequence[Path], bands: int) -> np.ndarray:
    """Return the image of files and folders, or without any a drawn scene of so many bands."""
    return read_image(files_in(paths)) if paths else draw_scene(SCENE_PX, bands)[0]


def draw_scene(size_px: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the synthetic orthophoto uint8 [bands, size, size] and its labels [size, size]."""
    image, labels = synthetic_orthophoto(size_px, size_px, SCENE_SEED)
    return image[:bands], labels


def write_raster(path: Path, image_bhw: np.ndarray, size_px: int | None, **profile: Any) -> Path:
    """Write an image, mirrored to `size_px` square where that is given, rows by rows.

    `profile` replaces creation options; `crs` and `transform` may be among them.
    """
    count, height, width = image_bhw.shape
    rows = reflected(0, size_px or height, height)
    cols = reflected(0, size_px or width, width)
    profile = {
        "driver": "GTiff",
        "crs": SCENE_CRS,
        "transform": from_origin(*SCENE_ORIGIN_M, GSD_M, GSD_M),
        **DEFLATE,
        **profile,
    }
    with rasterio.open(
        path, "w", count=count, dtype="uint8", height=len(rows), width=len(cols), **profile
    ) as dataset:
        for top in range(0, len(rows), RASTER_BLOCK_PX):
            part = image_bhw[:, rows[top : top + RASTER_BLOCK_PX, None], cols]
            dataset.write(part, window=Window(0, top, len(cols), part.shape[1]))
    return path


def write_wide_vrt(path: Path, source: Path, width_px: int, height_px: int) -> Path:
    """Write a VRT of the first rows of `source` again and again, from left to right."""
    with rasterio.open(source) as dataset:
        count, width = dataset.count, dataset.width
        wkt, transform = dataset.crs.to_wkt(), dataset.transform
    bands = []
    for band in range(1, count + 1):
        pasted = [
            f'<SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height_px}"/>'
            f'<DstRect xOff="{left}" yOff="0" xSize="{width}" ySize="{height_px}"/></SimpleSource>'
            for left in range(0, width_px, width)
        ]
        bands.append(
            f'<VRTRasterBand dataType="Byte" band="{band}">{"".join(pasted)}</VRTRasterBand>'
        )
    corner = ", ".join(f"{value!r}" for value in transform.to_gdal())
    path.write_text(
        f'<VRTDataset rasterXSize="{width_px}" rasterYSize="{height_px}"><SRS>{wkt}</SRS>'
        f"<GeoTransform>{corner}</GeoTransform>{''.join(bands)}</VRTDataset>",
        encoding="utf-8",
    )
    return path


def write_sparse_vrt(path: Path, source: Path, size_px: int) -> Path:
    """Write a VRT of `size_px` square that is empty but for `source` in its middle."""
    with rasterio.open(source) as dataset:
        count, height, width = dataset.count, dataset.height, dataset.width
        block, wkt, transform = dataset.block_shapes[0], dataset.crs.to_wkt(), dataset.transform
    offset = (size_px // 2 // block[0]) * block[0]
    moved = transform @ Affine.translation(-offset, -offset)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        f'<DstRect xOff="{offset}" yOff="{offset}" xSize="{width}" ySize="{height}"/>'
        "</SimpleSource></VRTRasterBand>"
        for band in range(1, count + 1)
    )
    corner = ", ".join(f"{value!r}" for value in moved.to_gdal())
    path.write_text(
        f'<VRTDataset rasterXSize="{size_px}" rasterYSize="{size_px}"><SRS>{wkt}</SRS>'
        f"<GeoTransform>{corner}</GeoTransform>{bands}</VRTDataset>",
        encoding="utf-8",
    )
    return path
