"""Raster input and output alone: reading, writing and memory, where no network costs anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_bench.figures import RasterIoFigures
from flair_bench.measure.memory import measure_memory
from flair_bench.measure.reading import FORMATS, measure_reading
from flair_bench.measure.wide import measure_wide
from flair_bench.measure.writing import measure_writing
from flair_engine.system import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class RasterIoOptions:
    """What to measure."""

    size_px: int
    """Edge of the rasters that are read and written."""
    repeats: int
    """Rounds after one to warm up."""


def measure(
    options: RasterIoOptions,
    image_bhw: np.ndarray,
    folder: Path,
    status: Callable[[str], None] = lambda _: None,
) -> RasterIoFigures:
    """Measure with rasters mirrored from an image; scratch files go to `folder`."""
    size_px, repeats = options.size_px, options.repeats
    reading = {}
    for name, (bands, profile) in FORMATS.items():
        status(f"reading {name}")
        reading[name] = measure_reading(image_bhw[:bands], size_px, profile, repeats, folder)
    status("writing")
    writing = measure_writing(size_px, repeats, folder)
    return RasterIoFigures(
        size_px=size_px,
        threads=available_cpus(),
        repeats=repeats,
        reading=reading,
        writing=writing,
        wide=measure_wide(image_bhw, folder, status),
        memory=measure_memory(image_bhw, folder, status),
    )
