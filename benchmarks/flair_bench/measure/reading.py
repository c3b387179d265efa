"""Reading alone: the engine's strips against plain parallel reads of each block once, by GDAL."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import rasterio
from rasterio.windows import Window as RasterioWindow

from flair_bench.data.rasters import write_raster
from flair_bench.figures import GdalRatio, ReadingSpeed
from flair_bench.measure.trivial_model import trivial_spec
from flair_engine import Inputs, ModelSpec, ReadOptions
from flair_engine.grid import Window, blocks, whole_area
from flair_engine.manifest import tile_grid
from flair_engine.reading.inputs import open_inputs
from flair_engine.reading.schedule import MIN_ROWS, ReadCounter, panels
from flair_engine.reading.strips import read_strips
from flair_engine.system import available_cpus

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

FORMATS: dict[str, tuple[int | None, dict[str, Any]]] = {
    "tiled deflate": (None, {}),
    "striped LZW": (None, {"tiled": False, "blockxsize": None, "blockysize": 1, "compress": "lzw"}),
    "tiled JPEG": (3, {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85}),
    "JPEG 2000": (3, {"driver": "JP2OpenJPEG", "blockxsize": 1024, "blockysize": 1024}),
}
"""Bands (None for all) and creation options of what aerial images are delivered in."""


def measure_reading(
    image_bhw: np.ndarray, size_px: int, profile: dict[str, Any], repeats: int, folder: Path
) -> ReadingSpeed:
    """Time reading an image mirrored to `size_px`, written with the creation options `profile`."""
    path = write_raster(folder / "read.raster", image_bhw, size_px, **profile)
    spec = trivial_spec(len(image_bhw))
    ours, theirs = [], []
    for _ in range(1 + repeats):  # the first to warm up
        seconds, requested, stored = _read_strips(path, spec)
        ours.append(seconds)
        theirs.append(_read_plainly(path))
    mpx = size_px**2 / 1e6
    path.unlink()
    return ReadingSpeed(
        mpx_per_s=mpx / statistics.median(ours[1:]),
        gdal_mpx_per_s=mpx / statistics.median(theirs[1:]),
        of_gdal=GdalRatio.of(theirs[1:], ours[1:]),
        blocks_requested=requested,
        blocks=stored,
    )


def _read_strips(path: Path, spec: ModelSpec) -> tuple[float, int, int]:
    """Read a raster as the engine does; return seconds, blocks requested and blocks stored."""
    start = time.perf_counter()
    counter = ReadCounter()
    with closing(open_inputs(spec, Inputs(images=(str(path),)), ReadOptions())) as opened:
        raster = opened.sheets[0].raster
        for panel in panels(whole_area(tile_grid(spec, raster)), raster):
            threads = available_cpus()
            for _ in read_strips(raster, panel, panel.rows, threads=threads, counter=counter):
                pass
        return time.perf_counter() - start, counter.blocks, raster.blocks


def _read_plainly(path: Path) -> float:
    """Return the seconds of reading each block once, in rows of blocks, a handle per thread."""
    start = time.perf_counter()
    with rasterio.open(path) as dataset:
        block_px = dataset.block_shapes[0]
        rows = max(block_px[0], MIN_ROWS)
        whole = [
            Window(top=top, left=0, height=min(rows, dataset.height - top), width=dataset.width)
            for top in range(0, dataset.height, rows)
        ]
    # One request per row of striped files, as a reader that knows them would ask; else per block.
    parts = [
        part
        for band in whole
        for part in ([band] if block_px[1] == band.width else blocks(band, block_px))
    ]
    threads = available_cpus()

    def read(mine: list[Window]) -> None:
        with rasterio.open(path, sharing=False) as dataset:
            for part in mine:
                dataset.read(window=RasterioWindow(part.left, part.top, part.width, part.height))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, [parts[n::threads] for n in range(threads)]))
    return time.perf_counter() - start
