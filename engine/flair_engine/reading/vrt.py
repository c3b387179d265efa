"""GDAL virtual rasters made in memory: files that share a grid, joined before they are warped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.reading.files import BandChoice, FileInfo


class Placed(NamedTuple):
    """A file, and the row and column of its first pixel on a grid that several share."""

    info: FileInfo
    row: int
    col: int


GDAL_TYPES = {
    "uint8": "Byte",
    "int16": "Int16",
    "uint16": "UInt16",
    "int32": "Int32",
    "uint32": "UInt32",
    "float32": "Float32",
    "float64": "Float64",
}


def joined_vrt(placed: Sequence[Placed], choice: BandChoice) -> str:
    """Return the text of a VRT with the chosen bands of placed files.

    Bands carry no colour interpretation, so that none is mistaken for alpha; a mask or an alpha
    band that is not chosen becomes the VRT's mask.
    """
    first = placed[0].info
    top, left = min(at.row for at in placed), min(at.col for at in placed)
    height = max(at.row + at.info.height for at in placed) - top
    width = max(at.col + at.info.width for at in placed) - left
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if first.crs:
        ET.SubElement(root, "SRS").text = first.crs.to_wkt()
    origin = first.transform @ (left, top)
    t = first.transform
    geo = (origin[0], t.a, t.b, origin[1], t.d, t.e)
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, geo))
    shifted = [Placed(at.info, at.row - top, at.col - left) for at in placed]
    for number, source in enumerate(choice.numbers, start=1):
        kind = GDAL_TYPES.get(first.dtypes[source - 1], "Float32")
        band = ET.SubElement(root, "VRTRasterBand", dataType=kind, band=str(number))
        if choice.nodata is not None:
            ET.SubElement(band, "NoDataValue").text = repr(choice.nodata)
        _add_sources(band, shifted, str(source))
    if choice.masked or choice.mask_band:
        mask = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _add_sources(mask, shifted, str(choice.mask_band or "mask,1"))
    return ET.tostring(root, encoding="unicode")


def _add_sources(band: ET.Element, placed: Sequence[Placed], source_band: str) -> None:
    for info, row, col in placed:
        source = ET.SubElement(band, "SimpleSource")
        name = info.name if info.name.startswith("/vsi") else str(Path(info.name).resolve())
        ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = name
        ET.SubElement(source, "SourceBand").text = source_band
        width, height = str(info.width), str(info.height)
        ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
        ET.SubElement(source, "DstRect", xOff=str(col), yOff=str(row), xSize=width, ySize=height)
