"""The fifth band: height above ground as the networks were trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rasterio.errors import RasterioError

from flair_engine.errors import ReadError, SourceError, first_line
from flair_engine.grid import Window
from flair_engine.manifest import COUNTS_PER_METRE
from flair_engine.reading.files import FileInfo, FileLayer, choose_bands, describe, short
from flair_engine.reading.warp import joined_infos, warper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from flair_engine.options import OnError
    from flair_engine.reading.layers import Pixels
    from flair_engine.reading.pixel_grid import PixelGrid
    from flair_engine.reading.strips import Strip

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
    strips: Iterable[Strip], band: int, notify: Callable[[str], None]
) -> Iterator[Strip]:
    """Pass strips on; `notify` where elevation `band` of the first cannot be height counts."""
    check = HeightCheck(band)
    for strip in strips:
        if warning := check.observe(strip):
            notify(warning)
        yield strip
    if warning := check.warning():
        notify(warning)


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
                f"{tall / COUNTS_PER_METRE:.1f} m; if it is in metres, give --dsm and --dtm"
            )
        return None


class HeightLayer:
    """Surface minus terrain, both warped (bilinear) to the grid as they are read."""

    def __init__(
        self,
        pixel_grid: PixelGrid,
        dsm: Sequence[FileInfo],
        dtm: Sequence[FileInfo],
        on_error: OnError = "stop",
    ) -> None:
        self.name = f"height ({short(dsm[0].name)} - {short(dtm[0].name)})"
        self.window = Window(top=0, left=0, height=pixel_grid.height, width=pixel_grid.width)
        self.count = 1
        self._models = [_Elevation(pixel_grid, infos, on_error) for infos in (dsm, dtm)]
        self.block_px = self._models[0].block_px

    @property
    def skipped_blocks(self) -> int:
        """Blocks of either model that could not be decoded."""
        return sum(model.skipped_blocks for model in self._models)

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return height counts uint8 [1, h, w] and where both models are known; see Layer."""
        (dsm_m, known), (dtm_m, known_too) = (model.read_metres(part) for model in self._models)
        counts_bhw = encode_height(dsm_m, dtm_m)[None]
        if out_bhw is not None:
            out_bhw[...] = counts_bhw
        return counts_bhw, known & known_too

    def close(self) -> None:
        """Close both models' files; see Layer."""
        for model in self._models:
            model.close()


class _Elevation(FileLayer):
    """One elevation model in metres on the grid."""

    def __init__(self, pixel_grid: PixelGrid, infos: Sequence[FileInfo], on_error: OnError) -> None:
        placed = joined_infos(infos)
        if placed is None:
            raise SourceError(
                f"{short(infos[0].name)}: is on another grid than {len(infos) - 1} files given "
                "with it",
                "warp them to one with gdalwarp first",
            )
        opener = warper(pixel_grid, placed, (1,))
        info = describe(infos[0].name, opener)
        super().__init__(info, choose_bands(info, (1,)), on_error=on_error, opener=opener)
        self.name = infos[0].name

    def read_metres(self, part: Window) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [h, w] metres, 0 where unknown, and bool [h, w] where known."""
        dataset = self._dataset()
        try:
            metres, alpha = dataset.read((1, dataset.count), window=part.slices)
        except RasterioError as error:
            raise ReadError(
                f"{short(self.name)}: elevation of image rows {part.top} to {part.bottom - 1}, "
                f"columns {part.left} to {part.right - 1} cannot be decoded ({first_line(error)})",
                "fetch the file again",
            ) from error
        known = (alpha > 0) & np.isfinite(metres)
        return np.where(known, metres, 0), known
