"""The memory of a run: what of it decoded pixels may take, and whether all fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_engine.errors import EngineError
from flair_engine.manifest import output_bands
from flair_engine.mapping.journal import begun_with
from flair_engine.mapping.targets import journal_folder
from flair_engine.provenance import MEMORY
from flair_engine.reading.schedule import needed_bytes
from flair_engine.system import free_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job
    from flair_engine.work import Panel

SHARE = 4
"""Pixels take one part in so many of the memory that is free: a network takes more."""
MOST_MIB = 1024
"""Of that share: a run of any width stays below 1.5 GiB beside its network. More spares decoding
twice the blocks where panels meet: at 2048/128 a mosaic of 25,000 px is one panel with 1,500."""


def pixel_memory_mib(job: Job) -> int:
    """Return the MiB that decoded pixels may take: what is asked for, else a share of what is free.

    A run that is continued takes what it was begun with, since its strips are as wide as that
    allowed, unless less is asked for.
    """
    given = job.run.memory_mib
    if job.write.resume:
        begun = begun_with(journal_folder(job)).get(MEMORY)
        if type(begun) is int and 0 < begun <= (given or begun):
            return begun
    return given or max(1, min(MOST_MIB, free_memory_bytes() // SHARE // 2**20))


def check_fits(
    panels: Sequence[Panel], spec: ModelSpec, memory_mib: int, notify: Callable[[str], None]
) -> None:
    """Raise EngineError where the strips of a panel do not fit into the memory that is free.

    Tell where they take more than pixels were meant to: a panel is one core wide at least.
    """
    bands = sum(output_bands(spec).values())
    largest = max(panels, key=lambda panel: _needed_mib(panel, bands))
    needed, free = _needed_mib(largest, bands), free_memory_bytes() // 2**20
    if needed <= memory_mib:
        return
    cores = largest.cores
    what = (
        f"{len(cores.cols)} of {cores.grid.tile_px} px tiles beside each other and the blocks they "
        f"lie in take {needed:,} MiB"
    )
    if needed > free:
        raise EngineError(
            f"{what}, {free:,} are free",
            "free some memory, rewrite the images in smaller blocks (gdal_translate -co TILED=YES) "
            "or export the model with a smaller --tile",
        )
    notify(f"{what}, more than the {memory_mib:,} MiB that pixels were to take (--memory)")


def _needed_mib(panel: Panel, output_bands: int) -> int:
    cores = panel.cores
    return -(-needed_bytes(cores, panel.sheet.raster, len(cores.cols), output_bands) // 2**20)
