"""Whole processes over a raster: the engine's command beside PyTorch's, round by round.

Start-up is a run over one core and is shown apart. Answers are compared after timing.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio

from flair_bench.figures import BEST, OFFICIAL, RunRatio, Spread, Stages, WholeRun
from flair_bench.measure.candidates import geometry_name
from flair_bench.processes import Outcome, run_measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from flair_bench.measure.candidates import Candidate
    from flair_bench.measure.network_speed import Batching
    from flair_engine.manifest import ModelSpec

REFERENCE = (sys.executable, "-m", "flair_bench.yardstick.reference")
ENGINE = (sys.executable, "-m", "flair_engine")


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """One way to make the map, and what its processes took."""

    label: str
    command: tuple[str, ...]
    """Ends before raster and output."""
    tail: tuple[str, ...] = ()
    geometry: str
    precision: str
    """Of flair-run what is expected; its report says what it was."""
    walls: list[Outcome] = field(default_factory=list)
    starts: list[Outcome] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rasters:
    """What is mapped, and the folder of maps and reports."""

    small: Path
    """One core: what starting takes."""
    large: Path
    folder: Path

    def map_of(self, runner: Runner) -> Path:
        """Return where a runner writes its map."""
        return self.folder / f"map {runner.label}.tif"

    def report_of(self, label: str) -> Path:
        """Return where flair-run writes its report."""
        return self.folder / f"{label}.json"


def reference_runners(
    checkpoint: str, spec: ModelSpec, best_batch: int, rasters: Rasters
) -> list[Runner]:
    """Return the PyTorch runners; a trial chooses the precision of `best`. Raises RunnerError."""
    geometry = ("--tile", str(spec.tile_px), "--margin", str(spec.margin_px))
    batch = ("--batch", str(best_batch))
    trial = (str(rasters.small), str(rasters.folder / "trial.tif"), *geometry, *batch)
    printed = run_measured([*REFERENCE, BEST, checkpoint, *trial]).printed
    kind = json.loads(printed)["kind"]
    return [
        Runner(
            label=OFFICIAL,
            command=(*REFERENCE, OFFICIAL, checkpoint),
            tail=geometry,
            geometry=geometry_name(spec),
            precision="fp32",
        ),
        Runner(
            label=BEST,
            command=(*REFERENCE, BEST, checkpoint),
            tail=(*geometry, *batch, "--kind", kind),
            geometry=geometry_name(spec),
            precision=kind,
        ),
    ]


def engine_runner(candidate: Candidate, batching: Batching, rasters: Rasters) -> Runner:
    """Return flair-run with the engine and model of a candidate."""
    return Runner(
        label=candidate.name,
        command=(*ENGINE, "-m", str(candidate.model)),
        tail=(
            *candidate.choice.arguments(),
            *("--batch", str(batching.batch), "--slots", str(batching.slots)),
            *("--quiet", "--overwrite", "--report", str(rasters.report_of(candidate.name))),
        ),
        geometry=geometry_name(candidate.spec),
        precision=candidate.choice.computes_in(candidate.spec),
    )


def run_in_turn(
    runners: Sequence[Runner], rasters: Rasters, rounds: int, status: Callable[[str], None]
) -> None:
    """Run every runner over both rasters, round by round. Raises RunnerError."""
    for number, runner in product(range(rounds), runners):
        status(f"{runner.label}, round {number + 1} of {rounds}")
        for raster, outcomes in ((rasters.small, runner.starts), (rasters.large, runner.walls)):
            command = [*runner.command, str(raster), str(rasters.map_of(runner)), *runner.tail]
            outcomes.append(run_measured(command))


def whole_run(
    runner: Runner, runners: Sequence[Runner], rasters: Rasters, spec: ModelSpec
) -> WholeRun:
    """Return one runner's medians, its ratios to the references, and how right its map is.

    Its map is compared with that of the first of `runners`, which has the geometry of `spec`.
    """
    walls = [outcome.wall_s for outcome in runner.walls]
    report = _report(rasters.report_of(runner.label))
    return WholeRun(
        precision=report["precision"] if report else runner.precision,
        geometry=runner.geometry,
        wall_s=statistics.median(walls),
        wall_s_spread=Spread.of(walls),
        start_up_s=statistics.median(outcome.wall_s for outcome in runner.starts),
        cpu_s=statistics.median(outcome.cpu_s for outcome in runner.walls),
        peak_mib=max(outcome.peak_mib for outcome in runner.walls),
        ratios={
            other.label: run_ratio(other, runner)
            for other in runners
            if other.label in (OFFICIAL, BEST)
        },
        agreement=agreement(_labels(rasters, runners[0]), _labels(rasters, runner), spec.core_px),
        comparable=runner.geometry == geometry_name(spec),
        stages=_stages(report) if report else None,
    )


def run_ratio(reference: Runner, runner: Runner) -> RunRatio:
    """Return how many times as long the reference takes, round by round."""
    pairs = list(zip(reference.walls, runner.walls, strict=True))
    ratios = [theirs.wall_s / ours.wall_s for theirs, ours in pairs]
    return RunRatio(
        wall=statistics.median(ratios),
        wall_spread=Spread.of(ratios),
        cpu=statistics.median(theirs.cpu_s / ours.cpu_s for theirs, ours in pairs),
    )


def agreement(expected: np.ndarray, found: np.ndarray, core_px: int) -> float | None:
    """Return the share of equal labels, None where the grids of the runners do not coincide.

    Compared are cores whose tile lies inside the raster: `official` pads the others with 0.
    """
    if any(edge % core_px or edge < 3 * core_px for edge in expected.shape):
        return None
    inside = slice(core_px, -core_px), slice(core_px, -core_px)
    return float((expected[inside] == found[inside]).mean())


def _report(path: Path) -> dict[str, Any] | None:
    """Return what flair-run wrote last, None where there is nothing."""
    if not path.exists():
        return None
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return written


def _stages(report: dict[str, Any]) -> Stages:
    return Stages(
        wall_s=report["wall_s"],
        start_up_s=report["start_up_s"],
        busy_s=report["busy_s"],
        overlap=report["wall_s"] / max(report["busy_s"].values()),
        tiles=report["tiles"],
    )


def _labels(rasters: Rasters, runner: Runner) -> np.ndarray:
    """Return a runner's map, values 1..19."""
    with rasterio.open(rasters.map_of(runner)) as dataset:
        labels: np.ndarray = dataset.read(1)
    return labels + np.uint8(1) if runner.label == OFFICIAL else labels
