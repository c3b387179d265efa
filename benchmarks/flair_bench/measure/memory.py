"""Memory of whole runs of the trivial model: over a file, and in a raster far larger."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import rasterio

from flair_bench.data.rasters import write_raster, write_sparse_vrt
from flair_bench.measure.trivial_model import write_trivial_model
from flair_bench.processes import run_measured
from flair_export.cards import GSD_M

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

HUGE_PX = 100_000
"""Edge of the sparse raster: 20 km at 0.2 m."""
SMALL_PX = 5_000
"""Edge of the file it is compared with; that many pixels of the huge one are mapped too."""
WIDE_PX = 1024
"""Rows of the box across the huge raster."""


def measure_memory(
    image_bhw: np.ndarray, folder: Path, status: Callable[[str], None]
) -> dict[str, float]:
    """Return the peak MiB of runs by what they map. Raises RunnerError."""
    model = write_trivial_model(folder / "trivial.onnx", len(image_bhw))
    small = write_raster(folder / "small.tif", image_bhw, SMALL_PX)
    huge = write_sparse_vrt(folder / "huge.vrt", small, HUGE_PX)
    with rasterio.open(small) as dataset:
        left, bottom, right, top = dataset.bounds
    with rasterio.open(huge) as dataset:
        wide = (dataset.bounds.left, top - WIDE_PX * GSD_M, dataset.bounds.right, top - GSD_M)
    boxes = {
        f"{SMALL_PX} px file": (small, None),
        f"{SMALL_PX} px box of {HUGE_PX} px": (huge, (left, bottom, right, top)),
        f"{HUGE_PX} px wide box of {HUGE_PX} px": (huge, wide),
    }
    peaks = {}
    for name, (raster, box) in boxes.items():
        status(f"memory of {name}")
        command = [sys.executable, "-m", "flair_engine", "-m", str(model), "--quiet"]
        command += ["--overwrite", "--nodata", "none", "--device", "cpu"]
        command += ["--bbox", ",".join(f"{edge:.3f}" for edge in box)] if box else []
        outcome = run_measured([*command, str(raster), str(folder / "memory.tif")])
        peaks[name] = outcome.peak_mib
    return peaks
