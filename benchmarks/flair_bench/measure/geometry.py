"""Tile and margin: what they cost, and what they do to the labels.

The yardstick is the same network run over the whole raster at once: all the context there is, and
zero padding at the raster's border only. A geometry is judged by the labels equal to those, by how
much more often labels differ beside core edges than elsewhere (seams), by the masks where there
are some, and by the work per new megapixel: arithmetic counted in the graph, seconds measured.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from flair_bench.errors import ModelError
from flair_bench.figures import GeometryCost, GeometryFigures, Spread
from flair_bench.measure.engines import Choice, opened
from flair_bench.measure.network_speed import seconds_per_tile
from flair_bench.official import OFFICIAL_GEOMETRY
from flair_bench.yardstick.networks import reference_network, whole_raster_labels
from flair_engine import Model
from flair_engine.grid import TILE_STEP_PX
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_engine.model_file import load_model
from flair_export import ExportOptions, export
from flair_export.graph.flops import gflop_per_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flair_engine.inference.base import Backend

GEOMETRIES = (OFFICIAL_GEOMETRY, (512, 64), (768, 128), (1024, 128), (2048, 128), (2048, 64))
"""Tile and margin, px; the first is the official tool's."""
SEAM_PX = 8
"""Pixels this near a core edge may show a seam."""
BATCHES = 2
"""Batches per slot in one timing."""
BORDER_PX = 128
"""Pixels this near the raster's border are left out of the seams: other padding differs there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What geometries are compared on."""

    image_bhw: np.ndarray
    """uint8 [bands, H, W], H and W multiples of 32."""
    truth_hw: np.ndarray | None
    """uint8 [H, W] of values 1..19, where masks exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What one export says of the scene, and how long it takes."""

    file: Path
    labels: np.ndarray
    """uint8 [H, W]."""
    s_per_tile: Sequence[float]
    """Of each timing."""


def cut_scene(image_bhw: np.ndarray, truth_hw: np.ndarray | None) -> Scene:
    """Cut an image to what the network can be run on at once. Raises ModelError for a small one."""
    height, width = (edge // TILE_STEP_PX * TILE_STEP_PX for edge in image_bhw.shape[1:])
    if min(height, width) <= 2 * BORDER_PX:
        raise ModelError(
            f"the image is {image_bhw.shape[1]} x {image_bhw.shape[2]} px, geometries need more "
            f"than {2 * BORDER_PX} on each side",
            "give a larger raster",
        )
    inside = slice(height), slice(width)
    return Scene(
        image_bhw=image_bhw[:, inside[0], inside[1]],
        truth_hw=None if truth_hw is None else truth_hw[inside],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GeometryOptions:
    """What to compare."""

    checkpoint: str
    """What the models were made from, or are."""
    choice: Choice
    models: Sequence[Path] = ()
    """Exports; without any, `checkpoint` is exported at `geometries`."""
    geometries: Sequence[tuple[int, int]] = GEOMETRIES
    repeats: int = 3
    """Timings of each."""


def measure(
    options: GeometryOptions, scene: Scene, status: Callable[[str], None] = lambda _: None
) -> GeometryFigures:
    """Compare geometries on a scene. Raises what exporting or opening a model raises."""
    with TemporaryDirectory() as folder:
        files = list(options.models) or [
            _exported(options.checkpoint, Path(folder), *geometry, status)
            for geometry in options.geometries
        ]
        net = reference_network(options.checkpoint, files[0])
        status("the whole raster at once")
        whole = whole_raster_labels(net, read_model_spec(files[0]), scene.image_bhw)
        labels = [_labels(file, scene, options.choice, status) for file in files]
        seconds = _timings(files, options, scene, status)
        answers = [
            Answer(file=file, labels=found, s_per_tile=times)
            for file, found, times in zip(files, labels, seconds, strict=True)
        ]
        return GeometryFigures(
            engine=options.choice.label,
            height=whole.shape[0],
            width=whole.shape[1],
            seam_px=SEAM_PX,
            border_px=BORDER_PX,
            whole_oa=_accuracy(whole, scene.truth_hw),
            geometries=tuple(_cost(answer, answers[0], whole, scene) for answer in answers),
        )


def seam_mask(height: int, width: int, core_px: int) -> np.ndarray:
    """Return bool [H, W], True within SEAM_PX of an edge between two cores."""
    rows, cols = (_near_edge(np.arange(size), core_px, size) for size in (height, width))
    mask: np.ndarray = rows[:, None] | cols[None, :]
    return mask


def _near_edge(positions: np.ndarray, core_px: int, size: int) -> np.ndarray:
    edges = np.arange(core_px, size, core_px)
    if not len(edges):
        return np.zeros(size, bool)
    # The edge lies between pixels edge - 1 and edge.
    centres = np.abs(positions[:, None] + 0.5 - edges)
    near: np.ndarray = centres.min(1) < SEAM_PX
    return near


def _exported(
    checkpoint: str, folder: Path, tile_px: int, margin_px: int, status: Callable[[str], None]
) -> Path:
    path = folder / f"{tile_px}-{margin_px}.onnx"
    status(f"exporting tile {tile_px}, margin {margin_px}")
    export(checkpoint, path, ExportOptions(tile_px=tile_px, margin_px=margin_px))
    return path


def _labels(file: Path, scene: Scene, choice: Choice, status: Callable[[str], None]) -> np.ndarray:
    status(f"labelling with {file.stem}")
    with Model(file, choice.options(batch=1)) as model:
        return model.predict(scene.image_bhw)


def _timings(
    files: Sequence[Path],
    options: GeometryOptions,
    scene: Scene,
    status: Callable[[str], None],
) -> list[list[float]]:
    """Return the seconds per tile of each file, one for each repeat, the files in turn.

    With as many batches in flight as a run has: an engine may give each a core of its own.
    """
    with ExitStack() as stack:
        backends = []
        for file in files:
            backend = opened(file, read_model_spec(file), options.choice.options(batch=1))
            stack.callback(backend.close)
            _fill(backend, scene)
            seconds_per_tile(backend, len(backend.slots))
            backends.append(backend)
        rounds = []
        for number in range(options.repeats):
            status(f"timing, round {number + 1} of {options.repeats}")
            rounds.append([seconds_per_tile(b, BATCHES * len(b.slots)) for b in backends])
    return [list(times) for times in zip(*rounds, strict=True)]


def _fill(backend: Backend, scene: Scene) -> None:
    """Put a piece of the image into every slot, repeated where the tile is larger."""
    size = backend.spec.tile_px
    rows, cols = (np.arange(size) % edge for edge in scene.image_bhw.shape[1:])
    for slot in backend.slots:
        slot.images_nchw[:] = scene.image_bhw[:, rows[:, None], cols]


def _cost(answer: Answer, first: Answer, whole: np.ndarray, scene: Scene) -> GeometryCost:
    spec, labels = read_model_spec(answer.file), answer.labels
    new_mpx = spec.core_px**2 / 1e6
    gflop = gflop_per_tile(load_model(answer.file))
    seam, elsewhere = _seams(spec, labels != whole)
    times = [seconds / new_mpx for seconds in answer.s_per_tile]
    return GeometryCost(
        tile_px=spec.tile_px,
        margin_px=spec.margin_px,
        precision=spec.precision,
        equal_to_whole=float((labels == whole).mean()),
        equal_to_first=float((labels == first.labels).mean()),
        seam_different=seam,
        elsewhere_different=elsewhere,
        oa=_accuracy(labels, scene.truth_hw),
        overlap=spec.tile_px**2 / spec.core_px**2,
        gflop_per_tile=gflop,
        gflop_per_new_mpx=gflop / new_mpx,
        s_per_new_mpx=statistics.median(times),
        s_per_new_mpx_spread=Spread.of(times),
    )


def _seams(spec: ModelSpec, different: np.ndarray) -> tuple[float | None, float | None]:
    """Return the share of different labels beside core edges and elsewhere, None of no pixel."""
    inner = slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX)
    height, width = different.shape
    mask = seam_mask(height, width, spec.core_px)[inner]
    near, far = different[inner][mask], different[inner][~mask]
    return _mean(near), _mean(far)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _accuracy(labels: np.ndarray, truth_hw: np.ndarray | None) -> float | None:
    """Return the share of pixels labelled as the mask says, percent."""
    return None if truth_hw is None else float(100 * (labels == truth_hw).mean())
