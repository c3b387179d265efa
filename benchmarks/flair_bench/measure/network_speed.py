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

from flair_bench.figures import NetworkSpeed, Spread
from flair_bench.measure.engines import opened
from flair_engine.grid import Window, cut
from flair_engine.manifest import tile_grid
from flair_engine.model_file import load_model
from flair_export.graph.flops import gflop_per_tile
from flair_export.proof.reference import reference_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from flair_bench.measure.candidates import Candidate
    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec

NETWORK_S = 1.0
"""Seconds a timing lasts at least, about."""
LEAST_ROUNDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """A candidate that is open, warm and timed in turn with the others."""

    label: str
    candidate: Candidate
    backend: Backend
    batches: int
    """Of one timing."""
    s_per_tile: list[float]
    """Of each timing so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """How many tiles are on their way at once."""

    batch: int
    """Tiles per inference."""
    slots: int
    """Batches in flight."""


def network_alone(
    candidates: Sequence[Candidate],
    batchings: Sequence[Batching],
    rounds: int,
    image_bhw: np.ndarray,
    net: nn.Module | None,
    status: Callable[[str], None],
) -> tuple[NetworkSpeed, ...]:
    """Time inference of all candidates in all batchings, in turn; `net` answers what is right."""
    with ExitStack() as stack:
        contestants = []
        for candidate, batching in product(candidates, batchings):
            label = f"{candidate.name} batch {batching.batch} slots {batching.slots}"
            status(f"network alone: {label}")
            contestant = _warmed_up(label, candidate, batching, image_bhw)
            stack.callback(contestant.backend.close)
            contestants.append(contestant)
        for _, contestant in product(range(max(LEAST_ROUNDS, rounds)), contestants):
            seconds = seconds_per_tile(contestant.backend, contestant.batches)
            contestant.s_per_tile.append(seconds)
        return tuple(_speed(contestant, image_bhw, net) for contestant in contestants)


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


def _warmed_up(
    label: str, candidate: Candidate, batching: Batching, image_bhw: np.ndarray
) -> Contestant:
    options = candidate.choice.options(batch=batching.batch, slots=batching.slots)
    backend = opened(candidate.model, candidate.spec, options)
    for slot in backend.slots:
        slot.images_nchw[:] = _tiles(image_bhw, candidate.spec, batching.batch)
    warm = seconds_per_tile(backend, 2 * batching.slots)
    return Contestant(
        label=label,
        candidate=candidate,
        backend=backend,
        batches=max(2 * batching.slots, int(NETWORK_S / (warm * batching.batch))),
        s_per_tile=[],
    )


def _speed(contestant: Contestant, image_bhw: np.ndarray, net: nn.Module | None) -> NetworkSpeed:
    backend, times = contestant.backend, contestant.s_per_tile
    spec, median = backend.spec, statistics.median(times)
    agreement = None if net is None else _agreement(backend, image_bhw, net)
    return NetworkSpeed(
        label=contestant.label,
        engine=backend.description,
        precision=backend.precision,
        tile_px=spec.tile_px,
        margin_px=spec.margin_px,
        batch=backend.batch,
        slots=len(backend.slots),
        s_per_tile=median,
        s_per_tile_spread=Spread.of(times),
        new_mpx_per_s=spec.core_px**2 / 1e6 / median,
        gflops=gflop_per_tile(load_model(contestant.candidate.model)) / median,
        agreement=agreement,
        comparable=agreement is not None,
    )


def _agreement(backend: Backend, image_bhw: np.ndarray, net: nn.Module) -> float:
    """Return the share of one batch's labels that PyTorch shares."""
    spec, slot = backend.spec, backend.slots[0]
    slot.submit()
    labels = slot.wait()["labels"]
    values = np.array([entry.value for entry in spec.active_classes], np.uint8)
    logits = reference_logits(net, spec, _tiles(image_bhw, spec, backend.batch))
    return float((values[logits.argmax(dim=1).numpy()] == labels).mean())


def _tiles(image_bhw: np.ndarray, spec: ModelSpec, count: int) -> np.ndarray:
    """Return the first `count` tiles of an image, uint8 [count, bands, T, T]."""
    _, height, width = image_bhw.shape
    grid = tile_grid(spec, Window(top=0, left=0, height=height, width=width))
    numbers = (number % (grid.rows * grid.cols) for number in range(count))
    return np.stack([cut(image_bhw, grid.tile(*divmod(n, grid.cols))) for n in numbers])
