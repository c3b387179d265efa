"""Inference without reading and writing: how long one tile takes, and how near the peak that is."""

from __future__ import annotations

import statistics
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from flair_bench.measure.engines import Choice, opened
from flair_engine.grid import Grid, cut
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_export.graph.flops import gflop_per_tile
from flair_export.proof.verify import reference_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from flair_engine.inference.base import Backend

NETWORK_S = 1.0
"""Seconds a timing lasts at least, about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThroughputOptions:
    """What to measure."""

    models: Sequence[Path]
    """The first is the one whose geometry the reference runners take."""
    checkpoint: str | None
    """What the models were made from; None leaves the reference runners out."""
    choices: Sequence[Choice]
    batches: Sequence[int]
    """Tiles per inference, of the network alone; the first is also the pipeline's."""
    slots: Sequence[int]
    """Batches in flight, likewise."""
    repeats: int
    best_batch: int
    """Tiles per inference of the runner `best`."""


def network_alone(
    plan: ThroughputOptions,
    choices: Sequence[Choice],
    image_bhw: np.ndarray,
    net: nn.Module | None,
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Time inference without reading and writing for all combinations, in turn."""
    with ExitStack() as stack:
        entries = []
        for model, choice, batch, slots in product(plan.models, choices, plan.batches, plan.slots):
            spec = read_model_spec(model)
            label = f"{run_name(choice, spec, plan)} batch {batch} slots {slots}"
            progress(f"network alone: {label}")
            backend = opened(model, spec, choice.options(batch=batch, slots=slots))
            stack.callback(backend.close)
            for slot in backend.slots:
                slot.images_nchw[:] = _tiles(image_bhw, spec, batch)
            warm = seconds_per_tile(backend, 2 * slots)
            rounds = max(2 * slots, int(NETWORK_S / (warm * batch)))
            entries.append((label, choice, model, backend, rounds, list[float]()))
        for _, entry in product(range(max(3, plan.repeats)), entries):
            entry[5].append(seconds_per_tile(entry[3], entry[4]))
        return [
            _network_figures(label, model, backend, times, image_bhw, net)
            for label, _, model, backend, _, times in entries
        ]


def seconds_per_tile(backend: Backend, batches: int) -> float:
    """Run `batches` full batches through the slots; return seconds per tile."""
    idle, busy = deque(backend.slots), deque[Any]()
    start = time.perf_counter()
    for _ in range(batches):
        if not idle:
            done = busy.popleft()
            done.wait()
            idle.append(done)
        slot = idle.popleft()
        slot.submit()
        busy.append(slot)
    for slot in busy:
        slot.wait()
    return (time.perf_counter() - start) / (batches * backend.batch)


def _network_figures(
    label: str,
    model: Path,
    backend: Backend,
    times: list[float],
    image_bhw: np.ndarray,
    net: nn.Module | None,
) -> dict[str, Any]:
    spec, median = backend.spec, statistics.median(times)
    gflop = gflop_per_tile(onnx.load(model))
    slot = backend.slots[0]
    slot.submit()
    labels = slot.wait()["labels"]
    agreement = None
    if net is not None:
        values = np.array([entry.value for entry in spec.active_classes], np.uint8)
        logits = reference_logits(net, spec, _tiles(image_bhw, spec, backend.batch))
        agreement = float((values[logits.argmax(dim=1).numpy()] == labels).mean())
    return {
        "label": label,
        "engine": backend.description,
        "precision": backend.precision,
        "tile_px": spec.tile_px,
        "margin_px": spec.margin_px,
        "batch": backend.batch,
        "slots": len(backend.slots),
        "s_per_tile": median,
        "s_per_tile_spread": [min(times), max(times)],
        "new_mpx_per_s": spec.core_px**2 / 1e6 / median,
        "gflops": gflop / median,
        "agreement": agreement,
        "comparable": agreement is not None,
    }


def _tiles(image_bhw: np.ndarray, spec: ModelSpec, count: int) -> np.ndarray:
    """Return the first `count` tiles of an image, uint8 [count, bands, T, T]."""
    _, height, width = image_bhw.shape
    grid = Grid(height=height, width=width, tile_px=spec.tile_px, margin_px=spec.margin_px)
    numbers = (number % (grid.rows * grid.cols) for number in range(count))
    return np.stack([cut(image_bhw, grid.tile(*divmod(n, grid.cols))) for n in numbers])


def run_name(choice: Choice, spec: ModelSpec, plan: ThroughputOptions) -> str:
    """Return what results call an engine; of several models the geometry, and INT8, too."""
    if len(plan.models) == 1:
        return choice.label
    integers = " int8" if spec.precision == "int8" else ""
    return f"{choice.label}{integers} {geometry_name(spec)}"


def geometry_name(spec: ModelSpec) -> str:
    """Return tile and margin: `512-128`."""
    return f"{spec.tile_px}-{spec.margin_px}"
