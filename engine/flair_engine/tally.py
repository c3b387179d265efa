"""Pixels and hectares of each label in the maps of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.crs import ground_px_m

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flair_engine.grid import Window
    from flair_engine.reading.inputs import Sheet
    from flair_engine.work import Work


@dataclass(frozen=True, kw_only=True, slots=True)
class LandCover:
    """What the maps of a run show."""

    pixels: np.ndarray
    """int64 [256], how many pixels have each label."""
    hectares: np.ndarray
    """float64 [256], what they cover on the ground."""

    def __add__(self, other: LandCover) -> LandCover:
        return LandCover(pixels=self.pixels + other.pixels, hectares=self.hectares + other.hectares)


NOTHING = LandCover(pixels=np.zeros(256, np.int64), hectares=np.zeros(256))


def tally(work: Work, counts: Iterable[tuple[tuple[int, int], np.ndarray]]) -> LandCover:
    """Return what strips hold in all, by their (panel, row of cores)."""
    pixels, hectares = np.zeros(256, np.int64), np.zeros(256)
    panels = {panel.number: panel for panel in work.panels}
    for (number, i), found in counts:
        pixels += found
        panel = panels[number]
        strip = panel.cores.strip(i).intersection(panel.shown)
        hectares += found * hectares_per_px(work, panel.sheet, strip)
    return LandCover(pixels=pixels, hectares=hectares)


def tallied(work: Work, sheet: Sheet, window: Window, labels_hw: np.ndarray) -> LandCover:
    """Return what a window of a sheet holds of each label."""
    pixels = np.bincount(labels_hw.ravel(), minlength=256)
    return LandCover(pixels=pixels, hectares=pixels * hectares_per_px(work, sheet, window))


def hectares_per_px(work: Work, sheet: Sheet, window: Window) -> float:
    """Return what a pixel of a window covers: on the ground, else by what is told of its size."""
    across_m, down_m = px_m(work, sheet, window)
    return across_m * down_m / 10_000


def px_m(work: Work, sheet: Sheet, window: Window) -> tuple[float, float]:
    """Return width and height of a pixel in the middle of a window, in metres on the ground."""
    pixel_grid = sheet.pixel_grid
    if work.job.read.gsd_m or not pixel_grid.crs:
        return work.spec.gsd_m, work.spec.gsd_m
    col, row = window.left + window.width / 2, window.top + window.height / 2
    return ground_px_m(pixel_grid.crs, pixel_grid.transform, col, row)
