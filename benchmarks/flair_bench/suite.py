"""Everything in one go: exports, then each measurement, into one result file and its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flair_bench import results
from flair_bench.data.dataset import find_pairs
from flair_bench.data.rasters import SCENE_PX, draw_scene, read_image, write_raster
from flair_bench.errors import WrongAnswerError
from flair_bench.measure import accuracy, geometry, parity, throughput
from flair_bench.measure import raster_io as disk
from flair_bench.measure.engines import Choice, every_choice
from flair_bench.measure.network_speed import ThroughputOptions
from flair_bench.show import report
from flair_bench.yardstick.networks import reference_network
from flair_engine.manifest import read_model_spec
from flair_engine.options import RunOptions
from flair_export import ExportOptions, export

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

PARITY_IMAGES = 4
"""Patches whose tiles are compared."""
SHORT_GEOMETRIES = ((512, 128), (512, 64), (1024, 128))
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
    """Result file; the report goes beside it."""


def run(request: SuiteOptions, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Measure everything; return the HTML report. Raises WrongAnswerError after writing it."""
    faults: list[str] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = request.checkpoint or _standin(folder, progress)
        official = _export(checkpoint, folder / "official.onnx", 128, progress)
        image, truth, images = _scene(request, folder, official)

        def keep(kind: str, figures: dict[str, Any], found: list[str]) -> None:
            results.record(request.output, kind, figures)
            faults.extend(found)

        net = reference_network(checkpoint, official)
        figures = parity.measure(net, official, images, every_choice(), progress)
        keep("parity", figures, parity.faults(figures))
        if request.data:
            whole = _export(checkpoint, folder / "whole.onnx", 0, progress)
            pairs = find_pairs(request.data)
            matrix = accuracy.count_confusion(whole, pairs, RunOptions(), progress)
            keep("accuracy", accuracy.figures(matrix, read_model_spec(whole)), [])
        keep("io", disk.measure(image, 2 * SCENE_PX, request.repeats, folder, progress), [])
        place = geometry.scene(image[:, :SCENE_PX, :SCENE_PX], _corner(truth))
        figures = geometry.measure(
            checkpoint, place, Choice("ort"), geometries=SHORT_GEOMETRIES, progress=progress
        )
        keep("geometry", figures, [])
        figures = throughput.measure(
            ThroughputOptions(
                models=[official],
                checkpoint=checkpoint,
                choices=every_choice(),
                batches=[1],
                slots=[2],
                repeats=request.repeats,
                best_batch=4,
            ),
            image,
            request.size_px,
            folder,
            progress,
        )
        keep("throughput", figures, throughput.faults(figures))
    page = request.output.with_suffix(".html")
    page.write_text(report.html([results.load(request.output)]), encoding="utf-8")
    if faults:
        raise WrongAnswerError(f"{page}: {'; '.join(faults)}")
    return page


def _export(checkpoint: str, path: Path, margin_px: int, progress: Callable[[str], None]) -> Path:
    progress(f"exporting at margin {margin_px}")
    export(checkpoint, path, ExportOptions(margin_px=margin_px))
    return path


def _standin(folder: Path, progress: Callable[[str], None]) -> str:
    """Write a checkpoint fitted on a drawn scene; its labels are decided, its accuracy is not."""
    import torch

    from flair_export.synthetic.standin import build_standin

    progress("fitting a stand-in")
    path = folder / "standin_weights.pth"
    torch.save(build_standin(), path)
    return str(path)


def _scene(
    request: SuiteOptions, folder: Path, model: Path
) -> tuple[np.ndarray, np.ndarray | None, list[Path]]:
    """Return image and masks of the largest block of the data, and images for parity."""
    if request.data is None:
        image, labels = draw_scene(SCENE_PX, len(read_model_spec(model).bands))
        return image, labels, [write_raster(folder / "scene.tif", image[:, :1024, :1024], None)]
    pairs = find_pairs(request.data)
    by_folder: dict[Path, list[int]] = {}
    for number, pair in enumerate(pairs):
        by_folder.setdefault(pair.image.parent, []).append(number)
    block = max(by_folder.values(), key=len)
    image, _, _ = read_image([pairs[number].image for number in block])
    masks, _, _ = read_image([pairs[number].mask for number in block])
    return image, masks[0], [pair.image for pair in pairs[:: len(pairs) // PARITY_IMAGES or 1]]


def _corner(truth: np.ndarray | None) -> np.ndarray | None:
    return None if truth is None else truth[:SCENE_PX, :SCENE_PX]
