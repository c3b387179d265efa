"""The chapter on throughput: whole runs, the network alone, the limits of the machine."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from flair_bench.figures import BEST, OFFICIAL
from flair_bench.show.tables import Chapter, Table
from flair_bench.show.wording import (
    NONE,
    missing_notes,
    percent,
    ratio,
    run_label,
    with_precision,
    with_spread,
)

if TYPE_CHECKING:
    from flair_bench.figures import MachineLimits, Stages, ThroughputFigures


def throughput_chapter(figures: ThroughputFigures) -> Chapter:
    """Return whole runs, then the network alone, then the limits of the machine."""
    return Chapter(
        title="How fast",
        lead=(
            f"A raster of {figures.size_px} x {figures.size_px} px, whole processes, "
            f"{figures.rounds} rounds in turn. Start-up is a run over one core. `{OFFICIAL}` "
            f"works as IGN's flair-detect is published to work; `{BEST}` is PyTorch with "
            "channels_last, argmax inside, the fastest precision here, and this engine's reading."
        ),
        tables=(
            _whole_runs(figures),
            *([_network_alone(figures)] if figures.network else []),
            _limits(figures.limits),
        ),
        notes=(
            *(
                f"{name}: {_said_of_stages(run.stages)}"
                for name, run in figures.runs.items()
                if run.stages is not None
            ),
            *missing_notes(figures.missing),
        ),
    )


def _whole_runs(figures: ThroughputFigures) -> Table:
    columns = ("whole run", "wall s", "start-up s", "CPU s", "peak MiB")
    return Table(
        title="Whole processes, and how many times as long the references take",
        columns=(
            *columns,
            *(f"x {OFFICIAL}", f"x {OFFICIAL}, CPU", f"x {BEST}", f"x {BEST}, CPU"),
            "equal labels %",
        ),
        rows=tuple(
            (
                run_label(name, run),
                with_spread(run.wall_s, run.wall_s_spread, 1),
                f"{run.start_up_s:.1f}",
                f"{run.cpu_s:.1f}",
                f"{run.peak_mib:.0f}",
                *chain.from_iterable(
                    (ratio(found), NONE if found is None else f"{found.cpu:.2f}")
                    for found in (run.ratios.get(OFFICIAL), run.ratios.get(BEST))
                ),
                percent(run.agreement),
            )
            for name, run in figures.runs.items()
        ),
    )


def _network_alone(figures: ThroughputFigures) -> Table:
    peaks = figures.limits.matmul_gflops
    columns = ("network alone", "ms/tile", "spread", "new Mpx/s", "GFLOP/s", "of peak")
    return Table(
        title="The network alone, and the share of this machine's matrix products it reaches",
        columns=(*columns, "equal to FP32 %"),
        rows=tuple(
            (
                with_precision(entry.label, entry.precision),
                f"{1e3 * entry.s_per_tile:.1f}",
                " to ".join(f"{1e3 * seconds:.1f}" for seconds in entry.s_per_tile_spread),
                f"{entry.new_mpx_per_s:.3f}",
                f"{entry.gflops:.0f}",
                f"{entry.gflops / peaks[entry.precision]:.0%}"
                if entry.precision in peaks
                else NONE,
                percent(entry.agreement),
            )
            for entry in figures.network
        ),
    )


def _limits(limits: MachineLimits) -> Table:
    rates = {
        **{f"matrix products {k}, GFLOP/s": v for k, v in limits.matmul_gflops.items()},
        "copies in memory, GB/s": limits.memory_copy_gb_s,
        "decoding by GDAL, Mpx/s": limits.decode_mpx_s,
        "writing by GDAL, Mpx/s": limits.write_mpx_s,
        "copies on the device, GB/s": limits.device_copy_gb_s,
        "copies to the device, GB/s": limits.to_device_gb_s,
        "copies from the device, GB/s": limits.from_device_gb_s,
    }
    return Table(
        title=f"Limits of the machine ({limits.device}), measured in the same run",
        columns=("limit", "at most"),
        rows=tuple((name, f"{rate:.1f}") for name, rate in rates.items() if rate is not None),
    )


def _said_of_stages(stages: Stages) -> str:
    busy = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in stages.busy_s.items())
    return f"busy {busy} of {stages.wall_s:.2f} s: wall is {stages.overlap:.3f} x the busiest"
