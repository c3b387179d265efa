"""Layers on one pixel grid: files that share it read in place, the others warped to it.

Files that share another grid are read as one mosaic, each by its own nodata, mask and type, and
that is warped: no seam shows where they meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform

from flair_engine.crs import same_crs
from flair_engine.errors import ReadError, SourceError, first_line
from flair_engine.gdal import GDAL_ERRORS, UNTRANSFORMABLE
from flair_engine.grid import Window, blocks
from flair_engine.options import silent
from flair_engine.reading.file_layer import FileLayer
from flair_engine.reading.files import no_file_left, too_many_files
from flair_engine.reading.frame import OwnGrid
from flair_engine.reading.layers import Pixels
from flair_engine.reading.mosaic import Mosaic
from flair_engine.reading.pixel_grid import PixelGrid, span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence, Set

    from flair_engine.options import OnError
    from flair_engine.reading.bands import Chosen
    from flair_engine.reading.file_info import FileInfo
    from flair_engine.reading.layers import GridSource, SkippedBlock

WARP_PX = (256, 1024)
"""Pixels warped at once. Always the same ones: the sums of a pixel depend in their last bits on the
window it is in, and a map must not depend on how its windows are cut."""

PLAIN_CRS = "EPSG:3857"
"""Stands for two equal CRSs."""

OPAQUE = 255
"""Value of the band that tells GDAL which pixels are valid."""


def layers_on(
    pixel_grid: PixelGrid,
    files: Sequence[Chosen],
    *,
    own_grids: Sequence[OwnGrid] = (),
    numbers: Sequence[int] | None = None,
    on_error: OnError = "stop",
    tell: Callable[[str], None] = silent,
) -> list[GridSource]:
    """Return files as layers on `pixel_grid`, in their order.

    Those of a grid of their own are warped to it (bilinear), together with the others that share it
    and in the place of the first. Where the files are some of a product, `own_grids` are those of
    all of it, and `numbers` the places of the files there. Raises SourceError where there is no way
    from one CRS to another.
    """
    layers: list[tuple[int, GridSource]] = []
    shared = [_Shared(own.grid, own.first, own.window) for own in own_grids]
    for number, file in zip(numbers or range(len(files)), files, strict=True):
        place = pixel_grid.place(file.info)
        if place is not None:
            layers.append((number, _placed(file, place, on_error, tell)))
            continue
        for group in shared:
            if (place := group.grid.place(file.info)) is not None:
                break
        else:
            group, place = _Shared(_own_grid(pixel_grid, file.info), number), (0, 0)
            shared.append(group)
        group.sources.append(_placed(file, place, on_error, tell))
    layers += [(group.first, group.warped(pixel_grid)) for group in shared if group.sources]
    return [layer for _, layer in sorted(layers, key=itemgetter(0))]


def own_grids_of(layers: Sequence[GridSource], files: Sequence[Chosen]) -> tuple[OwnGrid, ...]:
    """Return the grids that layers of all files of a product are warped from."""
    number_of = {file.info.name: number for number, file in enumerate(files)}
    return tuple(
        OwnGrid(grid=layer.own, window=layer.mosaic.window, first=number_of[layer.mosaic.name])
        for layer in layers
        if isinstance(layer, WarpedLayer)
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    """Files that share a grid of their own."""

    grid: PixelGrid
    first: int
    """Number of the first of them in the product."""
    window: Window | None = None
    """Around all of them; None where those that are given are all."""
    sources: list[GridSource] = field(default_factory=list)

    def warped(self, pixel_grid: PixelGrid) -> WarpedLayer:
        """Return them as one layer."""
        return WarpedLayer(Mosaic(self.sources, self.window), self.grid, pixel_grid)


def _placed(
    file: Chosen, place: tuple[int, int], on_error: OnError, tell: Callable[[str], None]
) -> FileLayer:
    top, left = place
    return FileLayer(file.info, file.choice, top=top, left=left, on_error=on_error, tell=tell)


def _own_grid(pixel_grid: PixelGrid, info: FileInfo) -> PixelGrid:
    """Return the grid of a file, its CRS in the words of `pixel_grid` where they are the same.

    A nameless CRS equal in definition would be transformed by the datum it fails to name.
    """
    same = same_crs(pixel_grid.crs, info.crs)
    if not same and not (info.crs and pixel_grid.crs):
        raise SourceError(
            f"{info.name}: is on another grid and cannot be warped, because it or the image has no "
            "CRS",
            "assign one with gdal_edit.py -a_srs",
        )
    return PixelGrid(
        height=info.height,
        width=info.width,
        crs=pixel_grid.crs if same else info.crs,
        transform=info.transform,
    )


class WarpedLayer:
    """A mosaic on a grid of its own, warped (bilinear) to the raster's as it is read."""

    def __init__(self, mosaic: Mosaic, own: PixelGrid, pixel_grid: PixelGrid) -> None:
        """`own` is the grid that the mosaic's windows count on."""
        self.name = mosaic.name
        self.count, self.dtype = mosaic.count, mosaic.dtype
        self.block_px = WARP_PX
        self.mosaic, self.own, self._pixel_grid = mosaic, own, pixel_grid
        self.window = span(own.of(mosaic.window), pixel_grid, self.name)
        self._scale = self._source_px_per_pixel()

    @property
    def skipped(self) -> Set[SkippedBlock]:
        """Blocks that could not be decoded and were left out on request."""
        return self.mosaic.skipped

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return the pixels of a window of the layer; see Layer."""
        if out_bhw is None:
            out_bhw = np.empty((self.count, part.height, part.width), self.dtype)
        valid_hw = np.zeros((part.height, part.width), bool)
        lost_hw = np.zeros_like(valid_hw)
        for block in self._blocks(part):
            common = block.intersection(part)
            here, there = common.relative_to(part).slices, common.relative_to(block).slices
            image_bhw, block_valid_hw, block_lost_hw = self._warp(block)
            out_bhw[:, here[0], here[1]] = image_bhw[:, there[0], there[1]]
            valid_hw[here] = block_valid_hw[there]
            if block_lost_hw is not None:
                lost_hw[here] = block_lost_hw[there]
        return Pixels(
            out_bhw, None if valid_hw.all() else valid_hw, lost_hw if lost_hw.any() else None
        )

    def close(self) -> None:
        """Close every file; see Layer."""
        self.mosaic.close()

    def close_mine(self) -> None:
        """Close the files that the calling thread has opened."""
        self.mosaic.close_mine()

    def _blocks(self, part: Window) -> Iterator[Window]:
        """Yield the whole blocks that a window of the layer touches."""
        for touched in blocks(part, WARP_PX):
            top = touched.top - touched.top % WARP_PX[0]
            left = touched.left - touched.left % WARP_PX[1]
            yield Window(
                top=top,
                left=left,
                height=min(WARP_PX[0], self.window.height - top),
                width=min(WARP_PX[1], self.window.width - left),
            )

    def _warp(self, block: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return image [bands, h, w], valid and lost bool [h, w] of a block of the layer."""
        try:
            source = self._seen_by(block)
        except SourceError as error:  # PROJ opens a file of its own
            if no_file_left(error.what):
                error = too_many_files(self.name)
            raise ReadError(error.what, error.remedy) from error
        nothing = np.zeros((self.count + 1, block.height, block.width), self.dtype)
        if source is None:
            return nothing[:-1], nothing[-1] > 0, None
        pixels = self.mosaic.read(source)
        valid_hw = pixels.valid_hw
        if valid_hw is not None and not (valid_hw.any() or pixels.lost_hw is not None):
            return nothing[:-1], nothing[-1] > 0, None
        alpha_hw = np.full((source.height, source.width), OPAQUE, self.dtype)
        if valid_hw is not None:
            alpha_hw[~valid_hw] = 0
        warped_bhw = self._reproject(
            np.concatenate([pixels.image_bhw, alpha_hw[None]]), source, block, nothing
        )
        lost_hw = None
        if pixels.lost_hw is not None:
            lost_bhw = np.zeros((2, source.height, source.width), np.uint8)
            lost_bhw[:, pixels.lost_hw] = OPAQUE
            lost_hw = self._reproject(lost_bhw, source, block, np.zeros_like(nothing[:2], np.uint8))
            lost_hw = (lost_hw[1] > 0) & (warped_bhw[-1] == 0)
        return warped_bhw[:-1], warped_bhw[-1] > 0, lost_hw

    def _reproject(
        self, source_bhw: np.ndarray, source: Window, block: Window, out_bhw: np.ndarray
    ) -> np.ndarray:
        """Warp an image whose last band says where it is valid; fill and return `out_bhw`."""
        top, left = self.window.top + block.top, self.window.left + block.left
        alpha = len(source_bhw)
        # Between equal CRSs any will do: GDAL cannot transform from one that names no place.
        same = self.own.crs == self._pixel_grid.crs
        source_crs = PLAIN_CRS if same else self.own.crs
        raster_crs = PLAIN_CRS if same else self._pixel_grid.crs
        try:
            reproject(
                source_bhw,
                out_bhw,
                src_transform=self.own.transform @ Affine.translation(source.left, source.top),
                src_crs=source_crs,
                dst_transform=self._pixel_grid.transform @ Affine.translation(left, top),
                dst_crs=raster_crs,
                src_alpha=alpha,
                dst_alpha=alpha,
                resampling=Resampling.bilinear,
                # Else GDAL takes it from each window, and neighbours differ.
                XSCALE=str(1 / self._scale[0]),
                YSCALE=str(1 / self._scale[1]),
            )
        except GDAL_ERRORS as error:
            raise ReadError(
                f"{self.name}: cannot be warped to {self._pixel_grid.crs} ({first_line(error)})",
                "warp it with gdalwarp first",
            ) from error
        return out_bhw

    def _seen_by(self, block: Window) -> Window | None:
        """Return the pixels of the mosaic that a block is interpolated from, None for none."""
        top, left = self.window.top + block.top, self.window.left + block.left
        cols, rows = (
            np.linspace(start, start + size, 9)
            for start, size in ((left, block.width), (top, block.height))
        )
        xs, ys = self._to_source(*(axis.ravel() for axis in np.meshgrid(cols, rows)))
        inside = np.isfinite(xs) & np.isfinite(ys)
        if not inside.any():
            return None
        # Bilinear: as many source pixels as a pixel covers, one at least, on each side.
        reach_x, reach_y = (math.ceil(max(1, scale)) + 2 for scale in self._scale)
        first_col, last_col = xs[inside].min() - reach_x, xs[inside].max() + reach_x
        first_row, last_row = ys[inside].min() - reach_y, ys[inside].max() + reach_y
        seen = Window(
            top=math.floor(first_row),
            left=math.floor(first_col),
            height=math.ceil(last_row) - math.floor(first_row),
            width=math.ceil(last_col) - math.floor(first_col),
        ).intersection(self.mosaic.window)
        return seen if seen.pixels else None

    def _to_source(self, cols: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns and rows of the mosaic's grid at those of the raster."""
        xs, ys = _applied(self._pixel_grid.transform, cols, rows)
        if self.own.crs != self._pixel_grid.crs:
            try:
                xs, ys = map(np.array, transform(self._pixel_grid.crs, self.own.crs, xs, ys))
            except UNTRANSFORMABLE as error:
                raise SourceError(
                    f"{self.name}: cannot be warped from {_name(self.own)} to "
                    f"{_name(self._pixel_grid)} ({first_line(error)})",
                    "assign its CRS with gdal_edit.py -a_srs",
                ) from error
        return _applied(~self.own.transform, xs, ys)

    def _source_px_per_pixel(self) -> tuple[float, float]:
        """Return how many pixels of the mosaic a pixel covers, across and down, at its centre."""
        col = self.window.left + self.window.width / 2
        row = self.window.top + self.window.height / 2
        xs, ys = self._to_source(
            np.array([col - 8, col + 8, col, col]), np.array([row, row, row - 8, row + 8])
        )
        across = math.hypot(xs[1] - xs[0], ys[1] - ys[0]) / 16
        down = math.hypot(xs[3] - xs[2], ys[3] - ys[2]) / 16
        if not (math.isfinite(across) and math.isfinite(down)):
            raise SourceError(
                f"{self.name}: lies outside {_name(self._pixel_grid)}",
                "assign its CRS with gdal_edit.py -a_srs",
            )
        return across, down


def _applied(geotransform: Affine, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    g = geotransform
    return g.a * xs + g.b * ys + g.c, g.d * xs + g.e * ys + g.f


def _name(grid: PixelGrid) -> str:
    return str(grid.crs)[:60]
