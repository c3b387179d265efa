"""Files of one or several products put on one grid of pixels.

The first image product gives the grid. Files that share it are read as they are; others are warped
to it. Several files of a product are one mosaic: tiles see across file edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from affine import Affine
from rasterio.enums import Resampling
from rasterio.errors import CRSError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.reading.files import (
    FileInfo,
    FileLayer,
    choose_bands,
    describe,
    open_dataset,
    short,
)
from flair_engine.reading.vrt import joined_vrt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

    from flair_engine.options import Nodata, OnError
    from flair_engine.reading.files import Opener
    from flair_engine.reading.layers import Layer

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".ecw")
"""What is taken from a folder; a file given by name may be anything GDAL opens."""

ALIGNED_PX = 0.1
"""Files whose grids differ by less are taken as one grid: origins are delivered rounded, and
warping by a tenth of a pixel would blur more than it mends."""

GSD_TOLERANCE = 0.01
"""Relative. Delivered files round the pixel size (0.200000000000001) and true sizes differ by more
than this where it matters (0.15, 0.25 m)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelGrid:
    """The grid of pixels everything is put on."""

    height: int
    width: int
    crs: CRS | None
    transform: Affine

    def place(self, info: FileInfo) -> tuple[int, int] | None:
        """Return the (row, column) of a file's first pixel, or None where the grids differ."""
        if not same_crs(self.crs, info.crs):
            return None
        step = ~self.transform @ info.transform
        row, col = round(step.f), round(step.c)
        drift = max(
            abs(step.c - col),
            abs(step.f - row),
            max(abs(step.a - 1), abs(step.d)) * info.width,
            max(abs(step.e - 1), abs(step.b)) * info.height,
        )
        return (row, col) if drift < ALIGNED_PX else None


def expand(names: Sequence[str]) -> list[str]:
    """Return the files that names, folders and globs stand for, each once, in order of name.

    Raises SourceError for one that stands for nothing.
    """
    files: dict[str, None] = {}
    for name in names:
        if Path(name).is_dir():
            found = [str(p) for p in Path(name).iterdir() if p.suffix.lower() in SUFFIXES]
            wanted = f"a folder without rasters ({', '.join(SUFFIXES)})"
        elif any(sign in name for sign in "*?[") and not Path(name).exists():
            found = glob(name, recursive=True)  # noqa: PTH207  the pattern may be absolute
            wanted = "a pattern that matches no file"
        else:
            found = [name]
            wanted = ""
        if not found:
            raise SourceError(f"{name}: is {wanted}. Check the path")
        files.update(dict.fromkeys(sorted(found)))
    return list(files)


def describe_all(names: Sequence[str]) -> list[FileInfo]:
    """Describe the files that `names` stand for. Raises SourceError."""
    infos = []
    for name in expand(names):
        if not Path(name).exists() and "/vsi" not in name and ":" not in name:
            raise SourceError(f"{name}: no such file. Check the path")
        infos.append(describe(name))
    return infos


def grid_of(
    infos: Sequence[FileInfo],
    others: Sequence[FileInfo] = (),
    *,
    gsd_m: float,
    assumed_gsd_m: float | None = None,
    resample: bool = False,
) -> PixelGrid:
    """Return the grid that the files of the leading product span, at `gsd_m` metres per pixel.

    `assumed_gsd_m` is their ground sampling where they do not say it. With `resample` another
    ground sampling gives a grid of `gsd_m` over the same extent; without it, SourceError. `others`
    may only lend the name of a CRS that the leading files have without naming it.
    """
    first = infos[0]
    size = (assumed_gsd_m, assumed_gsd_m) if assumed_gsd_m else pixel_size_m(first)
    if size is None:
        raise SourceError(
            f"{short(first.name)}: has no georeference, so its ground sampling is unknown. If a "
            f"pixel is {gsd_m:g} m, say so with --gsd {gsd_m:g}"
        )
    transform = first.transform
    if any(abs(edge / gsd_m - 1) > GSD_TOLERANCE for edge in size):
        if not resample:
            raise SourceError(
                f"{short(first.name)}: ground sampling is {size[0]:.4g} x {size[1]:.4g} m, the "
                f"model was trained at {gsd_m:g} m: use --resample to warp it"
            )
        transform = transform @ Affine.scale(gsd_m / size[0], gsd_m / size[1])
    grid = PixelGrid(height=1, width=1, crs=_best_crs([*infos, *others]), transform=transform)
    spans = [span(info, grid) for info in infos]
    top, left = min(span.top for span in spans), min(span.left for span in spans)
    return PixelGrid(
        height=max(span.bottom for span in spans) - top,
        width=max(span.right for span in spans) - left,
        crs=grid.crs,
        transform=transform @ Affine.translation(left, top),
    )


def layers_on(
    grid: PixelGrid,
    infos: Sequence[FileInfo],
    numbers: Sequence[int],
    *,
    validity_bands: int | None = None,
    nodata: Nodata = None,
    on_error: OnError = "stop",
) -> list[Layer]:
    """Return the bands `numbers` of every file as layers on `grid`, warped where they must be."""
    places = [grid.place(info) for info in infos]
    if None in places and (joined := joined_infos(infos)) and len(infos) > 1:
        return [
            warped(
                grid,
                joined,
                numbers,
                validity_bands=validity_bands,
                nodata=nodata,
                on_error=on_error,
            )
        ]
    return [
        warped(
            grid,
            [(info, 0, 0)],
            numbers,
            validity_bands=validity_bands,
            nodata=nodata,
            on_error=on_error,
        )
        if place is None
        else FileLayer(
            info,
            choose_bands(info, numbers, validity_bands=validity_bands, nodata=nodata),
            top=place[0],
            left=place[1],
            on_error=on_error,
        )
        for info, place in zip(infos, places, strict=True)
    ]


def joined_infos(infos: Sequence[FileInfo]) -> list[tuple[FileInfo, int, int]] | None:
    """Return (file, row, column) of files that share one grid among themselves, else None."""
    first = infos[0]
    grid = PixelGrid(height=1, width=1, crs=first.crs, transform=first.transform)
    placed = [(info, grid.place(info)) for info in infos]
    if any(place is None for _, place in placed):
        return None
    return [(info, *place) for info, place in placed if place]


def warped(
    grid: PixelGrid,
    placed: Sequence[tuple[FileInfo, int, int]],
    numbers: Sequence[int],
    *,
    validity_bands: int | None = None,
    nodata: Nodata = None,
    on_error: OnError = "stop",
) -> FileLayer:
    """Return files that share a grid of their own, warped together (bilinear) to `grid`."""
    opener = warper(grid, placed, numbers, nodata=nodata)
    info = replace(describe(placed[0][0].name, opener), name=placed[0][0].name)
    # The warper has turned nodata and masks into the alpha band it adds as the last.
    choice = choose_bands(
        info, range(1, len(numbers) + 1), validity_bands=validity_bands, nodata="none"
    )
    return FileLayer(info, replace(choice, mask_band=info.count), opener=opener, on_error=on_error)


def warper(
    grid: PixelGrid,
    placed: Sequence[tuple[FileInfo, int, int]],
    numbers: Sequence[int],
    *,
    nodata: Nodata = None,
) -> Opener:
    """Return a function that opens the files warped to `grid`, an alpha band added as the last.

    Raises SourceError where a file has no CRS to warp from.
    """
    first = placed[0][0]
    if not first.crs or not grid.crs:
        raise SourceError(
            f"{short(first.name)}: is on another grid and cannot be warped, because it or the "
            "image has no CRS: assign one with gdal_edit.py -a_srs"
        )
    choice = choose_bands(first, numbers, nodata=nodata)
    text = joined_vrt(placed, choice)
    # A nameless CRS equal in definition would be transformed by the datum it fails to name.
    source_crs = grid.crs if same_crs(grid.crs, first.crs) else first.crs

    def open_warped() -> DatasetReader:
        return WarpedVRT(
            open_dataset(text),
            src_crs=source_crs,
            crs=grid.crs,
            transform=grid.transform,
            height=grid.height,
            width=grid.width,
            resampling=Resampling.bilinear,
            src_nodata=choice.nodata,
            add_alpha=True,
        )

    return open_warped


def pixel_size_m(info: FileInfo) -> tuple[float, float] | None:
    """Return the width and height of a pixel in metres; None without a georeference.

    Raises SourceError for a CRS in degrees, where a pixel has no fixed size.
    """
    transform = info.transform
    if not info.crs or transform.is_identity:
        return None
    if info.crs.is_geographic:
        raise SourceError(
            f"{short(info.name)}: its CRS is in degrees, the model wants metres: reproject with "
            "gdalwarp -t_srs EPSG:2154 (mainland France)"
        )
    try:
        _, metres = info.crs.linear_units_factor
    except CRSError:  # a local CRS may not state its unit
        metres = 1.0
    return (
        math.hypot(transform.a, transform.d) * metres,
        math.hypot(transform.b, transform.e) * metres,
    )


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Return whether two CRSs are the same, or equal in definition where one is nameless.

    Some delivered files carry the projection's parameters without authority or datum.
    """
    if not one or not other:
        return not one and not other
    if one == other:
        return True
    nameless = one.to_epsg() is None or other.to_epsg() is None
    parameters = _parameters(one)
    return nameless and bool(parameters) and parameters == _parameters(other)


def _parameters(crs: CRS) -> dict[str, object]:
    datum = ("ellps", "a", "b", "rf", "datum", "towgs84", "no_defs", "type", "wktext")
    return {key: value for key, value in crs.to_dict().items() if key not in datum}


def _best_crs(infos: Sequence[FileInfo]) -> CRS | None:
    """Return the first file's CRS, in the words of one that names its authority."""
    first = infos[0].crs
    named = (
        info.crs for info in infos if info.crs and info.crs.to_epsg() and same_crs(first, info.crs)
    )
    return next(named, first)


def span(info: FileInfo, grid: PixelGrid) -> Window:
    """Return the pixels of `grid` that a file covers."""
    if place := grid.place(info):
        return Window(top=place[0], left=place[1], height=info.height, width=info.width)
    corners = [info.transform @ (x, y) for x in (0, info.width) for y in (0, info.height)]
    xs, ys = zip(*corners, strict=True)
    bounds = (min(xs), min(ys), max(xs), max(ys))
    if not same_crs(info.crs, grid.crs):
        if not info.crs or not grid.crs:
            raise SourceError(
                f"{short(info.name)}: has no CRS while other files have one: assign it with "
                "gdal_edit.py -a_srs"
            )
        bounds = transform_bounds(info.crs, grid.crs, *bounds)
    pixels = [~grid.transform @ (x, y) for x in bounds[::2] for y in bounds[1::2]]
    cols, rows = zip(*pixels, strict=True)
    # Rounding forgives the last decimals of stored edges.
    left, top = math.floor(round(min(cols), 3)), math.floor(round(min(rows), 3))
    right, bottom = math.ceil(round(max(cols), 3)), math.ceil(round(max(rows), 3))
    return Window(top=top, left=left, height=bottom - top, width=right - left)
