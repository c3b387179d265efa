"""Pictures of figures, drawn within matplotlib's rc_context(STYLE); none is written here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from flair_bench.figures import (
    BEST,
    OFFICIAL,
    AccuracyFigures,
    GeometryFigures,
    ParityFigures,
    RasterIoFigures,
    ThroughputFigures,
)
from flair_bench.show.wording import geometry_label, run_label, with_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_bench.figures import Figures, IoSpeed

INK, GRAY, ACCENT, SECOND = "#1d2733", "#aab4c0", "#0b7a75", "#d1603d"
STAGE_COLORS = ("#5b8fb9", ACCENT, "#e0a458", "#8d6a9f", "#6b7a8f")
WIDTH_IN = 8.6
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # names are no formulas
    "xtick.color": INK,
    "ytick.color": INK,
}


def pictures(figures: Figures) -> list[Figure]:
    """Return the pictures of a measurement."""
    if isinstance(figures, ThroughputFigures):
        references = any(run.ratios for run in figures.runs.values())
        drawn = [speed_up(figures)] if references else []
        drawn += [stages(figures)] if figures.own_runs else []
        return [*drawn, *([roofline(figures)] if figures.network else [])]
    if isinstance(figures, ParityFigures):
        return [agreement_map(figures)]
    if isinstance(figures, AccuracyFigures):
        return [accuracy(figures)]
    if isinstance(figures, GeometryFigures):
        return [geometry(figures)]
    if isinstance(figures, RasterIoFigures):
        return [raster_io(figures)]
    return []


def _drawn(height_in: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    return figure, figure.subplots()


def speed_up(figures: ThroughputFigures) -> Figure:
    """Bars: how many times as fast as each reference every runner is, with the spread."""
    runs = {name: run for name, run in figures.runs.items() if run.ratios}
    figure, axes = _drawn(1.1 + 0.55 * len(runs))
    positions = np.arange(len(runs))
    for shift, reference, color in ((-0.19, OFFICIAL, ACCENT), (0.19, BEST, GRAY)):
        ratios = [run.ratios[reference] for run in runs.values()]
        wall = np.array([ratio.wall for ratio in ratios])
        spread = np.array([ratio.wall_spread for ratio in ratios]).T
        errors = np.abs(spread - wall)
        axes.barh(positions + shift, wall, 0.36, color=color, label=f"against {reference}")
        axes.errorbar(wall, positions + shift, xerr=errors, fmt="none", ecolor=INK, lw=1)
        for position, value, high in zip(positions + shift, wall, spread[1], strict=True):
            axes.text(high + wall.max() * 0.015, position, f"{value:.2f}", va="center", fontsize=9)
    axes.set_yticks(positions, [run_label(name, run) for name, run in runs.items()])
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.axvline(1, color=INK, lw=0.8, ls=":")
    axes.set_xlabel("times as fast, whole process (line: least and most of the rounds)")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def stages(figures: ThroughputFigures) -> Figure:
    """Bars: how long each stage of a run was busy, against the run's wall clock."""
    runs = {name: run.stages for name, run in figures.runs.items() if run.stages is not None}
    bars = [(name, stage) for name, run in runs.items() for stage in run.busy_s]
    figure, axes = _drawn(1.1 + 0.3 * len(bars))
    kinds = list(dict.fromkeys(stage for _, stage in bars))
    for position, (name, stage) in enumerate(bars):
        busy, wall = runs[name].busy_s[stage], runs[name].wall_s
        axes.barh(position, wall, 0.7, color="#eef1f4")
        axes.barh(position, busy, 0.7, color=STAGE_COLORS[kinds.index(stage) % len(STAGE_COLORS)])
        axes.text(wall * 1.01, position, f"{busy:.2f} of {wall:.2f} s", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [f"{name}: {stage}" for name, stage in bars])
    axes.invert_yaxis()
    axes.set_xlabel("seconds busy (pale: wall clock); stages overlap")
    axes.margins(x=0.16)
    return figure


def roofline(figures: ThroughputFigures) -> Figure:
    """Arithmetic rate of the network alone against this machine's matrix-product peaks."""
    network = figures.network
    figure, axes = _drawn(1.3 + 0.36 * len(network))
    axes.barh(range(len(network)), [entry.gflops for entry in network], 0.6, color=ACCENT)
    for kind, rate in figures.limits.matmul_gflops.items():
        axes.axvline(rate, color=SECOND, lw=1.2, ls="--")
        axes.text(rate, -0.75, f"{kind} {rate:.0f}", color=SECOND, ha="center", fontsize=9)
    axes.set_yticks(
        range(len(network)),
        [with_precision(entry.label, entry.precision) for entry in network],
    )
    axes.invert_yaxis()
    axes.set_xlabel("GFLOP/s of the network alone (dashed: large matrix products here)")
    return figure


def accuracy(figures: AccuracyFigures) -> Figure:
    """Bars: IoU of each class beside the published model's on its own test set."""
    classes = figures.classes
    figure, axes = _drawn(1.0 + 0.34 * len(classes))
    positions = np.arange(len(classes))
    axes.barh(positions, [entry.iou for entry in classes], 0.62, color=ACCENT, label="this model")
    published = [(p, e.published_iou) for p, e in enumerate(classes) if e.published_iou]
    axes.plot(
        [iou for _, iou in published],
        [position for position, _ in published],
        "|", color=SECOND, markersize=13, markeredgewidth=2,
        label="card of the published model, its own test set",
    )  # fmt: skip
    axes.set_yticks(positions, [entry.name for entry in classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU, %")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.09), ncols=2)
    return figure


def geometry(figures: GeometryFigures) -> Figure:
    """Points: time per new megapixel against labels equal to the whole raster at once."""
    figure, axes = _drawn(3.6)
    for number, cost in enumerate(figures.geometries):
        low, high = cost.s_per_new_mpx_spread
        equal = 100 * cost.equal_to_whole
        axes.plot([low, high], [equal, equal], color=GRAY, lw=1.5, zorder=1)
        axes.plot(cost.s_per_new_mpx, equal, "o", color=ACCENT, markersize=8)
        axes.annotate(
            geometry_label(cost), (cost.s_per_new_mpx, equal),
            textcoords="offset points", xytext=(6, -14 if number % 2 else 7), fontsize=9,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.margins(y=0.18)
    axes.set_xlabel(f"seconds per new megapixel, {figures.engine} (line: least and most)")
    axes.set_ylabel("labels equal to the raster at once, %")
    return figure


def raster_io(figures: RasterIoFigures) -> Figure:
    """Bars: reading and writing as a share of GDAL's speed for the same blocks."""
    work: dict[str, IoSpeed] = {f"read {name}": e for name, e in figures.reading.items()}
    work["write labels"] = figures.writing
    figure, axes = _drawn(1.0 + 0.42 * len(work))
    for position, entry in enumerate(work.values()):
        ratio, (low, high) = entry.of_gdal.median, entry.of_gdal.spread
        axes.barh(position, ratio, 0.6, color=ACCENT)
        axes.plot([low, high], [position, position], color=INK, lw=1)
        note = f"{entry.mpx_per_s:.0f} Mpx/s"
        axes.text(high + 0.02, position, note, va="center", fontsize=9)
    axes.axvline(1, color=INK, lw=0.8, ls=":")
    axes.set_yticks(range(len(work)), list(work))
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.set_xlabel("speed as a multiple of GDAL alone, same blocks and threads")
    return figure


def agreement_map(figures: ParityFigures) -> Figure:
    """Image, reference, engine and difference of the tile where labels differ most."""
    found = figures.map
    image, expected, labels = (a.unpacked() for a in (found.image, found.reference, found.engine))
    palette = np.ones((256, 3))
    for value, color in found.colors.items():
        palette[int(value)] = to_rgb(color)
    different = expected != labels
    picture = np.moveaxis(image[[0, 1, 2] if len(image) >= 3 else [0, 0, 0]], 0, -1)
    panels: Sequence[tuple[str, Any]] = (
        ("image", picture),
        ("PyTorch FP32", palette[expected]),
        (found.label, palette[labels]),
        (f"different: {different.sum():,} of {different.size:,} px", np.full(picture.shape, 240)),
    )
    figure = Figure(figsize=(WIDTH_IN, 2.6), layout="constrained")
    for axes, (title, pixels) in zip(figure.subplots(1, 4), panels, strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    rows, cols = np.nonzero(different)
    axes.plot(cols, rows, "s", color=SECOND, markersize=2, markeredgewidth=0)  # one px is too small
    return figure
