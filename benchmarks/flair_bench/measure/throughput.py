"""How fast: the network alone, then whole processes over a raster, beside PyTorch in the same run.

Everything compared is measured in turn, round by round, so that a machine that slows down slows
all alike; figures are medians over rounds, ratios are taken within a round. Start-up is a run over
one core and is shown apart. Answers are checked after timing.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import rasterio

from flair_bench import processes
from flair_bench.data.rasters import write_raster
from flair_bench.measure.engines import TOLERANCE, Choice, probe
from flair_bench.measure.network_speed import (
    ThroughputOptions,
    geometry_name,
    network_alone,
    run_name,
)
from flair_bench.yardstick import limits
from flair_bench.yardstick.networks import reference_network
from flair_bench.yardstick.roofline import bounds
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_export.graph.flops import gflop_per_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from flair_bench.processes import Outcome

REFERENCES = ("official", "best")


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
    plan: ThroughputOptions,
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


def _runners(
    plan: ThroughputOptions,
    choices: Sequence[Choice],
    specs: Sequence[ModelSpec],
    small: Path,
    folder: Path,
) -> list[Runner]:
    """Return the reference runners and the engine in every choice and model."""
    runners = []
    if plan.checkpoint:
        geometry = ["--tile", str(specs[0].tile_px), "--margin", str(specs[0].margin_px)]
        module = [sys.executable, "-m", "flair_bench.yardstick.reference"]
        batch = ["--batch", str(plan.best_batch)]
        trial = [*module, "best", plan.checkpoint, str(small), str(folder / "trial.tif")]
        kind = json.loads(processes.run([*trial, *geometry, *batch]).printed)["kind"]
        official = Runner("official", [*module, "official", plan.checkpoint], geometry)
        best = Runner("best", [*module, "best", plan.checkpoint], [*geometry, *batch])
        best.tail += ["--kind", kind]
        best.precision, official.precision = kind, "fp32"
        best.tile = official.tile = geometry_name(specs[0])
        runners += [official, best]
    for choice, (model, spec) in product(choices, zip(plan.models, specs, strict=True)):
        label = run_name(choice, spec, plan)
        runners.append(
            Runner(
                label,
                [sys.executable, "-m", "flair_engine.cli", "-m", str(model)],
                [
                    *choice.arguments(),
                    *("--batch", str(plan.batches[0]), "--slots", str(plan.slots[0])),
                    *("--quiet", "--overwrite", "--report", str(folder / f"{label}.json")),
                ],
                tile=geometry_name(spec),
                precision=choice.computes_in(spec),
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
        "comparable": runner.tile == geometry_name(spec),
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
        "geometry": geometry_name(spec),
        "weights_sha256": spec.weights_sha256,
        "gflop_per_tile": gflop_per_tile(graph),
        "core_px": spec.core_px,
        "bounds": bounds(graph, spec.core_px),
    }


def _map(folder: Path, runner: Runner) -> Path:
    return folder / f"map {runner.label}.tif"
