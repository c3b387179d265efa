"""Pictures of what is mapped: images read decimated, from the overviews of files that have some.

Memory is that of the picture and GDAL's cache, whatever the raster. A picture judges nothing: files
are put over one another whole, and validity is that of the pixels that are shown.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NodataShadowWarning
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import SourceError
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.grid import Window, thinned
from flair_engine.reading.file_layer import FileLayer
from flair_engine.reading.files import open_dataset
from flair_engine.reading.pixel_grid import span
from flair_engine.reading.warp import PLAIN_CRS, WarpedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rasterio.io import DatasetReader

    from flair_engine.reading.inputs import Sheet
    from flair_engine.reading.pixel_grid import PixelGrid

COLOURS = ("red", "green", "blue")


def glance(
    sheet: Sheet,
    window: Window,
    bands: Sequence[str],
    most_px: int,
    tell: Callable[[str], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture of a window of a sheet: uint8 [3, h, w], and bool [h, w], True where seen.

    Its longer edge has `most_px` at most. `bands` are the model's, in order; without red, green and
    blue the first three are shown, or the first. `tell` is called where a file cannot be read,
    which stays blank.
    """
    height, width = thinned(window, most_px)
    canvas = _Canvas(
        grid=sheet.pixel_grid,
        window=window,
        image_bhw=np.zeros((3, height, width), np.uint8),
        seen_hw=np.zeros((height, width), bool),
    )
    product = sheet.raster.products[0]
    places = _shown(bands[product.bands])
    for layer in reversed(product.layers):  # the earlier ones lie above
        files = layer.mosaic.sources if isinstance(layer, WarpedLayer) else [layer]
        for file in reversed(files):
            if not isinstance(file, FileLayer):
                continue
            try:
                own = layer.own if isinstance(layer, WarpedLayer) else None
                _put(canvas, file, [file.choice.numbers[place] for place in places], own)
            except (*GDAL_ERRORS, SourceError):
                tell(f"{file.name}: cannot be read for the picture, which is blank there")
    return canvas.image_bhw, canvas.seen_hw


@dataclass(frozen=True, kw_only=True, slots=True)
class _Canvas:
    """The picture, and where it lies."""

    grid: PixelGrid
    window: Window
    image_bhw: np.ndarray
    seen_hw: np.ndarray

    def place(self, covered: Window) -> tuple[slice, slice]:
        """Return rows and columns of the picture that a window of the grid falls on."""
        height, width = self.seen_hw.shape
        rows = (covered.top - self.window.top, covered.bottom - self.window.top)
        cols = (covered.left - self.window.left, covered.right - self.window.left)
        top, bottom = (round(row * height / self.window.height) for row in rows)
        left, right = (round(col * width / self.window.width) for col in cols)
        return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))

    @property
    def transform(self) -> Affine:
        """Columns and rows of the picture to coordinates."""
        height, width = self.seen_hw.shape
        return (
            self.grid.transform
            @ Affine.translation(self.window.left, self.window.top)
            @ Affine.scale(self.window.width / width, self.window.height / height)
        )


def _shown(bands: Sequence[str]) -> list[int]:
    """Return the places of the bands to be shown as red, green and blue."""
    if all(colour in bands for colour in COLOURS):
        return [list(bands).index(colour) for colour in COLOURS]
    return [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]


def _put(canvas: _Canvas, file: FileLayer, numbers: list[int], own: PixelGrid | None) -> None:
    """Put what a file shows of the window on the canvas; `own` is its grid where it is warped."""
    covered = span(own.of(file.window), canvas.grid, file.name) if own else file.window
    common = covered.intersection(canvas.window)
    if not common.pixels:
        return
    rows, cols = canvas.place(common)
    target_bhw, seen_hw = canvas.image_bhw[:, rows, cols], canvas.seen_hw[rows, cols]
    if not seen_hw.size:  # less than a pixel, beyond the last one
        return
    with open_dataset(file.name) as dataset:
        if own is None:
            part = common.relative_to(file.window)
            found_bhw, valid_hw = _thinned(dataset, file, numbers, part, seen_hw.shape)
        else:
            place = canvas.transform @ Affine.translation(cols.start, rows.start)
            found_bhw, valid_hw = _warped(
                dataset, file, numbers, _warping(own, file, canvas.grid, place), seen_hw.shape
            )
    np.copyto(target_bhw, found_bhw, where=valid_hw)
    seen_hw |= valid_hw


def _thinned(
    dataset: DatasetReader, file: FileLayer, numbers: list[int], part: Window, shape: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return image [3, h, w] and validity [h, w] of a window of a file, decimated."""
    choice = file.choice
    where: dict[str, Any] = {
        "window": RasterioWindow(part.left, part.top, part.width, part.height),
        "out_shape": shape,
    }
    wanted = list(dict.fromkeys(numbers))
    # All at once: blocks that hold all bands are decoded once.
    found_bhw = dataset.read(wanted, **where, resampling=Resampling.average)
    bands = dict(zip(wanted, found_bhw, strict=True))
    valid_hw = np.ones(shape, bool)
    if choice.mask_band is not None:
        valid_hw &= dataset.read(choice.mask_band, **where) > 0
    if choice.masked:
        valid_hw &= dataset.read_masks(numbers[0], **where) > 0
    if choice.nodata and None not in choice.nodata:
        void = [bands[n] == choice.nodata[0] for n in bands]
        valid_hw &= ~np.logical_and.reduce(void)
    return np.stack([bands[n] for n in numbers]), valid_hw


def _warping(own: PixelGrid, file: FileLayer, grid: PixelGrid, place: Affine) -> dict[str, Any]:
    """Return what GDAL is told of two grids; `place` is the picture's part that is wanted."""
    same = own.crs == grid.crs  # then any CRS will do, see WarpedLayer
    return {
        "src_crs": PLAIN_CRS if same else own.crs,
        "crs": PLAIN_CRS if same else grid.crs,
        "src_transform": own.of(file.window).transform,
        "transform": place,
    }


def _warped(
    dataset: DatasetReader,
    file: FileLayer,
    numbers: list[int],
    warping: dict[str, Any],
    shape: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Return image [3, h, w] and validity [h, w] of a file, warped to a part of the picture."""
    nodata = file.choice.nodata[0] if file.choice.nodata else None
    alphas = {n for n, kind in enumerate(dataset.colorinterp, 1) if kind == ColorInterp.alpha}
    with (
        warnings.catch_warnings(),
        WarpedVRT(
            dataset,
            **warping,
            height=shape[0],
            width=shape[1],
            src_nodata=nodata,
            nodata=nodata,
            resampling=Resampling.average,
            add_alpha=nodata is None and not alphas,
        ) as warped,
    ):
        warnings.simplefilter("ignore", NodataShadowWarning)
        found_bhw = warped.read(numbers)
        if nodata is None and alphas & {*file.choice.numbers}:  # infrared that is tagged alpha
            return found_bhw, found_bhw.any(axis=0)
        return found_bhw, warped.read_masks(numbers[0]) > 0
