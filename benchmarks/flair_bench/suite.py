"""The suite: exports, then each measurement, into one result file and its page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from flair_bench import results
from flair_bench.data.dataset import Pair, find_pairs
from flair_bench.data.rasters import SCENE_PX, draw_scene, read_image, write_raster
from flair_bench.errors import WrongAnswerError
from flair_bench.measure import accuracy, geometry, parity, raster_io, throughput
from flair_bench.measure.engines import Choice, every_choice
from flair_bench.measure.geometry import GeometryOptions, cut_scene
from flair_bench.measure.raster_io import RasterIoOptions
from flair_bench.measure.throughput import ThroughputOptions
from flair_bench.official import OFFICIAL_BATCH, OFFICIAL_GEOMETRY
from flair_bench.show import page
from flair_bench.yardstick.networks import reference_network
from flair_engine.manifest import read_model_spec
from flair_engine.options import RunOptions
from flair_export import ExportOptions, export
from flair_export.cards import OFFICIAL_MARGIN_PX, OFFICIAL_TILE_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from flair_bench.figures import Figures

PARITY_IMAGES = 4
"""Patches whose tiles are compared."""
PARITY_PX = 1024
"""Edge of what is compared of a drawn scene."""
SHORT_GEOMETRIES = (OFFICIAL_GEOMETRY, (512, 64), (1024, 128))
"""What a few minutes on two cores allow; `flair-bench geometry` takes all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteOptions:
    """What the suite is asked for."""

    checkpoint: str | None
    """None for a stand-in fitted on a drawn scene."""
    data: Path | None
    """FLAIR patches; None for a drawn scene, and no accuracy."""
    size_px: int
    """Edge of the raster of whole runs."""
    repeats: int
    output: Path
    """Result file; the page goes beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What is measured on."""

    image_bhw: np.ndarray
    """uint8 [bands, H, W] of one block, or of a drawn scene."""
    truth_hw: np.ndarray
    """Its labels, uint8 [H, W]."""
    images: Sequence[Path]
    """Rasters for parity."""
    pairs: Sequence[Pair]
    """Patches for accuracy; none of a drawn scene."""


def run_suite(request: SuiteOptions, status: Callable[[str], None] = lambda _: None) -> Path:
    """Measure everything; return the HTML page. Raises WrongAnswerError after writing it.

    Before anything is measured raises what `results.check_place` and `page.check_page` do.
    """
    path = request.output.with_suffix(".html")
    inputs = [Path(name) for name in (request.checkpoint, request.data) if name]
    results.check_place(request.output, inputs)
    page.check_page(path, [*inputs, request.output])
    faults: list[str] = []

    def keep(figures: Figures, found: Sequence[str] = ()) -> None:
        results.record(request.output, figures)
        faults.extend(found)

    with TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = request.checkpoint or _standin(folder, status)
        official = _export(checkpoint, folder / "official.onnx", OFFICIAL_MARGIN_PX, status)
        material = _material(request.data, folder, official)
        net = reference_network(checkpoint, official)
        same = parity.measure(net, official, material.images, every_choice(), status)
        keep(same, parity.faults(same))
        if material.pairs:
            whole = _export(checkpoint, folder / "whole.onnx", 0, status)
            spec = accuracy.scorable(whole)
            matrix = accuracy.count_confusion(whole, spec, material.pairs, RunOptions(), status)
            keep(accuracy.score(matrix, spec))
        io = RasterIoOptions(size_px=2 * SCENE_PX, repeats=request.repeats)
        keep(raster_io.measure(io, material.image_bhw, folder, status))
        scene = cut_scene(
            material.image_bhw[:, :SCENE_PX, :SCENE_PX], material.truth_hw[:SCENE_PX, :SCENE_PX]
        )
        keep(geometry.measure(_geometries(checkpoint), scene, status))
        fast = throughput.measure(
            _throughput(request, checkpoint, official), material.image_bhw, folder, status
        )
        keep(fast, throughput.faults(fast))
    path.write_text(page.html([results.load(request.output)]), encoding="utf-8")
    if faults:
        raise WrongAnswerError(f"{path}: {'; '.join(faults)}", "look at the page")
    return path


def _geometries(checkpoint: str) -> GeometryOptions:
    return GeometryOptions(checkpoint=checkpoint, choice=Choice("ort"), geometries=SHORT_GEOMETRIES)


def _throughput(request: SuiteOptions, checkpoint: str, model: Path) -> ThroughputOptions:
    return ThroughputOptions(
        models=[model],
        checkpoint=checkpoint,
        choices=every_choice(),
        batches=[1],
        slots=[2],
        size_px=request.size_px,
        repeats=request.repeats,
        best_batch=OFFICIAL_BATCH,
    )


def _export(checkpoint: str, path: Path, margin_px: int, status: Callable[[str], None]) -> Path:
    status(f"exporting at margin {margin_px}")
    export(checkpoint, path, ExportOptions(tile_px=OFFICIAL_TILE_PX, margin_px=margin_px))
    return path


def _standin(folder: Path, status: Callable[[str], None]) -> str:
    """Write a checkpoint fitted on a drawn scene; its labels are decided, its accuracy is not."""
    import torch

    from flair_export.synthetic.standin import build_standin

    status("fitting a stand-in")
    path = folder / "standin_weights.pth"
    torch.save(build_standin(), path)
    return str(path)


def _material(data: Path | None, folder: Path, model: Path) -> Material:
    """Return the largest block of the data and some of its images, or a drawn scene."""
    if data is None:
        image, labels = draw_scene(SCENE_PX, len(read_model_spec(model).bands))
        part = write_raster(folder / "scene.tif", image[:, :PARITY_PX, :PARITY_PX], None)
        return Material(image_bhw=image, truth_hw=labels, images=[part], pairs=[])
    pairs = find_pairs(data)
    by_folder: dict[Path, list[Pair]] = {}
    for pair in pairs:
        by_folder.setdefault(pair.image.parent, []).append(pair)
    block = max(by_folder.values(), key=len)
    return Material(
        image_bhw=read_image([pair.image for pair in block]),
        truth_hw=read_image([pair.mask for pair in block])[0],
        images=[pair.image for pair in pairs[:: len(pairs) // PARITY_IMAGES or 1]],
        pairs=pairs,
    )
