"""Writing alone: finished strips through the journal to a published map, against GDAL alone.

GDAL writes the same blocks with the same creation options.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import rasterio
from rasterio.windows import Window as RasterioWindow

from flair_bench.data.rasters import SCENE_PX, draw_scene
from flair_bench.figures import GdalRatio, IoSpeed
from flair_bench.measure.trivial_model import trivial_spec
from flair_engine import Grid
from flair_engine.grid import Window, reflected, whole_area
from flair_engine.mapping.assembly import assembled
from flair_engine.mapping.journal import Journal
from flair_engine.mapping.landcover import BLOCK_PX, MapStyle, write_maps
from flair_engine.mapping.standing import MAP_TAG
from flair_engine.mapping.targets import Target
from flair_engine.overlap import alongside
from flair_export.cards import GSD_M, OFFICIAL_MARGIN_PX, OFFICIAL_TILE_PX

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


def measure_writing(size_px: int, repeats: int, folder: Path) -> IoSpeed:
    """Time writing the labels of a drawn scene mirrored to `size_px`."""
    drawn_hw = draw_scene(SCENE_PX, 1)[1]
    mirror = reflected(0, size_px, SCENE_PX)
    labels_hw = drawn_hw[mirror[:, None], mirror]
    ours, theirs = [], []
    for _ in range(1 + repeats):  # the first to warm up
        ours.append(_publish_map(labels_hw, folder / "ours.tif"))
        theirs.append(_write_plainly(labels_hw, folder / "theirs.tif"))
    with rasterio.open(folder / "ours.tif") as first, rasterio.open(folder / "theirs.tif") as other:
        assert (first.read() == other.read()).all(), "a fast wrong map is no map"
    mpx = size_px**2 / 1e6
    return IoSpeed(
        mpx_per_s=mpx / statistics.median(ours[1:]),
        gdal_mpx_per_s=mpx / statistics.median(theirs[1:]),
        of_gdal=GdalRatio.of(theirs[1:], ours[1:]),
    )


def _publish_map(labels_hw: np.ndarray, path: Path) -> float:
    """Return the seconds of storing strips in a journal and publishing the map from it."""
    start = time.perf_counter()
    height, width = labels_hw.shape
    grid = Grid(height=height, width=width, tile_px=OFFICIAL_TILE_PX, margin_px=OFFICIAL_MARGIN_PX)
    whole = whole_area(grid)
    style = MapStyle(
        spec=trivial_spec(3),
        crs=None,
        transform=rasterio.Affine(GSD_M, 0, 0, 0, -GSD_M, 0),
        values="flair",
        tags={MAP_TAG: "trivial"},
        cog=False,
    )
    journal = Journal(path.with_name(".run"), {}, started="", resume=False, restart=True)
    with journal:

        def read(name: str, window: Window) -> np.ndarray:
            return assembled(journal.load, name, window, [(0, whole)], bands=1)

        def publish() -> None:
            target = Target(path=path, window=whole.window)
            write_maps(target, style, read, journal.folder)

        with alongside(publish, cancel=journal.abandon):
            for i in whole.rows:
                rows, _ = whole.strip(i).slices
                journal.append(0, i, {"labels": labels_hw[None, rows]})
        journal.remove()
    return time.perf_counter() - start


def _write_plainly(labels_hw: np.ndarray, path: Path) -> float:
    """Return the seconds GDAL takes for the same blocks with the same creation options."""
    start = time.perf_counter()
    height, width = labels_hw.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", count=1, height=height, width=width, nodata=0,
        transform=rasterio.Affine(GSD_M, 0, 0, 0, -GSD_M, 0), tiled=True, blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX, interleave="band", compress="deflate", num_threads="all_cpus",
        bigtiff="if_safer",
    ) as dataset:  # fmt: skip
        for top in range(0, height, BLOCK_PX):
            rows = labels_hw[None, top : top + BLOCK_PX]
            dataset.write(rows, window=RasterioWindow(0, top, width, rows.shape[1]))
    return time.perf_counter() - start
