"""The grid of pixels that everything is put on, and where files lie on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from affine import Affine
from rasterio.warp import transform_bounds

from flair_engine.crs import best_crs, ground_px_m, same_crs, stated_px_m
from flair_engine.errors import SourceError
from flair_engine.gdal import UNTRANSFORMABLE
from flair_engine.grid import Window, bounds
from flair_engine.tolerances import ALIGNED_PX, EDGE_DECIMALS, GSD_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rasterio.crs import CRS

    from flair_engine.crs import OnGrid
    from flair_engine.reading.file_info import FileInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelGrid:
    """The grid of pixels everything is put on."""

    height: int
    width: int
    crs: CRS | None
    transform: Affine

    def place(self, other: OnGrid) -> tuple[int, int] | None:
        """Return the (row, column) of the first pixel of `other`, None where the grids differ."""
        if not same_crs(self.crs, other.crs):
            return None
        step = ~self.transform @ other.transform
        row, col = round(step.f), round(step.c)
        drift = max(
            abs(step.c - col),
            abs(step.f - row),
            max(abs(step.a - 1), abs(step.d)) * other.width,
            max(abs(step.e - 1), abs(step.b)) * other.height,
        )
        return (row, col) if drift < ALIGNED_PX else None

    def of(self, window: Window) -> PixelGrid:
        """Return the part of the grid that a window shows; it may reach outside."""
        return PixelGrid(
            height=window.height,
            width=window.width,
            crs=self.crs,
            transform=self.transform @ Affine.translation(window.left, window.top),
        )


def pixel_grid_of(
    infos: Sequence[FileInfo],
    others: Iterable[FileInfo] = (),
    *,
    gsd_m: float,
    assumed_gsd_m: float | None = None,
    resample: bool = False,
) -> PixelGrid:
    """Return the grid that the files of the leading product span, at `gsd_m` metres on the ground.

    `assumed_gsd_m` is their ground sampling where they do not say it. With `resample` another
    ground sampling gives a grid of `gsd_m` over the same extent; without it, SourceError. `others`
    may only lend the name of a CRS that the leading files have without naming it.
    """
    first = infos[0]
    size_m = sampling_m(first, gsd_m=gsd_m, assumed_gsd_m=assumed_gsd_m)
    transform = first.transform
    if differs(size_m, gsd_m):
        if not resample:
            raise wrong_sampling(first, size_m, gsd_m)
        transform = transform @ Affine.scale(gsd_m / size_m[0], gsd_m / size_m[1])
    crs = best_crs(first.crs, (info.crs for info in (*infos, *others)))
    pixel_grid = PixelGrid(height=1, width=1, crs=crs, transform=transform)
    return pixel_grid.of(bounds(span(info, pixel_grid, info.name) for info in infos))


def span(other: OnGrid, pixel_grid: PixelGrid, name: str) -> Window:
    """Return the pixels of `pixel_grid` that `other`, called `name`, covers. Raises SourceError."""
    if place := pixel_grid.place(other):
        return Window(top=place[0], left=place[1], height=other.height, width=other.width)
    corners = [other.transform @ (x, y) for x in (0, other.width) for y in (0, other.height)]
    xs, ys = zip(*corners, strict=True)
    edges: tuple[float, ...] = (min(xs), min(ys), max(xs), max(ys))
    if not same_crs(other.crs, pixel_grid.crs):
        edges = _transformed(edges, other.crs, pixel_grid.crs, name)
    pixels = [~pixel_grid.transform @ (x, y) for x in edges[::2] for y in edges[1::2]]
    cols, rows = zip(*pixels, strict=True)
    # Rounding forgives the last decimals of stored edges.
    left, top = (math.floor(round(min(values), EDGE_DECIMALS)) for values in (cols, rows))
    right, bottom = (math.ceil(round(max(values), EDGE_DECIMALS)) for values in (cols, rows))
    return Window(top=top, left=left, height=bottom - top, width=right - left)


def _transformed(
    edges: tuple[float, ...], crs: CRS | None, wanted: CRS | None, name: str
) -> tuple[float, ...]:
    """Return xmin, ymin, xmax, ymax in another CRS. Raises SourceError where there is no way."""
    if not crs or not wanted:
        raise SourceError(
            f"{name}: has no CRS while other files have one", "assign it with gdal_edit.py -a_srs"
        )
    try:
        moved: tuple[float, ...] = transform_bounds(crs, wanted, *edges)
    except UNTRANSFORMABLE:
        moved = (math.nan,)
    if not all(map(math.isfinite, moved)):
        raise SourceError(
            f"{name}: its CRS ({str(crs)[:60]}) cannot be brought to {str(wanted)[:60]}",
            "assign the right one with gdal_edit.py -a_srs",
        )
    return moved


def sampling_m(
    info: FileInfo, *, gsd_m: float, assumed_gsd_m: float | None = None
) -> tuple[float, float]:
    """Return the width and height of a file's pixels in metres on the ground.

    Where a projection stretches less than sampling may differ, they are as it states them: 0.2 m in
    Lambert-93, which are up to 0.3 % more or less on the ground. Raises SourceError where the file
    does not say it, and `assumed_gsd_m` neither.
    """
    if assumed_gsd_m:
        return assumed_gsd_m, assumed_gsd_m
    if not info.crs or not info.placed:
        raise _unplaced(info, gsd_m)
    if info.crs.is_geographic:
        raise SourceError(
            f"{info.name}: its CRS is in degrees, the model wants metres",
            "reproject with gdalwarp -t_srs EPSG:2154 (mainland France)",
        )
    size_m = ground_px_m(info.crs, info.transform, info.width / 2, info.height / 2)
    if not all(0 < edge_m < math.inf for edge_m in size_m):
        x, y = info.transform @ (0, 0)
        raise SourceError(
            f"{info.name}: its corner ({x:.15g}, {y:.15g}) lies outside its CRS ({info.crs})",
            "assign the right one with gdal_edit.py -a_srs",
        )
    stated_m = stated_px_m(info.crs, info.transform)
    stretched = any(
        abs(stated / ground - 1) > GSD_TOLERANCE
        for stated, ground in zip(stated_m, size_m, strict=True)
    )
    return size_m if stretched else stated_m


def _unplaced(info: FileInfo, gsd_m: float) -> SourceError:
    """Return what is wrong with a file whose ground sampling is unknown, and what it does have."""
    say = f"say so with --gsd {gsd_m:g}"
    if info.gcps:
        return SourceError(
            f"{info.name}: is placed by ground control points alone, so its pixels have no size",
            "warp it with gdalwarp -t_srs EPSG:2154 first (mainland France)",
        )
    if info.placed:
        return SourceError(
            f"{info.name}: has a place (as of a world file) but no CRS, so its ground sampling is "
            "unknown",
            f"assign it with gdal_edit.py -a_srs, or if a pixel is {gsd_m:g} m, {say}",
        )
    return SourceError(
        f"{info.name}: has no georeference, so its ground sampling is unknown",
        f"if a pixel is {gsd_m:g} m, {say}",
    )


def differs(size_m: tuple[float, float], gsd_m: float) -> bool:
    """Return whether pixels are sampled otherwise than the model was trained."""
    return any(abs(edge / gsd_m - 1) > GSD_TOLERANCE for edge in size_m)


def wrong_sampling(info: FileInfo, size_m: tuple[float, float], gsd_m: float) -> SourceError:
    """Return the refusal of a file of another sampling."""
    return SourceError(
        f"{info.name}: ground sampling is {size_m[0]:.4g} x {size_m[1]:.4g} m, the model was "
        f"trained at {gsd_m:g} m",
        "use --resample to warp it",
    )
