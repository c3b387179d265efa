"""Checks of what a VRT hands on of its sources: validity, size, type and unit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flair_engine.reading.file_info import FileInfo
    from flair_engine.reading.vrt import Pasted

OR_TILES = "or give its tiles as they are"


def check_handed_on(vrt: FileInfo, describe: Callable[[str], FileInfo | None]) -> None:
    """Raise SourceError where a VRT shows its sources otherwise than they are read by themselves.

    GDAL reads zeros where a source leaves something unpainted and the VRT declares no nodata, and
    knows nothing of what has become of a source since the VRT was built. Sources that cannot be
    opened, of which `describe` returns None, are left to be missed where they are read.
    """
    seen: set[tuple[str, bool, bool, float | None]] = set()
    for band, found in zip(vrt.bands, vrt.pasted, strict=False):
        for pasted in found or ():
            _check_beside(vrt, pasted, len(found or ()))
            case = (pasted.file, pasted.keyed, pasted.masked, band.nodata)
            if case in seen:
                continue
            seen.add(case)
            source = describe(pasted.file)
            if source:
                _check_as_built(vrt, pasted, source)
                _check_validity(vrt, pasted, source, band.nodata)


def _check_beside(vrt: FileInfo, pasted: Pasted, sources: int) -> None:
    """Raise SourceError where GDAL (3.10) writes what it computes over what lies beside it."""
    if pasted.computed and sources > 1:
        raise SourceError(
            f"{vrt.name}: its source {pasted.file} is computed, which GDAL misreads beside others",
            "make a TIFF of it with gdal_translate",
        )


def _check_as_built(vrt: FileInfo, pasted: Pasted, source: FileInfo) -> None:
    """Raise SourceError where a source is another file than the VRT was built of."""
    build = "build the VRT again"
    size = (source.width, source.height)
    stated = pasted.size or size
    if stated != size or any(np.greater(pasted.reach, size)):
        taken = pasted.reach if stated == size else stated
        raise SourceError(
            f"{vrt.name}: takes {pasted.file} for {taken[0]} x {taken[1]} px, it has "
            f"{size[0]} x {size[1]}",
            build,
        )
    types = {band.dtype for band in source.bands}
    if not types & {band.dtype for band in vrt.bands}:
        raise SourceError(
            f"{vrt.name}: is {vrt.bands[0].dtype}, {pasted.file} is {source.bands[0].dtype}",
            build,
        )
    if source.bands[0].kind == "palette" and vrt.bands[0].kind != "palette":
        raise SourceError(
            f"{vrt.name}: shows {pasted.file} without its colour table",
            "expand it with gdal_translate -expand rgb",
        )
    measured, shown = source.bands[0], vrt.bands[0]
    lost = (measured.unit, measured.scale, measured.offset) != (
        shown.unit,
        shown.scale,
        shown.offset,
    )
    if lost and (measured.unit or measured.dtype != "uint8"):
        raise SourceError(
            f"{vrt.name}: does not hand on the unit, scale and offset of {pasted.file}",
            f"set them with gdal_edit.py, {OR_TILES}",
        )


def _check_validity(
    vrt: FileInfo, pasted: Pasted, source: FileInfo, declared: float | None
) -> None:
    """Raise SourceError where pixels that are not valid in a source would be in a band of the VRT.

    An alpha band of a VRT tells of its sources where they have one: gdalbuildvrt -addalpha makes
    one that only says where they lie. A mask tells whatever theirs do.
    """
    veiled = source.masked or source.alpha is not None
    own = {band.nodata for band in source.bands if _occurs(band.nodata, band.dtype)}
    own = set() if veiled else own
    if vrt.masked:
        lost = False
    elif vrt.alpha:
        lost = source.alpha is None and (source.masked or bool(own))
    else:
        unpainted = pasted.keyed or (pasted.masked and (veiled or bool(own)))
        lost = (
            (unpainted and declared is None)
            or (veiled and not pasted.masked)
            or (not (pasted.keyed or pasted.masked) and not _is_all_of(declared, own))
        )
    if lost:
        raise SourceError(
            f"{vrt.name}: does not hand on which pixels of {pasted.file} are valid",
            f"build it with gdalbuildvrt -vrtnodata, {OR_TILES}",
        )
    told = bool(own) or (vrt.alpha and source.alpha and source.interleaved)
    if source.unwritten and not told:
        raise SourceError(
            f"{vrt.name}: its source {pasted.file} holds blocks that were never written",
            f"fetch it again, {OR_TILES}",
        )


def _is_all_of(declared: float | None, own: set[float | None]) -> bool:
    """Return whether a band declares what is nodata in a source; it may be nan, or rounded."""
    wanted = np.array([*own], float)
    found = math.nan if declared is None else declared
    return bool(np.isclose(wanted, found, rtol=1e-6, atol=0, equal_nan=declared is not None).all())


def _occurs(nodata: float | None, dtype: str) -> bool:
    """Return whether a nodata value can occur in a type."""
    return nodata is not None and (dtype != "uint8" or (0 <= nodata <= 255 and nodata % 1 == 0))
