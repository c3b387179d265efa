"""Summaries over machines: every whole run, the machines nobody measured, bounds, a headline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.figures import BEST, OFFICIAL
from flair_bench.show.recipes import RECIPES, Recipe
from flair_bench.show.tables import Table
from flair_bench.show.wording import percent, ratio, run_label, spoken
from flair_export.cards import MARGIN_PX, TILE_PX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_bench.figures import Environment, ModelWork, ThroughputFigures, WholeRun
    from flair_bench.results import Result

NOT_MEASURED = "not measured"
UNNAMED_ENGINE = "auto"
"""What the runs of flair-run without --engine are called."""
INSTALLS = {
    "cpu": "`'.[cpu]'`",
    "cpu,export": "`'.[cpu,export]'`",
    "cpu,export,dev": "`make demo`",
}
"""What makes an environment, by its extras."""


def every_run(results: Sequence[Result]) -> Table:
    """Return a row per whole run: how many times as fast as the references, and how right."""
    return Table(
        title="Whole runs",
        columns=("run", "machine", "x official tool", "x PyTorch at its best", "labels equal %"),
        rows=tuple(
            (
                run_label(name, run),
                result.machine.short,
                ratio(run.ratios.get(OFFICIAL)),
                ratio(run.ratios.get(BEST)),
                percent(run.agreement),
            )
            for result, figures in _throughput(results)
            for name, run in figures.runs.items()
        ),
    )


def machines(results: Sequence[Result]) -> Table:
    """Return a row per kind of machine: the fastest run there, or that nothing was measured."""
    return Table(
        title="Machines",
        columns=("machine", "fastest whole run", "against the official tool"),
        rows=tuple((recipe.machine, *_fastest_of(recipe, results)) for recipe in RECIPES),
    )


def computed_bounds(results: Sequence[Result]) -> tuple[str, Table] | None:
    """Return what arithmetic and memory allow on machines, measured or not, and from what graph.

    None where no throughput was measured.
    """
    works = [work for _, figures in _throughput(results) for work in figures.models]
    if not works:
        return None
    return _explained(works[0]), Table(
        title="What the graph allows in FP16",
        columns=("computed bound, not a measurement", "tiles/s", "new Mpx/s", "that machine"),
        rows=tuple(
            (
                bound.name,
                f"{bound.tiles_per_s:.0f}",
                f"{bound.new_mpx_per_s:.0f}",
                *(_state(recipe, results) for recipe in RECIPES if bound.name in recipe.peaks),
            )
            for bound in works[0].bounds
        ),
    )


def headline(results: Sequence[Result]) -> str:
    """Return a sentence or two on the machine measured last beside the official tool's way.

    They name the runs that flair-run makes without --engine of a file that flair-export makes
    without --tile, and the fastest of all.
    """
    beside_official = [
        (result.sections["throughput"].date, result.machine.short, figures)
        for result, figures in _throughput(results)
        if any(OFFICIAL in run.ratios for run in figures.own_runs.values())
    ]
    if not beside_official:
        return "Nothing has been measured beside the official tool yet."
    _, machine, figures = max(beside_official, key=lambda measured: measured[0])
    runs = figures.own_runs
    usual = [
        name
        for name, run in runs.items()
        if name.split()[0] == UNNAMED_ENGINE and run.geometry == f"{TILE_PX}-{MARGIN_PX}"
    ]
    best = min(runs, key=lambda name: runs[name].wall_s)
    said = [_times_as_fast(name, runs[name], first=not n) for n, name in enumerate(usual)]
    if best not in usual:
        said.append(f"at best {_times_as_fast(best, runs[best], first=not usual)}")
    return (
        f"On {machine}, a whole run over {figures.size_px} x {figures.size_px} px is "
        f"{', and '.join([', '.join(said[:-1]), said[-1]] if said[1:] else said)}."
    )


def installing(results: Sequence[Result]) -> str:
    """Return what installing takes, as measured last."""
    measured = [section for r in results if (section := r.sections.get("install")) is not None]
    if not measured:
        return "What an installation takes has not been measured."
    figures = max(measured, key=lambda section: section.date).figures
    said = [
        f"{command} {_taken(figures.environments[extras])}"
        for extras, command in INSTALLS.items()
        if extras in figures.environments
    ]
    cuda = any(found.cuda_mib for found in figures.environments.values())
    note = " PyTorch's CPU build leaves the CUDA libraries out." if cuda else ""
    return f"{', '.join(said)}, and {figures.demo_s:.0f} s for the demo itself.{note}"


def _taken(found: Environment) -> str:
    """Return what an environment takes: `5,783 MiB (4,133 of it CUDA libraries) in 64 s`."""
    cuda = f" ({found.cuda_mib:,.0f} of it CUDA libraries)" if found.cuda_mib else ""
    return f"{found.mib:,.0f} MiB{cuda} in {found.install_s:.0f} s"


def _times_as_fast(name: str, run: WholeRun, *, first: bool) -> str:
    """Return a ratio and the share of equal labels; the `first` says of what."""
    what, whose = (" as fast as the official way", " of the labels equal") if first else ("", "")
    equal = "" if run.agreement is None else f" ({percent(run.agreement)} %{whose})"
    return f"{run.ratios[OFFICIAL].wall:.1f} times{what} with {spoken(name, run)}{equal}"


def _throughput(results: Sequence[Result]) -> list[tuple[Result, ThroughputFigures]]:
    found = [(result, result.sections.get("throughput")) for result in results]
    return [(result, section.figures) for result, section in found if section is not None]


def _fastest_of(recipe: Recipe, results: Sequence[Result]) -> tuple[str, str]:
    """Return the fastest run on the first machine of a kind, and its ratio."""
    measured = [figures for r, figures in _throughput(results) if recipe.fits(r.machine)]
    if not measured or not measured[0].own_runs:
        return NOT_MEASURED, NOT_MEASURED
    figures, runs = measured[0], measured[0].own_runs
    name = min(runs, key=lambda name: runs[name].wall_s)
    rate = figures.size_px**2 / 1e6 / runs[name].wall_s
    return f"{name}: {rate:.3g} Mpx/s", ratio(runs[name].ratios.get(OFFICIAL))


def _explained(work: ModelWork) -> str:
    return (
        f"Computed from the exported graph ({work.geometry}, {work.gflop_per_tile:.1f} GFLOP per "
        "tile) and published peaks: each layer takes the longer of its arithmetic and its memory "
        "traffic. No engine reaches it."
    )


def _state(recipe: Recipe, results: Sequence[Result]) -> str:
    measured = recipe.fits_any(result.machine for result in results)
    return "measured, see above" if measured else NOT_MEASURED
