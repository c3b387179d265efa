"""Heights as files hold them, in metres: scale, offset and unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.errors import SourceError
from flair_engine.gdal import UNTRANSFORMABLE
from flair_engine.manifest import COUNTS_PER_METRE

if TYPE_CHECKING:
    from rasterio.crs import CRS

    from flair_engine.reading.file_info import FileInfo

FOOT_M = 0.3048
"""International foot, 1959."""

US_FOOT_M = 1200 / 3937
"""US survey foot, 1893."""

UNITS_M = {
    "": 1.0,
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters", "mètre", "mètres"), 1.0),
    **dict.fromkeys(("dm", "decimetre", "decimeter"), 0.1),
    **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 0.01),
    **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 0.001),
    **dict.fromkeys(("km", "kilometre", "kilometer"), 1000.0),
    **dict.fromkeys(("ft", "foot", "feet", "international foot", "international feet"), FOOT_M),
    **dict.fromkeys(
        ("us survey foot", "us survey feet", "us-ft", "ftus", "us_survey_foot", "foot_us", "us ft"),
        US_FOOT_M,
    ),
}
"""Metres in a unit, by the words that GDAL's drivers and people write."""

LOWEST_M, HIGHEST_M = -500.0, 9000.0
"""Heights between which all terrain on Earth lies, and what stands on it: the shore of the Dead Sea
is at -430 m, Mount Everest's top at 8849 m."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToMetres:
    """What turns the values of a band into metres: value * scale + offset."""

    scale: float
    offset: float

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return float32 metres of values of any type and shape."""
        if self.scale == 1 and self.offset == 0:
            return values.astype(np.float32)
        # Whole millimetres of a mountain need more than the 24 bits of float32.
        return (values.astype(np.float64) * self.scale + self.offset).astype(np.float32)


def to_metres(info: FileInfo) -> ToMetres:
    """Return what turns band 1 into metres, by its own scale, offset and unit.

    The unit is the band's, else that of a vertical CRS. Raises SourceError for an unknown one.
    """
    band = info.bands[0]
    unit = band.unit or _vertical_unit(info.crs)
    factor = UNITS_M.get(unit.strip().lower())
    if factor is None:
        raise SourceError(
            f"{info.name}: heights are in {unit!r}, which is not known",
            "convert them to metres and set the band's unit to m",
        )
    return ToMetres(scale=band.scale * factor, offset=band.offset * factor)


def counts_to_metres(info: FileInfo) -> ToMetres:
    """Return what turns band 1 of an nDSM into metres above ground.

    8 bits without a scale of their own are counts as the networks read them, anything else is in
    metres like a DSM. Raises SourceError for an unknown unit.
    """
    if holds_counts(info):
        return ToMetres(scale=1 / COUNTS_PER_METRE, offset=0)
    return to_metres(info)


def holds_counts(info: FileInfo) -> bool:
    """Return whether an nDSM holds height counts: 8 bits, and no scale, offset or unit."""
    band = info.bands[0]
    return (band.dtype, band.scale, band.offset, band.unit) == ("uint8", 1, 0, "")


def possible(heights_m: np.ndarray) -> np.ndarray:
    """Return bool, True where a height in metres can occur on Earth."""
    return (heights_m >= LOWEST_M) & (heights_m <= HIGHEST_M)


def _vertical_unit(crs: CRS | None) -> str:
    """Return the unit of a compound CRS's heights, nothing for any other CRS."""
    try:
        parts = crs.to_dict(projjson=True).get("components", []) if crs else []
    except UNTRANSFORMABLE:
        return ""
    for part in parts:
        if part.get("type") == "VerticalCRS":
            unit = part["coordinate_system"]["axis"][0].get("unit", "")
            return str(unit["name"] if isinstance(unit, dict) else unit)
    return ""
