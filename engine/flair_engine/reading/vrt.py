"""GDAL virtual rasters: which files they are made of, and where each of them lies.

GDAL reads zeros where no source lies and no nodata is declared, does not always say that a source
is gone, and gives a mosaic's direct sources alone as its files.
"""

from __future__ import annotations

import math
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


class Pasted(NamedTuple):
    """A file in a VRT, and the pixels of the VRT that it covers."""

    file: str
    window: Window


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What a VRT is made of."""

    files: tuple[str, ...] = ()
    """Names of files, those of VRTs inside it too."""
    pasted: tuple[Pasted, ...] | None = None
    """What lies where, VRTs inside it taken apart; None where that is not known: bands that are
    computed, or made otherwise than of rectangles."""


def sources_of(dataset: DatasetReader) -> Sources:
    """Return what an open VRT is made of."""
    text = (dataset.tags(ns="xml:VRT") or {}).get("xml:VRT", "")
    return _sources(text, Path(dataset.name).parent, DEEPEST)


def _sources(text: str, folder: Path, deepest: int) -> Sources:
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return Sources()
    names = [_source_name(element, folder) for element in root.iter("SourceFilename")]
    names += [element.text or "" for element in root.iter("SourceDataset")]
    inside = {name: _inside(name, deepest) for name in dict.fromkeys(names)}
    files = [file for name, sources in inside.items() for file in (name, *sources.files)]
    return Sources(files=tuple(dict.fromkeys(files)), pasted=_pasted(root, folder, inside))


def _inside(name: str, deepest: int) -> Sources:
    """Return what a source is made of where it is itself a VRT, nothing for another file."""
    path = Path(name)
    if deepest == 0 or path.suffix.lower() != ".vrt" or not path.is_file():
        return Sources()
    return _sources(path.read_text(encoding="utf-8", errors="replace"), path.parent, deepest - 1)


def _source_name(element: ET.Element, folder: Path) -> str:
    name = element.text or ""
    return str(folder / name) if element.get("relativeToVRT") == "1" else name


def _pasted(
    root: ET.Element, folder: Path, inside: dict[str, Sources]
) -> tuple[Pasted, ...] | None:
    """Return where the sources of the first band lie; None where that cannot be told."""
    band = root.find("VRTRasterBand")
    if band is None or root.get("subClass") or band.get("subClass"):
        return None
    sources = [element for element in band if element.find("SourceFilename") is not None]
    if not sources or any(element.tag not in PASTED for element in sources):
        return None
    whole = (int(root.get("rasterXSize", "0")), int(root.get("rasterYSize", "0")))
    pasted: list[Pasted] = []
    for element in sources:
        (name,) = (_source_name(name, folder) for name in element.iter("SourceFilename"))
        pasted += _placed(element, name, inside[name], whole)
    return tuple(pasted)


def _placed(
    element: ET.Element, name: str, source: Sources, whole: tuple[int, int]
) -> list[Pasted]:
    """Return where one of its sources, or what that is made of, lies in a VRT."""
    target, taken = (_rectangle(element.find(name)) for name in ("DstRect", "SrcRect"))
    if target is None and taken is None:  # at the origin, in its own size
        target = taken = (0, 0, *_size(name))
    if target is None or taken is None:  # GDAL paints nothing
        return []
    if source.pasted is None:
        return [Pasted(name, _window(*target))]
    left, top, width, height = taken
    scale_x, scale_y = target[2] / width, target[3] / height
    here = _window(*target).intersection(Window(top=0, left=0, height=whole[1], width=whole[0]))
    moved = (
        Pasted(
            file,
            _window(
                target[0] + (window.left - left) * scale_x,
                target[1] + (window.top - top) * scale_y,
                window.width * scale_x,
                window.height * scale_y,
            ).intersection(here),
        )
        for file, window in source.pasted
    )
    return [placed for placed in moved if placed.window.pixels]


def _size(name: str) -> tuple[int, int]:
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
