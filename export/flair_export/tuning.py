"""The best file for a machine: geometry by memory, precision by trial, judged on images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flair_engine.grid import Grid
from flair_engine.manifest import read_model_spec
from flair_engine.system import free_memory_bytes, has_nvidia_driver
from flair_engine.tolerances import INT8_FILE_EQUAL
from flair_export.cards import MARGIN_PX, OFFICIAL_TILE_PX, TILE_PX, export_bytes
from flair_export.errors import ExportError, ImageError, OptionError
from flair_export.proof.samples import check_images
from flair_export.publish import (
    ExportOptions,
    card_of_checkpoint,
    check_request,
    export,
    export_fp16,
    export_int8,
)
from flair_export.trial import fastest, parted, trial_tiles, tried, ways_of
from flair_export.writing import at_last

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flair_export.cards import Card
    from flair_export.trial import Hardware, Trial, Way

TILE_EDGES_PX = (OFFICIAL_TILE_PX, TILE_PX, 2048)
"""Tile edges that are chosen from, of margin MARGIN_PX."""
WORTH = 0.95
"""Share of the arithmetic that another tile has to stay below to be taken instead."""


def hardware_here() -> Hardware:
    """Return `gpu` where there is a driver of NVIDIA's, else `cpu`."""
    return "gpu" if has_nvidia_driver() else "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneOptions:
    """What to make the best of."""

    hardware: Hardware = field(default_factory=hardware_here)
    least_equal: float = INT8_FILE_EQUAL
    """Share of labels that have to be FP32's, 0..1."""
    export: ExportOptions = field(default_factory=ExportOptions)
    """Geometry and images are chosen here, whatever these say of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trials:
    """What was tried of one geometry."""

    tile_px: int
    tiles: int
    """Tiles that every way labelled."""
    trials: Sequence[Trial]
    """FP32 in ONNX Runtime first."""
    notes: Sequence[str]
    """What could not be made, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """What was tried, and what of it the file is for."""

    tried: Trials
    way: Way
    trial: Trial | None
    """What the way did here; None where nothing on this machine runs it."""


def tune(
    checkpoint: str | Path,
    images: Sequence[Path],
    output: str | Path,
    options: TuneOptions = TuneOptions(),
    status: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Write the file of a checkpoint that is fastest here and right to `output`, as images show it.

    Half of the images, or of the tiles of one, measure the ranges of INT8 and the others judge.
    Raises FlairError; nothing is at `output` then but what was there before.
    """
    path = Path(output)
    check_request(path, checkpoint, replace(options.export, verify=tuple(images)))
    card = _checked(checkpoint, images, options)
    tile_px = TILE_PX if options.hardware == "gpu" else best_tile(card, images)
    with at_last(path) as temporary, TemporaryDirectory(dir=path.parent, prefix=".tune-") as folder:
        found = try_geometry(checkpoint, images, tile_px, Path(folder), options, status)
        way, trial = _choice(found, options.hardware)
        way.model.replace(temporary)
    return Tuned(tried=found, way=replace(way, model=path), trial=trial)


def try_geometries(
    checkpoint: str | Path,
    images: Sequence[Path],
    folder: Path,
    options: TuneOptions,
    status: Callable[[str], None] = lambda _: None,
) -> Iterator[Trials]:
    """Yield what every way does here, for every tile edge that the memory that is free can export.

    Files are made in `folder`, one geometry after the other. Raises FlairError.
    """
    card = _checked(checkpoint, images, options)
    for tile_px in tiles_that_fit(card):
        yield try_geometry(checkpoint, images, tile_px, folder, options, status)


def _checked(checkpoint: str | Path, images: Sequence[Path], options: TuneOptions) -> Card:
    """Return the card of a checkpoint, once it is known that `images` and options can be used."""
    if not 0 <= options.least_equal <= 1:
        raise OptionError(
            f"{options.least_equal:.0%} of labels cannot be FP32's", "give a share of 0 to 100 %"
        )
    card = card_of_checkpoint(checkpoint, options.export)
    check_images(images, card.bands)
    return card


def tiles_that_fit(card: Card) -> list[int]:
    """Return the smallest of TILE_EDGES_PX, and those that the memory that is free can export."""
    free = free_memory_bytes()
    return [px for px in TILE_EDGES_PX if px == TILE_EDGES_PX[0] or export_bytes(card, px) <= free]


def best_tile(card: Card, images: Sequence[Path]) -> int:
    """Return the tile edge that labels `images` with the least arithmetic, of those that fit.

    TILE_PX unless another is worth it: images to try a file on are often smaller than those to map.
    """
    fitting = tiles_that_fit(card)
    best = TILE_PX if TILE_PX in fitting else fitting[-1]
    for tile_px in fitting:
        if arithmetic(images, tile_px) < WORTH * arithmetic(images, best):
            best = tile_px
    return best


def arithmetic(images: Sequence[Path], tile_px: int) -> int:
    """Return the pixels of all tiles of images, which is what their labels cost."""
    import rasterio

    tiles = 0
    for path in images:
        with rasterio.open(path) as image:
            grid = Grid(
                height=image.height, width=image.width, tile_px=tile_px, margin_px=MARGIN_PX
            )
        tiles += grid.rows * grid.cols
    return tiles * tile_px**2


def try_geometry(
    checkpoint: str | Path,
    images: Sequence[Path],
    tile_px: int,
    folder: Path,
    options: TuneOptions,
    status: Callable[[str], None],
) -> Trials:
    """Make the files of a tile edge in `folder` and try every way to run them on this machine."""
    own = replace(options.export, tile_px=tile_px, margin_px=MARGIN_PX, verify=(), calibrate=())
    full = folder / f"fp32-{tile_px}.onnx"
    export(checkpoint, full, own, status)
    other, notes = _other_file(full, images, own, options.hardware, status)
    tiles = trial_tiles(read_model_spec(full), images)
    trials = tried(ways_of(full, other, options.hardware), tiles, options.least_equal, status)
    return Trials(tile_px=tile_px, tiles=len(tiles), trials=trials, notes=notes)


def _other_file(
    full: Path,
    images: Sequence[Path],
    options: ExportOptions,
    hardware: Hardware,
    status: Callable[[str], None],
) -> tuple[Path | None, Sequence[str]]:
    """Make the FP16 file for a GPU, or the INT8 file for a CPU; None where it is refused, and why.

    It is left out where it is not what it has to be, or images are too few.
    """
    measured, judged = parted(images)
    precision = "fp16" if hardware == "gpu" else "int8"
    other = full.with_name(full.name.replace("fp32", precision))
    try:
        if hardware == "gpu":
            export_fp16(full, other, replace(options, verify=judged), status)
        else:
            export_int8(full, other, replace(options, calibrate=measured, verify=judged), status)
    except (ExportError, ImageError, OptionError) as error:
        return None, [f"no {precision} file: {error.what}"]
    return other, []


def _choice(found: Trials, hardware: Hardware) -> tuple[Way, Trial | None]:
    """Return the fastest way and its trial; for a GPU that is not here, what a GPU would run."""
    device = "cuda" if hardware == "gpu" else "cpu"
    there = [trial for trial in found.trials if trial.way.device == device]
    if trial := fastest(there):
        return trial.way, trial
    if not there or any(trial.new_mpx_per_s is not None for trial in there):
        faults = [*found.notes, *(trial.fault for trial in there)]
        raise ExportError(f"nothing for a {hardware}: {'; '.join(faults)}", "use --for cpu")
    return there[0].way, None
