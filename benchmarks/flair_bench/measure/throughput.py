"""Throughput: the network alone, then whole processes over a raster, beside PyTorch in one run.

Everything compared is measured in turn, round by round, so that a machine that slows down slows
all alike; figures are medians over rounds, ratios are taken within a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from flair_bench.data.rasters import write_raster
from flair_bench.figures import ModelWork, NetworkSpeed, ThroughputFigures, WholeRun
from flair_bench.measure.candidates import geometry_name, list_candidates
from flair_bench.measure.engines import BY_ITSELF, Choice, probe
from flair_bench.measure.network_speed import Batching, network_alone
from flair_bench.measure.whole_runs import (
    Rasters,
    Runner,
    engine_runner,
    reference_runners,
    run_in_turn,
    whole_run,
)
from flair_bench.yardstick.limits import higher, measure_limits
from flair_bench.yardstick.networks import reference_network
from flair_bench.yardstick.roofline import bounds
from flair_engine.manifest import read_model_spec
from flair_engine.model_file import load_model
from flair_engine.tolerances import ENGINE_EQUAL
from flair_export.graph.flops import gflop_per_tile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from flair_bench.measure.candidates import Candidate


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
    size_px: int
    """Edge of the raster of whole runs."""
    repeats: int
    best_batch: int
    """Tiles per inference of the runner `best`."""

    @property
    def batchings(self) -> list[Batching]:
        """Every batch with every number of slots."""
        return [Batching(batch=b, slots=s) for b, s in product(self.batches, self.slots)]


def measure(
    options: ThroughputOptions,
    image_bhw: np.ndarray,
    folder: Path,
    status: Callable[[str], None] = lambda _: None,
) -> ThroughputFigures:
    """Measure everything on `image_bhw` mirrored to the size; scratch files go to `folder`.

    Raises what a model, engine or process raises.
    """
    first = read_model_spec(options.models[0])
    status("writing the raster")
    rasters = Rasters(
        small=write_raster(folder / "small.tif", image_bhw, first.core_px),
        large=write_raster(folder / "large.tif", image_bhw, options.size_px),
        folder=folder,
    )
    usable, missing = probe(options.models[0], first, options.choices)
    candidates = list_candidates(usable, options.models)
    checkpoint = options.checkpoint
    net = reference_network(checkpoint, options.models[0]) if checkpoint else None
    status("limits of the machine")
    before = measure_limits(rasters.large, folder)
    named = [found for found in candidates if found.choice not in BY_ITSELF]
    network = network_alone(named, options.batchings, options.repeats, image_bhw, net, status)
    runners = _runners(options, candidates, rasters)
    run_in_turn(runners, rasters, options.repeats, status)
    status("limits of the machine, again")
    return ThroughputFigures(
        size_px=options.size_px,
        rounds=options.repeats,
        limits=higher(before, measure_limits(rasters.large, folder)),
        models=tuple(map(_work, options.models)),
        network=network,
        runs={runner.label: whole_run(runner, runners, rasters, first) for runner in runners},
        missing=missing,
    )


def faults(figures: ThroughputFigures) -> list[str]:
    """Return what was fast but wrong."""
    entries: list[tuple[str, WholeRun | NetworkSpeed]] = [
        *figures.runs.items(),
        *((entry.label, entry) for entry in figures.network),
    ]
    return [
        f"{name} agrees on {entry.agreement:.4%} of labels, at least "
        f"{ENGINE_EQUAL[entry.precision]:.2%} have to"
        for name, entry in entries
        if entry.comparable
        and entry.agreement is not None
        and entry.agreement < ENGINE_EQUAL[entry.precision]
    ]


def _runners(
    options: ThroughputOptions, candidates: Sequence[Candidate], rasters: Rasters
) -> list[Runner]:
    """Return the reference runners and the engine in every choice and model, choice by choice."""
    runners = []
    if options.checkpoint:
        spec = read_model_spec(options.models[0])
        runners += reference_runners(options.checkpoint, spec, options.best_batch, rasters)
    by_choice = sorted(candidates, key=lambda found: options.choices.index(found.choice))
    return runners + [engine_runner(found, options.batchings[0], rasters) for found in by_choice]


def _work(model: Path) -> ModelWork:
    spec, graph = read_model_spec(model), load_model(model)
    return ModelWork(
        geometry=geometry_name(spec),
        weights_sha256=spec.weights_sha256,
        gflop_per_tile=gflop_per_tile(graph),
        core_px=spec.core_px,
        bounds=bounds(graph, spec.core_px),
    )
