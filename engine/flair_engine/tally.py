"""Pixels and hectares of each label in the maps of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.crs import ground_px_m

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flair_engine.work import Panel, Work


@dataclass(frozen=True, kw_only=True, slots=True)
class LandCover:
    """What the maps of a run show."""

    pixels: np.ndarray
    """int64 [256], how many pixels have each label."""
    hectares: np.ndarray
    """float64 [256], what they cover on the ground."""


def tally(work: Work, counts: Iterable[tuple[tuple[int, int], np.ndarray]]) -> LandCover:
    """Return what strips hold in all, by their (panel, row of cores)."""
    pixels, hectares = np.zeros(256, np.int64), np.zeros(256)
    panels = {panel.number: panel for panel in work.panels}
    for (number, i), found in counts:
        pixels += found
        hectares += found * _hectares_per_px(work, panels[number], i)
    return LandCover(pixels=pixels, hectares=hectares)


def _hectares_per_px(work: Work, panel: Panel, i: int) -> float:
    """Return what a pixel of a strip covers: on the ground, else by what is told of its size."""
    pixel_grid, strip = panel.sheet.pixel_grid, panel.cores.strip(i)
    if work.job.read.gsd_m or not pixel_grid.crs:
        return work.spec.gsd_m**2 / 10_000
    col, row = strip.left + strip.width / 2, strip.top + strip.height / 2
    across_m, down_m = ground_px_m(pixel_grid.crs, pixel_grid.transform, col, row)
    return across_m * down_m / 10_000
