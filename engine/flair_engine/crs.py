"""Coordinate reference systems: which are the same, and what their metres are on the ground."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Protocol

from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from flair_engine.gdal import UNTRANSFORMABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from affine import Affine

WGS84_A_M = 6_378_137.0
WGS84_E2 = 0.00669437999014
"""Semi-major axis and squared eccentricity of the ellipsoid, NGA.STND.0036."""

NEARBY_PX = 50
"""Pixels on each side over which a pixel's size is taken: so few that it is that of the place, so
many that projections, exact to some micrometres, do not show."""


class OnGrid(Protocol):
    """Pixels somewhere: a file, or a grid."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def crs(self) -> CRS | None:
        """What `transform` counts in."""

    @property
    def transform(self) -> Affine:
        """Columns and rows to coordinates."""


def same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Return whether two CRSs are the same, or equal in definition where one is nameless.

    Some delivered files carry the projection's parameters without authority or datum, others
    (LOCAL_CS) its name alone.
    """
    if one is other:
        return True
    if not one or not other:
        return not one and not other
    if is_local(one) and is_local(other):  # GDAL takes all of them for equal
        return _plain_name(one) == _plain_name(other)
    if one == other:
        return True
    if is_local(one) or is_local(other):
        return _plain_name(one) == _plain_name(other) != ""
    nameless = one.to_epsg() is None or other.to_epsg() is None
    parameters = _parameters(one)
    return nameless and bool(parameters) and parameters == _parameters(other)


def words_of(crs: CRS | None) -> str | None:
    """Return a CRS in words that `crs_of` makes the same of: its code, else WKT."""
    if not crs:
        return None
    words, code = str(crs.to_wkt()), crs.to_authority()
    if code and CRS.from_user_input(":".join(code)).to_wkt() == words:
        return ":".join(code)
    return words


def crs_of(words: str | None) -> CRS | None:
    """Return the CRS of a code or of WKT, None of nothing."""
    return CRS.from_user_input(words) if words else None


def is_local(crs: CRS) -> bool:
    """Return whether a CRS says nothing of where on Earth it is (LOCAL_CS, ENGCRS)."""
    return not crs.is_projected and not crs.is_geographic


def best_crs(wanted: CRS | None, known: Iterable[CRS | None]) -> CRS | None:
    """Return `wanted` in the words of one of the `known` that names its authority."""
    if wanted and wanted.to_epsg():
        return wanted
    named = (crs for crs in known if crs and crs.to_epsg() and same_crs(wanted, crs))
    return next(named, wanted)


def ground_px_m(crs: CRS, geotransform: Affine, col: float, row: float) -> tuple[float, float]:
    """Return the width and height in metres on the ground of the pixel at a column and row.

    Geodesic: along the WGS 84 ellipsoid's meridian and parallel through the place (radii of
    curvature, Snyder, Map Projections, 1987, eq. 4-18 and 4-20). A CRS that says nothing of its
    place is taken at its word. nan where the place lies outside the CRS.
    """
    steps = ((-NEARBY_PX, 0), (NEARBY_PX, 0), (0, -NEARBY_PX), (0, NEARBY_PX))
    xs, ys = zip(*(geotransform @ (col + right, row + down) for right, down in steps), strict=True)
    try:
        lons, lats = transform(crs, "EPSG:4326", xs, ys)
    except UNTRANSFORMABLE:
        return stated_px_m(crs, geotransform) if is_local(crs) else (math.nan, math.nan)
    if not all(map(math.isfinite, (*lons, *lats))):
        return math.nan, math.nan
    left, right, above, below = zip(lons, lats, strict=True)
    return (
        _distance_m(left, right) / (2 * NEARBY_PX),
        _distance_m(above, below) / (2 * NEARBY_PX),
    )


def stated_px_m(crs: CRS, geotransform: Affine) -> tuple[float, float]:
    """Return the width and height of a pixel in the metres of its CRS."""
    g, metres = geotransform, _unit_m(crs)
    return math.hypot(g.a, g.d) * metres, math.hypot(g.b, g.e) * metres


def _distance_m(start: tuple[float, float], end: tuple[float, float]) -> float:
    """Return the length of a short way between longitudes and latitudes in degrees."""
    sine = math.sin(math.radians((start[1] + end[1]) / 2))
    flattened = 1 - WGS84_E2 * sine**2
    meridian_m = WGS84_A_M * (1 - WGS84_E2) / flattened**1.5
    parallel_m = WGS84_A_M / math.sqrt(flattened) * math.sqrt(1 - sine**2)
    east = (end[0] - start[0] + 180) % 360 - 180
    return math.hypot(math.radians(east) * parallel_m, math.radians(end[1] - start[1]) * meridian_m)


def _unit_m(crs: CRS) -> float:
    """Return the metres of a CRS's unit; rasterio knows it of no local CRS."""
    try:
        if not is_local(crs):
            return float(crs.linear_units_factor[1])
        unit = crs.to_dict(projjson=True)["coordinate_system"]["axis"][0]["unit"]
        return float(unit["conversion_factor"]) if isinstance(unit, dict) else 1.0
    except (CRSError, KeyError):  # it may not state its unit
        return 1.0


def _parameters(crs: CRS) -> dict[str, object]:
    datum = ("ellps", "a", "b", "rf", "datum", "towgs84", "no_defs", "type", "wktext")
    return {key: value for key, value in crs.to_dict().items() if key not in datum}


def _plain_name(crs: CRS) -> str:
    """Return the name of a CRS in letters and digits, without the version of its datum."""
    found = re.match(r'\w+\["([^"]*)"', crs.to_wkt())
    words = found.group(1).lower() if found else ""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\bv1\b", "", words))
