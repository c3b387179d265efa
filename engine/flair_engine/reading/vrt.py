"""GDAL virtual rasters made in memory: files that share a grid, joined before they are warped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.reading.files import BandChoice, FileInfo

GDAL_TYPES = {
    "uint8": "Byte",
    "int16": "Int16",
    "uint16": "UInt16",
    "int32": "Int32",
    "uint32": "UInt32",
    "float32": "Float32",
    "float64": "Float64",
}


def joined_vrt(placed: Sequence[tuple[FileInfo, int, int]], choice: BandChoice) -> str:
    """Return the text of a VRT with the chosen bands of (file, row, column) placed files.

    Bands carry no colour interpretation, so that none is mistaken for alpha; a mask or an alpha
    band that is not chosen becomes the VRT's mask.
    """
    first = placed[0][0]
    top, left = min(row for _, row, _ in placed), min(col for _, _, col in placed)
    height = max(row + info.height for info, row, _ in placed) - top
    width = max(col + info.width for info, _, col in placed) - left
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if first.crs:
        ET.SubElement(root, "SRS").text = first.crs.to_wkt()
    origin = first.transform @ (left, top)
    t = first.transform
    geo = (origin[0], t.a, t.b, origin[1], t.d, t.e)
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, geo))
    shifted = [(info, row - top, col - left) for info, row, col in placed]
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


def _add_sources(
    band: ET.Element, placed: Sequence[tuple[FileInfo, int, int]], source_band: str
) -> None:
    for info, row, col in placed:
        source = ET.SubElement(band, "SimpleSource")
        name = info.name if info.name.startswith("/vsi") else str(Path(info.name).resolve())
        ET.SubElement(source, "SourceFilename", relativeToVRT="0").text = name
        ET.SubElement(source, "SourceBand").text = source_band
        width, height = str(info.width), str(info.height)
        ET.SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=width, ySize=height)
        ET.SubElement(source, "DstRect", xOff=str(col), yOff=str(row), xSize=width, ySize=height)
