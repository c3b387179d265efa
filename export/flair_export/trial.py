"""Exported files tried on this machine: how fast each engine is, and how many labels are FP32's."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from flair_engine.agreement import LabelDifference, difference_of
from flair_engine.errors import EngineError
from flair_engine.inference.choose import load
from flair_engine.inference.fp32_check import COMPARED_PIXELS
from flair_engine.inference.stream import stream
from flair_engine.manifest import read_model_spec
from flair_engine.options import RunOptions
from flair_export.errors import ImageError
from flair_export.proof.samples import calibration, evenly, image_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import EngineName, Precision
    from flair_export.proof.samples import Source, Tile

Hardware = Literal["cpu", "gpu"]
TRIAL_PIXELS = 2**24
"""Pixels that every way labels, in whole tiles: 64 of 512 px, 16 of 1024 px, 4 of 2048 px."""
S_PER_H = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """A file and the engine that runs it."""

    model: Path
    spec: ModelSpec
    engine: EngineName
    precision: Precision | None = None
    """What OpenVINO computes in beside INT8; None for engines that follow the file."""
    device: str

    @property
    def name(self) -> str:
        """The file's precision, and the engine's own where it has one: `int8, openvino bf16`."""
        engine = f"{self.engine} {self.precision}" if self.precision else self.engine
        return f"{self.spec.precision}, {engine}"

    @property
    def arguments(self) -> str:
        """What flair-run has to be told to run it so."""
        return f"--engine {self.engine}" + (f" --precision {self.precision}" * bool(self.precision))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a way did here."""

    way: Way
    new_mpx_per_s: float | None = None
    """Megapixels labelled each second by the network alone, without margins; None where it does not
    run on this machine."""
    difference: LabelDifference = field(default_factory=LabelDifference)
    """Beside the FP32 file in ONNX Runtime; of no pixels where it was not run."""
    fault: str = ""
    """Why it is not to be taken; empty where nothing speaks against it."""

    @property
    def km2_per_h(self) -> float | None:
        """Ground labelled each hour, km²."""
        if self.new_mpx_per_s is None:
            return None
        return self.new_mpx_per_s * self.way.spec.gsd_m**2 * S_PER_H


def ways_of(full: Path, other: Path | None, hardware: Hardware) -> list[Way]:
    """Return every way to run the FP32 file and the one for a hardware, where there is one.

    The first is FP32 in ONNX Runtime on the CPU, which all are compared with.
    """
    cpu: list[tuple[EngineName, Precision | None]] = [("ort", None)]
    cpu += [("openvino", "fp32"), ("openvino", "bf16")] if hardware == "cpu" else []
    gpu: list[tuple[EngineName, Precision | None]] = [("trt", None), ("ort", None)]
    found = [_way(full, "cpu", *kind) for kind in cpu]
    if other is not None and hardware == "cpu":
        found += [_way(other, "cpu", *kind) for kind in cpu]
    elif other is not None:
        found += [_way(other, "cuda", *kind) for kind in gpu]
    return found


def _way(model: Path, device: str, engine: EngineName, precision: Precision | None) -> Way:
    spec = read_model_spec(model)
    return Way(model=model, spec=spec, device=device, engine=engine, precision=precision)


def trial_tiles(spec: ModelSpec, images: Sequence[Path]) -> list[Tile]:
    """Return at most TRIAL_PIXELS of what `parted` keeps for judging, without void tiles.

    Raises ImageError where there is no tile that shows anything.
    """
    source = _judging(spec, images)
    chosen = set(evenly(source.count, max(1, TRIAL_PIXELS // spec.tile_px**2)))
    tiles = [tile for number, tile in enumerate(source.tiles) if number in chosen]
    if shown := [tile for tile in tiles if tile.image.any()]:
        return shown
    raise ImageError(f"{images[0]}: every tile that was looked at is 0", "give other images")


def _judging(spec: ModelSpec, images: Sequence[Path]) -> Source:
    """Return tiles that no range was measured on."""
    _, judged = parted(images)
    if judged:
        return image_source(spec, judged)
    try:
        return calibration(spec, images)[1]
    except ImageError:  # one tile, on which nothing could be measured
        return image_source(spec, images)


def parted(images: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Return the images to measure ranges on, and those to judge by.

    Of one image some tiles are measured and others judge, which `calibration` sees to.
    """
    return tuple(images[::2]), tuple(images[1::2])


def tried(
    ways: Sequence[Way],
    tiles: Sequence[Tile],
    least_equal: float,
    status: Callable[[str], None],
) -> list[Trial]:
    """Label `tiles` in every way; the labels of the first are what the others are compared with.

    Raises EngineError where the first does not run.
    """
    found: list[Trial] = []
    expected: Sequence[np.ndarray] | None = None
    for way in ways:
        status(f"trying {way.name} on {len(tiles)} tiles")
        try:
            rate, labels = _labelled(way, tiles)
        except EngineError as error:
            if expected is None:
                raise
            found.append(Trial(way=way, fault=error.what))
            continue
        expected = expected or labels
        difference = _difference(expected, labels)
        fault = _fault(difference, least_equal)
        found.append(Trial(way=way, new_mpx_per_s=rate, difference=difference, fault=fault))
    return found


def fastest(trials: Sequence[Trial]) -> Trial | None:
    """Return the fastest trial that nothing speaks against; None where none was run."""
    ran = [trial for trial in trials if trial.new_mpx_per_s is not None and not trial.fault]
    return max(ran, key=lambda trial: trial.new_mpx_per_s or 0.0, default=None)


def _labelled(way: Way, tiles: Sequence[Tile]) -> tuple[float, list[np.ndarray]]:
    """Return the new megapixels per second, and the labels that lie inside the raster."""
    options = RunOptions(engine=way.engine, precision=way.precision, device=way.device)
    with closing(load(way.model, way.spec, options)) as backend:
        # bf16 compares its first labels with FP32: that is not timed.
        warm = max(len(backend.slots) * backend.batch, -(-COMPARED_PIXELS // way.spec.core_px**2))
        again = (tiles[number % len(tiles)].image for number in range(warm))
        for _ in stream(enumerate(again), backend.slots):
            pass
        numbered = enumerate(tile.image for tile in tiles)
        began = time.perf_counter()
        labels = [
            outputs["labels"][tiles[number].inside].copy()
            for number, outputs in stream(numbered, backend.slots)
        ]
        wall_s = time.perf_counter() - began
    batches = -(-len(tiles) // backend.batch)
    return batches * backend.batch * way.spec.core_px**2 / 1e6 / wall_s, labels


def _difference(expected: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> LabelDifference:
    pairs = zip(expected, labels, strict=True)
    return sum((difference_of(one, other) for one, other in pairs), LabelDifference())


def _fault(difference: LabelDifference, least_equal: float) -> str:
    if difference.share < least_equal:
        return f"fewer than {least_equal:.2%} of labels are FP32's"
    return difference.fault
