"""Facts of published files, as records and catalogues tell them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rasterio.crs import CRS

    from flair_engine.crs import OnGrid

PART_BYTES = 2**20
"""What is read of a file at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputFile:
    """A file that was written."""

    path: str
    kind: str
    """An output of the model, or `names`, `style`, `preview`, `item`."""
    size: int
    """Bytes."""
    sha256: str | None
    """Of its bytes; None where nobody asked for it: a map is read for it."""
    height: int | None = None
    """Of a raster, px."""
    width: int | None = None
    crs: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    """Of a raster, xmin, ymin, xmax, ymax in its CRS; None without one."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, read in parts. Raises OSError."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            found.update(part)
    return found.hexdigest()


def crs_text(crs: CRS | None) -> str | None:
    """Return a CRS by its code where it has one, such as `EPSG:2154`, else as WKT."""
    if not crs:
        return None
    code = crs.to_authority()
    return ":".join(code) if code else str(crs.to_wkt())


def bbox_of(placed: OnGrid) -> tuple[float, float, float, float] | None:
    """Return xmin, ymin, xmax, ymax in a raster's CRS, None where it has none."""
    if not placed.crs:
        return None
    corners = [placed.transform @ (x, y) for x in (0, placed.width) for y in (0, placed.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
