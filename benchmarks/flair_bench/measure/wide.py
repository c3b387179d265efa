"""Wide mosaics: how often whole runs of the trivial model decode a block, and in what memory."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rasterio.transform import from_origin

from flair_bench.data.rasters import write_raster
from flair_bench.figures import WideRead
from flair_bench.figures.raster_io import MOSAIC_PX
from flair_bench.measure.trivial_model import write_trivial_model
from flair_bench.processes import run_measured
from flair_export.cards import GSD_M, OFFICIAL_MARGIN_PX
from flair_export.synthetic.scene import SCENE_ORIGIN_M

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

FILE_PX = 5_000
"""Columns and rows of a file: 1 km at 0.2 m, as BD ORTHO is cut."""
WIDE_FORMATS: dict[str, dict[str, Any]] = {
    "tiled 512": {},
    "JPEG 2000 1024": {"driver": "JP2OpenJPEG", "blockxsize": 1024, "blockysize": 1024},
    "strips of 2500": {"tiled": False, "blockxsize": None, "blockysize": 2500},
}
"""Creation options by name; the strips are higher than the core of any tile."""
TILES_PX = (512, 2048)
WIDE_MEMORY = "1500M"
"""What decoded pixels may take, so that a process stays below 2 GiB."""


def measure_wide(
    image_bhw: np.ndarray, folder: Path, status: Callable[[str], None]
) -> dict[str, WideRead]:
    """Return by format and geometry what runs over a row of files took. Raises RunnerError."""
    found = {}
    for name, profile in WIDE_FORMATS.items():
        files = _write_row(folder / "wide", image_bhw, profile)
        for tile_px in TILES_PX:
            title = f"{name}, {tile_px}/{OFFICIAL_MARGIN_PX}"
            status(f"wide mosaic of {title}")
            model = write_trivial_model(
                folder / f"trivial{tile_px}.onnx", len(image_bhw), tile_px=tile_px
            )
            found[title] = _run(model, files, folder)
        for file in files:
            file.unlink()
    return found


def _write_row(stem: Path, image_bhw: np.ndarray, profile: dict[str, Any]) -> list[Path]:
    """Write an image, mirrored to FILE_PX, again and again from left to right."""
    left_m, top_m = SCENE_ORIGIN_M
    files = []
    for number in range(MOSAIC_PX // FILE_PX):
        transform = from_origin(left_m + number * FILE_PX * GSD_M, top_m, GSD_M, GSD_M)
        path = stem.with_name(f"{stem.name}{number}.raster")
        files.append(write_raster(path, image_bhw, FILE_PX, transform=transform, **profile))
    return files


def _run(model: Path, files: list[Path], folder: Path) -> WideRead:
    report, output = folder / "wide.json", folder / "wide.tif"
    command = [sys.executable, "-m", "flair_engine", "--quiet", "--nodata", "none"]
    command += ["--device", "cpu", "--memory", WIDE_MEMORY, "--overwrite", "--report", str(report)]
    peak_mib = run_measured([*command, "-m", str(model), *map(str, files), str(output)]).peak_mib
    figures = json.loads(report.read_text(encoding="utf-8"))
    return WideRead(
        decode_factor=figures["decode_factor"], blocks=figures["blocks"], peak_mib=peak_mib
    )
