"""How fast: the network alone, then whole processes over a raster, beside PyTorch in the same run.

Everything compared is measured in turn, round by round, so that a machine that slows down slows
all alike; figures are medians over rounds, ratios are taken within a round. Start-up is a run over
one core and is shown apart. Answers are checked after timing.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import rasterio

from flair_bench import limits, processes
from flair_bench.engines import TOLERANCE, Choice, opened, probe
from flair_bench.networks import reference_network
from flair_bench.rasters import write_raster
from flair_bench.roofline import bounds
from flair_engine.grid import Grid, cut
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_export.flops import gflop_per_tile
from flair_export.verify import reference_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import nn

    from flair_bench.processes import Outcome
    from flair_engine.backends import Backend

NETWORK_S = 1.0
"""Seconds a timing of the network alone lasts at least, about."""
REFERENCES = ("official", "best")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
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


@dataclass(slots=True)
class Runner:
    """One way to make the map, and what its processes took."""

    label: str
    command: list[str]
    """Ends before raster and output."""
    tail: list[str] = field(default_factory=list)
    tile: str = ""
    precision: str = ""
    walls: list[Outcome] = field(default_factory=list)
    starts: list[Outcome] = field(default_factory=list)


def measure(
    plan: Plan,
    image_bhw: np.ndarray,
    size_px: int,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure everything on `image_bhw` mirrored to `size_px`; scratch files go to `folder`.

    Raises what a model, engine or process raises.
    """
    specs = [read_model_spec(model) for model in plan.models]
    progress("writing the raster")
    large = write_raster(folder / "large.tif", image_bhw, size_px)
    small = write_raster(folder / "small.tif", image_bhw, specs[0].core_px)
    usable, missing = probe(plan.models[0], specs[0], plan.choices)
    net = reference_network(plan.checkpoint, plan.models[0]) if plan.checkpoint else None
    progress("limits of the machine")
    before = limits.measure(large, folder)
    network = network_alone(plan, usable, image_bhw, net, progress)
    runners = _runners(plan, usable, specs, small, folder)
    for number, runner in product(range(plan.repeats), runners):
        progress(f"{runner.label}, round {number + 1} of {plan.repeats}")
        for raster, outcomes in ((small, runner.starts), (large, runner.walls)):
            command = [*runner.command, str(raster), str(_map(folder, runner)), *runner.tail]
            outcomes.append(processes.run(command))
    progress("limits of the machine, again")
    return {
        "size_px": size_px,
        "rounds": plan.repeats,
        "limits": limits.higher(before, limits.measure(large, folder)),
        "models": [_model(path, spec) for path, spec in zip(plan.models, specs, strict=True)],
        "network": network,
        "runs": {runner.label: _figures(runner, runners, folder, specs[0]) for runner in runners},
        "missing": missing,
    }


def faults(figures: dict[str, Any]) -> list[str]:
    """Return what was fast but wrong."""
    {entry["label"]: entry for entry in figures["network"]}
    return [
        f"{name} agrees on {entry['agreement']:.4%} of labels, at least "
        f"{TOLERANCE[entry['precision']]:.2%} have to"
        for name, entry in (
            *figures["runs"].items(),
            *((e["label"], e) for e in figures["network"]),
        )
        if entry["comparable"]
        and entry["agreement"] is not None
        and entry["agreement"] < TOLERANCE[entry["precision"]]
    ]


def network_alone(
    plan: Plan,
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
            label = f"{_name(choice, spec, plan)} batch {batch} slots {slots}"
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


def _runners(
    plan: Plan, choices: Sequence[Choice], specs: Sequence[ModelSpec], small: Path, folder: Path
) -> list[Runner]:
    """Return the reference runners and the engine in every choice and model."""
    runners = []
    if plan.checkpoint:
        geometry = ["--tile", str(specs[0].tile_px), "--margin", str(specs[0].margin_px)]
        module = [sys.executable, "-m", "flair_bench.reference"]
        batch = ["--batch", str(plan.best_batch)]
        trial = [*module, "best", plan.checkpoint, str(small), str(folder / "trial.tif")]
        kind = json.loads(processes.run([*trial, *geometry, *batch]).printed)["kind"]
        official = Runner("official", [*module, "official", plan.checkpoint], geometry)
        best = Runner("best", [*module, "best", plan.checkpoint], [*geometry, *batch])
        best.tail += ["--kind", kind]
        best.precision, official.precision = kind, "fp32"
        best.tile = official.tile = _geometry(specs[0])
        runners += [official, best]
    for choice, (model, spec) in product(choices, zip(plan.models, specs, strict=True)):
        label = _name(choice, spec, plan)
        runners.append(
            Runner(
                label,
                [sys.executable, "-m", "flair_engine.cli", "-m", str(model)],
                [
                    *choice.arguments(),
                    *("--batch", str(plan.batches[0]), "--slots", str(plan.slots[0])),
                    *("--quiet", "--overwrite", "--report", str(folder / f"{label}.json")),
                ],
                tile=_geometry(spec),
                precision=choice.precision or spec.precision,
            )
        )
    return runners


def _figures(
    runner: Runner, runners: Sequence[Runner], folder: Path, spec: ModelSpec
) -> dict[str, Any]:
    """Return one runner's medians, its ratios to the references, and how right its map is."""
    walls = [outcome.wall_s for outcome in runner.walls]
    figures: dict[str, Any] = {
        "precision": runner.precision,
        "geometry": runner.tile,
        "wall_s": statistics.median(walls),
        "wall_s_spread": [min(walls), max(walls)],
        "start_up_s": statistics.median(outcome.wall_s for outcome in runner.starts),
        "cpu_s": statistics.median(outcome.cpu_s for outcome in runner.walls),
        "peak_mib": max(outcome.peak_mib for outcome in runner.walls),
        "ratios": {
            other.label: _ratio(other, runner) for other in runners if other.label in REFERENCES
        },
        "agreement": _agreement(_labels(folder, runners[0]), _labels(folder, runner), spec),
        "comparable": runner.tile == _geometry(spec),
    }
    report = folder / f"{runner.label}.json"
    if report.exists():
        said = json.loads(report.read_text(encoding="utf-8"))
        busiest = max(said["busy_s"].values())
        figures["stages"] = {
            "wall_s": said["wall_s"],
            "start_up_s": said["start_up_s"],
            "busy_s": said["busy_s"],
            "overlap": said["wall_s"] / busiest,
            "tiles": said["tiles"],
        }
    return figures


def _ratio(reference: Runner, runner: Runner) -> dict[str, Any]:
    """Return how many times as long the reference takes, round by round."""
    pairs = list(zip(reference.walls, runner.walls, strict=True))
    ratios = [theirs.wall_s / ours.wall_s for theirs, ours in pairs]
    return {
        "wall": statistics.median(ratios),
        "wall_spread": [min(ratios), max(ratios)],
        "cpu": statistics.median(theirs.cpu_s / ours.cpu_s for theirs, ours in pairs),
    }


def _labels(folder: Path, runner: Runner) -> np.ndarray:
    """Return a runner's map, values 1..19."""
    with rasterio.open(_map(folder, runner)) as dataset:
        labels: np.ndarray = dataset.read(1)
    return labels + np.uint8(1) if runner.label == "official" else labels


def _agreement(expected: np.ndarray, found: np.ndarray, spec: ModelSpec) -> float | None:
    """Return the share of equal labels, None where the grids of the runners do not coincide.

    Compared are cores whose tile lies inside the raster: `official` pads the others with 0.
    """
    core = spec.core_px
    if any(edge % core or edge < 3 * core for edge in expected.shape):
        return None
    inside = slice(core, -core), slice(core, -core)
    return float((expected[inside] == found[inside]).mean())


def _model(path: Path, spec: ModelSpec) -> dict[str, Any]:
    graph = onnx.load(path)
    return {
        "geometry": _geometry(spec),
        "weights_sha256": spec.weights_sha256,
        "gflop_per_tile": gflop_per_tile(graph),
        "core_px": spec.core_px,
        "bounds": bounds(graph, spec.core_px),
    }


def _tiles(image_bhw: np.ndarray, spec: ModelSpec, count: int) -> np.ndarray:
    """Return the first `count` tiles of an image, uint8 [count, bands, T, T]."""
    _, height, width = image_bhw.shape
    grid = Grid(height=height, width=width, tile_px=spec.tile_px, margin_px=spec.margin_px)
    numbers = (number % (grid.rows * grid.cols) for number in range(count))
    return np.stack([cut(image_bhw, grid.tile(*divmod(n, grid.cols))) for n in numbers])


def _name(choice: Choice, spec: ModelSpec, plan: Plan) -> str:
    own = "" if len(plan.models) == 1 else f" {_geometry(spec)}"
    return f"{choice.label}{own}"


def _geometry(spec: ModelSpec) -> str:
    return f"{spec.tile_px}-{spec.margin_px}"


def _map(folder: Path, runner: Runner) -> Path:
    return folder / f"map {runner.label}.tif"
