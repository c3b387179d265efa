"""The grid of pixels that everything is put on, and where files lie on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from affine import Affine
from rasterio.errors import CRSError
from rasterio.warp import transform_bounds

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.reading.files import short
from flair_engine.tolerances import ALIGNED_PX, EDGE_DECIMALS, GSD_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rasterio.crs import CRS

    from flair_engine.reading.files import FileInfo


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


def pixel_grid_of(
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
            f"{short(first.name)}: has no georeference, so its ground sampling is unknown",
            f"if a pixel is {gsd_m:g} m, say so with --gsd {gsd_m:g}",
        )
    transform = first.transform
    if any(abs(edge / gsd_m - 1) > GSD_TOLERANCE for edge in size):
        if not resample:
            raise SourceError(
                f"{short(first.name)}: ground sampling is {size[0]:.4g} x {size[1]:.4g} m, the "
                f"model was trained at {gsd_m:g} m",
                "use --resample to warp it",
            )
        transform = transform @ Affine.scale(gsd_m / size[0], gsd_m / size[1])
    pixel_grid = PixelGrid(height=1, width=1, crs=_best_crs([*infos, *others]), transform=transform)
    spans = [span(info, pixel_grid) for info in infos]
    top, left = min(span.top for span in spans), min(span.left for span in spans)
    return PixelGrid(
        height=max(span.bottom for span in spans) - top,
        width=max(span.right for span in spans) - left,
        crs=pixel_grid.crs,
        transform=transform @ Affine.translation(left, top),
    )


def span(info: FileInfo, pixel_grid: PixelGrid) -> Window:
    """Return the pixels of `pixel_grid` that a file covers."""
    if place := pixel_grid.place(info):
        return Window(top=place[0], left=place[1], height=info.height, width=info.width)
    corners = [info.transform @ (x, y) for x in (0, info.width) for y in (0, info.height)]
    xs, ys = zip(*corners, strict=True)
    bounds = (min(xs), min(ys), max(xs), max(ys))
    if not same_crs(info.crs, pixel_grid.crs):
        if not info.crs or not pixel_grid.crs:
            raise SourceError(
                f"{short(info.name)}: has no CRS while other files have one",
                "assign it with gdal_edit.py -a_srs",
            )
        bounds = transform_bounds(info.crs, pixel_grid.crs, *bounds)
    pixels = [~pixel_grid.transform @ (x, y) for x in bounds[::2] for y in bounds[1::2]]
    cols, rows = zip(*pixels, strict=True)
    # Rounding forgives the last decimals of stored edges.
    left, top = (
        math.floor(round(min(cols), EDGE_DECIMALS)),
        math.floor(round(min(rows), EDGE_DECIMALS)),
    )
    right, bottom = (
        math.ceil(round(max(cols), EDGE_DECIMALS)),
        math.ceil(round(max(rows), EDGE_DECIMALS)),
    )
    return Window(top=top, left=left, height=bottom - top, width=right - left)


def pixel_size_m(info: FileInfo) -> tuple[float, float] | None:
    """Return the width and height of a pixel in metres; None without a georeference.

    Raises SourceError for a CRS in degrees, where a pixel has no fixed size.
    """
    transform = info.transform
    if not info.crs or transform.is_identity:
        return None
    if info.crs.is_geographic:
        raise SourceError(
            f"{short(info.name)}: its CRS is in degrees, the model wants metres",
            "reproject with gdalwarp -t_srs EPSG:2154 (mainland France)",
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
