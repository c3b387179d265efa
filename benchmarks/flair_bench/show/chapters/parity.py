"""The chapter on parity: what engines agree on, by class and by how nearly classes tie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flair_bench.show.tables import Chapter, Table
from flair_bench.show.wording import NONE, missing_notes, percent

if TYPE_CHECKING:
    from flair_bench.figures import ParityFigures

FLIPS_SAID = 3
"""Pairs of classes named for each engine."""


def parity_chapter(figures: ParityFigures) -> Chapter:
    """Return what engines agree on, by class and by how nearly classes tie."""
    return Chapter(
        title="The same labels",
        lead=(
            f"{figures.model} against PyTorch FP32 on {figures.pixels:,} px, {figures.tiles}. "
            "A lead is the largest logit minus the next; the lean is the share of the labels that "
            "differ that are the lower class, a half where rounding moves them either way."
        ),
        tables=(_engines(figures), _parity_by_class(figures), _flips_by_lead(figures)),
        notes=(
            (
                f"logits (ONNX Runtime, twin of the file): largest difference "
                f"{figures.logit_largest:.3g}, 99.9th percentile {figures.logit_p999:.3g}"
            ),
            *missing_notes(figures.missing),
        ),
    )


def _engines(figures: ParityFigures) -> Table:
    columns = ("engine", "precision", "equal %", "tolerance %", "different px", "lean %")
    return Table(
        title="Labels of each engine",
        columns=(*columns, "largest lead lost", "most often"),
        rows=tuple(
            (
                name,
                entry.precision,
                percent(entry.agreement),
                f"{100 * entry.tolerance:.2f}",
                f"{entry.different:,}",
                NONE if entry.lean is None else f"{100 * entry.lean:.0f}",
                f"{entry.largest_lead_lost:.3g}",
                ", ".join(f"{a} to {b} {count}" for a, b, count in entry.flips[:FLIPS_SAID])
                or NONE,
            )
            for name, entry in figures.engines.items()
        ),
    )


def _parity_by_class(figures: ParityFigures) -> Table:
    engines = figures.engines.values()
    rows = []
    for name, counted in next(iter(engines)).classes.items():
        found = [entry.classes[name] for entry in engines]
        shares = (percent(1 - e.different / e.pixels) if e.pixels else NONE for e in found)
        rows.append((name, f"{counted.pixels:,}", *shares))
    return Table(
        title="Labels equal to PyTorch FP32, %, by class",
        columns=("class", "px", *figures.engines),
        rows=tuple(rows),
    )


def _flips_by_lead(figures: ParityFigures) -> Table:
    edges = ["0", *(f"{edge:g}" for edge in figures.lead_edges), "inf"]
    return Table(
        title="Pixels that flip, by lead",
        columns=("lead", "px", *figures.engines),
        rows=tuple(
            (
                f"{edges[n]} to {edges[n + 1]}",
                f"{pixels:,}",
                *(str(entry.flipped_by_lead[n]) for entry in figures.engines.values()),
            )
            for n, pixels in enumerate(figures.leads)
        ),
    )
