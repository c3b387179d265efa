"""Memory of whole runs of the trivial model: over a file, and in a raster far larger."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import rasterio

from flair_bench.data.rasters import write_raster, write_sparse_vrt, write_wide_vrt
from flair_bench.measure.trivial_model import write_trivial_model
from flair_bench.processes import run_measured
from flair_engine.manifest import OUTPUT_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

HUGE_PX = 100_000
"""Edge of the sparse raster, and width of the widest: 20 km at 0.2 m."""
SMALL_PX = 5_000
"""Edge of the file it is compared with; that many pixels of the huge one are mapped too."""
WIDE_PX = 1024
"""Rows of the wide rasters."""
WIDTHS_PX = (2_000, 20_000, HUGE_PX)
"""Columns of the wide rasters, of which memory must not depend."""


def measure_memory(
    image_bhw: np.ndarray, folder: Path, status: Callable[[str], None]
) -> dict[str, float]:
    """Return the peak MiB of runs by what they map. Raises RunnerError."""
    bands = len(image_bhw)
    labels = write_trivial_model(folder / "trivial.onnx", bands)
    all_outputs = write_trivial_model(folder / "outputs.onnx", bands, OUTPUT_NAMES)
    small = write_raster(folder / "small.tif", image_bhw, SMALL_PX)
    huge = write_sparse_vrt(folder / "huge.vrt", small, HUGE_PX)
    with rasterio.open(small) as dataset:
        box = ",".join(f"{edge:.3f}" for edge in dataset.bounds)
    runs: dict[str, list[str | Path]] = {
        f"{SMALL_PX} px file": ["-m", labels, small],
        f"{SMALL_PX} px box of {HUGE_PX} px": ["-m", labels, huge, "--bbox", box],
    }
    for width in WIDTHS_PX:
        wide = write_wide_vrt(folder / f"wide{width}.vrt", small, width, WIDE_PX)
        runs[f"{WIDE_PX} x {width} px"] = ["-m", labels, wide]
        runs[f"{WIDE_PX} x {width} px, all outputs"] = ["-m", all_outputs, wide]
        runs[f"{WIDE_PX} x {width} px, all outputs, COG"] = ["-m", all_outputs, wide, "--cog"]
    peaks = {}
    for name, arguments in runs.items():
        status(f"memory of {name}")
        # Outputs that another run has written are not this model's.
        for written in folder.glob("memory*"):
            written.unlink()
        command = [sys.executable, "-m", "flair_engine", "--quiet", "--nodata", "none"]
        command += ["--device", "cpu", *map(str, arguments), str(folder / "memory.tif")]
        peaks[name] = run_measured(command).peak_mib
    return peaks
