"""The order of chapters, and who writes each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flair_bench.figures import (
    AccuracyFigures,
    GeometryFigures,
    InstallFigures,
    ParityFigures,
    ThroughputFigures,
)
from flair_bench.show.chapters.accuracy import accuracy_chapter
from flair_bench.show.chapters.geometry import geometry_chapter
from flair_bench.show.chapters.install import install_chapter
from flair_bench.show.chapters.parity import parity_chapter
from flair_bench.show.chapters.raster_io import raster_io_chapter
from flair_bench.show.chapters.throughput import throughput_chapter

if TYPE_CHECKING:
    from flair_bench.figures import Figures
    from flair_bench.results import Result, Section
    from flair_bench.show.tables import Chapter


def chapters(result: Result) -> list[tuple[Section[Any], Chapter]]:
    """Return the chapters of a machine's measurements, how fast it is first."""
    found = result.sections
    sections: list[Section[Any] | None] = [
        found.get("throughput"),
        found.get("parity"),
        found.get("accuracy"),
        found.get("geometry"),
        found.get("io"),
        found.get("install"),
    ]
    return [(section, chapter(section.figures)) for section in sections if section is not None]


def chapter(figures: Figures) -> Chapter:
    """Return what a measurement's figures say."""
    if isinstance(figures, ThroughputFigures):
        return throughput_chapter(figures)
    if isinstance(figures, ParityFigures):
        return parity_chapter(figures)
    if isinstance(figures, AccuracyFigures):
        return accuracy_chapter(figures)
    if isinstance(figures, GeometryFigures):
        return geometry_chapter(figures)
    if isinstance(figures, InstallFigures):
        return install_chapter(figures)
    return raster_io_chapter(figures)
