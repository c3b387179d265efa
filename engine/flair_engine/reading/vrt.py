"""GDAL virtual rasters: which files they are made of, and where each of them lies.

GDAL reads zeros where no source lies or paints and no nodata is declared, does not always say that
a source is gone, and gives a mosaic's direct sources alone as its files.
"""

from __future__ import annotations

import math
import os
import posixpath
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import rasterio

from flair_engine.gdal import GDAL_ERRORS
from flair_engine.grid import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

PASTED = ("SimpleSource", "ComplexSource", "AveragedSource", "KernelFilteredSource")
"""Elements that put a rectangle of a file into a rectangle of the VRT."""

DEEPEST = 8
"""VRTs inside VRTs that are followed: they may name one another in a circle."""

HEAD_BYTES = 1024
"""Bytes of a file within which a VRT says that it is one."""

Size = tuple[int, int]
"""Columns and rows."""


class Pasted(NamedTuple):
    """A file in a VRT, and the pixels of the VRT that it covers."""

    file: str
    window: Window
    below: tuple[str, ...] = ()
    """Files that `file` is itself made of: a VRT that is not taken apart."""
    computed: bool = False
    """It is a VRT that computes its pixels."""
    keyed: bool = False
    """Pixels of it that are a nodata value are left unpainted."""
    masked: bool = False
    """Pixels of it that its mask says are not valid are left unpainted."""
    size: Size | None = None
    """What the VRT says the file has."""
    reach: Size = (0, 0)
    """Of the file, what the VRT takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What a VRT is made of."""

    files: tuple[str, ...] = ()
    """Names of files, those of VRTs inside it too."""
    pasted: tuple[tuple[Pasted, ...] | None, ...] = ()
    """By band what lies where, VRTs inside it taken apart; None where that is not known: bands
    that are computed, or made otherwise than of rectangles."""
    computed: bool = False
    """Whether bands are computed by a pixel function."""


NO_VRT = Sources()
UNKNOWN = Sources(pasted=(None,))


def sources_of(dataset: DatasetReader) -> Sources:
    """Return what an open VRT is made of. Raises UnicodeDecodeError for one not in UTF-8."""
    return _sources(_text(dataset), _name(dataset), DEEPEST)


def _text(dataset: DatasetReader) -> str:
    """Return what GDAL has understood of a VRT; it leaves out what the sources' sizes were."""
    return str((dataset.tags(ns="xml:VRT") or {}).get("xml:VRT", ""))


def _name(dataset: DatasetReader) -> str:
    """Return what GDAL calls an open VRT: of zip:// and the like it knows another name."""
    name = str(dataset.name)
    foreign = "://" in name and not name.startswith("vrt://") and not _is_file(name)
    return str(dataset.files[0]) if foreign and dataset.files else name


def _is_file(name: str) -> bool:
    return os.path.isfile(name)  # noqa: PTH113  False, too, for what no file can be called


def _folder(name: str) -> str:
    """Return the folder that relative names of a VRT count from: the file's, not that of a link."""
    return posixpath.dirname(os.path.realpath(name) if _is_file(name) else name)


def _sources(text: str, name: str, deepest: int) -> Sources:
    folder = _folder(name)
    try:
        root = ET.fromstring(text)
        named = [*root.iter("SourceFilename"), *root.iter("SourceDataset")]
        inside = {
            source: _inside(source, deepest)
            for source in dict.fromkeys(_source_name(element, folder) for element in named)
        }
        bands = [_pasted(root, band, folder, inside) for band in root.findall("VRTRasterBand")]
    except UnicodeError:
        raise
    except (ET.ParseError, ValueError, ZeroDivisionError, OverflowError):
        return UNKNOWN
    files = [file for source, found in inside.items() for file in (source, *found.files)]
    sizes = _stated_sizes(name, folder)
    return Sources(
        files=tuple(dict.fromkeys(files)),
        pasted=tuple(
            band and tuple(p._replace(size=sizes.get(p.file, p.size)) for p in band)
            for band in bands
        ),
        computed=root.find("VRTRasterBand[@subClass='VRTDerivedRasterBand']") is not None,
    )


def _stated_sizes(name: str, folder: str) -> dict[str, Size]:
    """Return what a VRT on disk says that its sources have, by their names."""
    try:
        root = ET.fromstring(Path(name).read_bytes())
        return {
            _source_name(file, folder): (
                int(properties.get("RasterXSize", "")),
                int(properties.get("RasterYSize", "")),
            )
            for element in root.iter()
            for file in element.findall("SourceFilename")
            for properties in element.findall("SourceProperties")
        }
    except (OSError, ET.ParseError, ValueError, LookupError):
        return {}


def _inside(name: str, deepest: int) -> Sources:
    """Return what a source is made of where it is itself a VRT, nothing for another file."""
    if deepest == 0 or not _may_be_vrt(name):
        return NO_VRT
    try:
        with rasterio.open(name) as dataset:
            if dataset.driver != "VRT":
                return Sources(files=tuple(dataset.files))
            text = _text(dataset)
    except GDAL_ERRORS:  # a source of it is gone
        if not _is_file(name):
            return UNKNOWN
        text = Path(name).read_text(errors="replace")
    return _sources(text, name, deepest - 1)


def _may_be_vrt(name: str) -> bool:
    if _is_file(name):
        with Path(name).open("rb") as file:
            return b"<VRTDataset" in file.read(HEAD_BYTES)
    return name.startswith(("/vsi", "vrt://")) or name.lstrip().startswith("<")


def _source_name(element: ET.Element, folder: str) -> str:
    name = (element.text or "").lstrip()  # what follows the name is a part of it to GDAL
    relative = element.get("relativeToVRT", element.get("relativetoVRT")) == "1"
    return posixpath.join(folder, name) if relative and folder else name


def _pasted(
    root: ET.Element, band: ET.Element, folder: str, inside: dict[str, Sources]
) -> tuple[Pasted, ...] | None:
    """Return where the sources of a band lie; None where that cannot be told."""
    if root.get("subClass") or band.get("subClass"):
        return None
    sources = [element for element in band if element.find("SourceFilename") is not None]
    if not sources or any(element.tag not in PASTED for element in sources):
        return None
    whole = Window(
        top=0,
        left=0,
        height=int(root.get("rasterYSize", "")),
        width=int(root.get("rasterXSize", "")),
    )
    pasted: list[Pasted] = []
    for element in sources:
        (name,) = (_source_name(found, folder) for found in element.iter("SourceFilename"))
        number = int((element.findtext("SourceBand") or "1").split(",")[-1])
        pasted += _placed(element, name, number, inside[name], whole)
    return tuple(pasted)


def _placed(
    element: ET.Element, name: str, number: int, source: Sources, whole: Window
) -> list[Pasted]:
    """Return where one of its sources, or what that is made of, lies in a VRT."""
    target, taken = (_rectangle(element.find(rectangle)) for rectangle in ("DstRect", "SrcRect"))
    if target is None and taken is None:  # at the origin, in its own size
        target = taken = (0, 0, *_size(name))
    if target is None or taken is None:  # GDAL paints nothing
        return []
    keyed = element.find("NODATA") is not None
    masked = element.findtext("UseMaskBand", "").lower() in ("true", "yes", "on", "1")
    here = _window(*target).intersection(whole)
    deeper = source.pasted[number - 1] if 0 < number <= len(source.pasted) else None
    if deeper is None:
        below = source.files if source.pasted else ()
        right, bottom = (math.ceil(taken[n] + taken[n + 2] - 0.001) for n in (0, 1))
        return [
            Pasted(
                name,
                here,
                below,
                computed=source.computed,
                keyed=keyed,
                masked=masked,
                reach=(right, bottom),
            )
        ]
    left, top, width, height = taken
    scale_x, scale_y = target[2] / width, target[3] / height
    moved = (
        pasted._replace(
            window=_window(
                target[0] + (pasted.window.left - left) * scale_x,
                target[1] + (pasted.window.top - top) * scale_y,
                pasted.window.width * scale_x,
                pasted.window.height * scale_y,
            ).intersection(here),
            keyed=keyed or pasted.keyed,
            masked=masked or pasted.masked,
        )
        for pasted in deeper
    )
    return [pasted for pasted in moved if pasted.window.pixels]


def _size(name: str) -> Size:
    """Return the columns and rows of a file, none of one that cannot be opened."""
    try:
        with rasterio.open(name) as dataset:
            return dataset.width, dataset.height
    except GDAL_ERRORS:
        return 0, 0


def _rectangle(element: ET.Element | None) -> tuple[float, float, float, float] | None:
    if element is None:
        return None
    left, top, width, height = (
        float(element.get(key, "0")) for key in ("xOff", "yOff", "xSize", "ySize")
    )
    return left, top, width, height


def _window(left: float, top: float, width: float, height: float) -> Window:
    """Return the pixels that GDAL paints of a rectangle: those it touches, by a thousandth."""
    first_col, first_row = math.floor(left + 0.001), math.floor(top + 0.001)
    return Window(
        top=first_row,
        left=first_col,
        height=math.ceil(top + height - 0.001) - first_row,
        width=math.ceil(left + width - 0.001) - first_col,
    )
