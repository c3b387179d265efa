"""The fifth band: height above ground as the networks were trained on it."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Window
from flair_engine.manifest import COUNTS_PER_METRE
from flair_engine.options import silent
from flair_engine.reading.layers import Pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence, Set

    from flair_engine.reading.layers import SkippedBlock
    from flair_engine.reading.mosaic import Mosaic
    from flair_engine.reading.strips import Strip

DEEPEST_M, TALLEST_M = -100.0, 350.0
"""Heights of a surface above its terrain beyond which one of the two is wrong: models of a quarry
from two years differ by less, the tallest structure of France has 343 m."""

LOWEST_TALL = 25
"""Counts (5 m) that one pixel in a thousand exceeds wherever there are houses or trees; heights
in metres stay below."""


def encode_height(dsm_m: np.ndarray, dtm_m: np.ndarray) -> np.ndarray:
    """Return uint8 height counts of surface and terrain in metres, rounded to nearest."""
    counts = np.rint(COUNTS_PER_METRE * (dsm_m - dtm_m))
    return np.asarray(np.clip(counts, 0, 255), np.uint8)


ENOUGH_PIXELS = 4_000_000
"""Pixels that are looked at before they are judged."""


def check_heights(
    strips: Iterable[Strip], check: HeightCheck, notify: Callable[[str], None]
) -> Iterator[Strip]:
    """Pass strips on; `notify` where the elevation of the first of a run cannot be height counts.

    Where a run ends before there are enough pixels, `check.warning()` is left to be asked.
    """
    for strip in strips:
        if warning := check.observe(strip):
            notify(warning)
        yield strip


class HeightCheck:
    """Judges the elevation band of the first strips, once."""

    def __init__(self, band: int) -> None:
        self._band = band
        self._counts = np.zeros(256, np.int64)
        self._done = False

    def observe(self, strip: Strip) -> str | None:
        """Add the pixels of a strip; once there are enough, return what is wrong with them."""
        if self._done:
            return None
        pixels = strip.image_bhw[self._band]
        pixels = pixels.ravel() if strip.valid_hw is None else pixels[strip.valid_hw]
        self._counts += np.bincount(pixels, minlength=256)
        if self._counts.sum() < ENOUGH_PIXELS:
            return None
        return self.warning()

    def warning(self) -> str | None:
        """Return what is wrong with the pixels seen so far, where they are not judged yet."""
        total = self._counts.sum()
        if self._done or total == 0:
            return None
        self._done = True
        share = np.cumsum(self._counts) / total
        low, tall = (int(np.searchsorted(share, part)) for part in (0.001, 0.999))
        expected = f"Height is {COUNTS_PER_METRE} counts per metre above ground: "
        if low == tall:
            return f"the elevation band is {low} everywhere. {expected}is it the right band?"
        if low > COUNTS_PER_METRE:
            return (
                f"the elevation band is nowhere below {low}. {expected}this looks like terrain "
                "height; give --dsm and --dtm"
            )
        if tall < LOWEST_TALL:
            return (
                f"the elevation band hardly exceeds {tall}. {expected}that is "
                f"{tall / COUNTS_PER_METRE:.1f} m; if it holds metres in 8 bits, make them Float32 "
                "(gdal_translate -ot Float32), which --ndsm takes for metres"
            )
        return None


class HeightLayer:
    """Height counts of a surface above a terrain, or of heights above ground themselves."""

    def __init__(
        self,
        surface: Mosaic,
        terrain: Mosaic | None = None,
        *,
        tell: Callable[[str], None] = silent,
    ) -> None:
        """Take mosaics in metres on the raster's grid; without `terrain` the surface is nDSM.

        `tell` is called where a height above ground is none that anything has.
        """
        self._tell = tell
        models = [model for model in (surface, terrain) if model]
        self.name = f"height ({' - '.join(model.name for model in models)})"
        self.window = reduce(Window.intersection, (model.window for model in models))
        self.count = 1
        self.block_px = surface.sources[0].block_px
        self._models = models

    @property
    def skipped(self) -> Set[SkippedBlock]:
        """Blocks of either model that could not be decoded."""
        return set().union(*(model.skipped for model in self._models))

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return height counts uint8 [1, h, w] and where they are known; see Layer."""
        here = replace(part, top=part.top + self.window.top, left=part.left + self.window.left)
        read = [model.read(here) for model in self._models]
        terrain_m = read[1].image_bhw if len(read) > 1 else np.zeros((), np.float32)
        counts_bhw = encode_height(read[0].image_bhw, terrain_m)
        self._look(read, terrain_m)
        if out_bhw is not None:
            out_bhw[...] = counts_bhw
        valid = [pixels.valid_hw for pixels in read if pixels.valid_hw is not None]
        lost = [pixels.lost_hw for pixels in read if pixels.lost_hw is not None]
        return Pixels(
            counts_bhw if out_bhw is None else out_bhw,
            np.logical_and.reduce(valid) if valid else None,
            np.logical_or.reduce(lost) if lost else None,
        )

    def _look(self, read: Sequence[Pixels], terrain_m: np.ndarray) -> None:
        """Tell of a height that looks like a hole in one of the models which nothing declares."""
        above_m = read[0].image_bhw - terrain_m
        known = [pixels.valid_hw for pixels in read if pixels.valid_hw is not None]
        if known:
            above_m = above_m[0][np.logical_and.reduce(known)]
        for odd_m in (above_m.min(initial=0), above_m.max(initial=0)):
            if not DEEPEST_M <= odd_m <= TALLEST_M:
                self._tell(
                    f"{self.name}: {odd_m:.0f} m above ground, which nothing is: are there holes "
                    "of 0 m, or models of different heights?"
                )

    def close(self) -> None:
        """Close both models' files; see Layer."""
        for model in self._models:
            model.close()
