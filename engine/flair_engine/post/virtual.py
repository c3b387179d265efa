"""One virtual raster (VRT) over the maps of a folder, with their colours and names."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio

from flair_engine.crs import same_crs
from flair_engine.errors import SourceError
from flair_engine.manifest import OUTPUT_NAMES
from flair_engine.mapping.landcover import BLOCK_PX
from flair_engine.mapping.legend import categories
from flair_engine.mapping.standing import MAP_TAG, is_map
from flair_engine.mapping.targets import output_path
from flair_engine.options import silent
from flair_engine.post.map_file import NO_DATA, open_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from affine import Affine
    from rasterio.crs import CRS

    from flair_engine.post.map_file import MapClass, MapFile

NEAR_PX = 1e-3
"""Share of a pixel by which maps of one pixel grid may lie apart: origins are written with few
digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tile:
    """What one map has to share with the others, and where it is."""

    path: Path
    crs: CRS | None
    transform: Affine
    height: int
    width: int
    nodata: int
    classes: Mapping[int, MapClass]
    tags: Mapping[str, str]


def maps_in(folder: Path) -> list[Path]:
    """Return the maps of labels in a folder by name. Raises SourceError where there is none."""
    others = tuple(f".{name}" for name in OUTPUT_NAMES if name != "labels")
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".tif", ".tiff")
        and not path.stem.endswith(others)
        and is_map(path)
    ]
    if not found:
        raise SourceError(
            f"{folder}: holds no map of flair-engine", "name the folder of flair-run --per-input"
        )
    return found


def write_virtual(
    folder: Path,
    paths: Sequence[Path],
    place: Path,
    relative_to: Path,
    notify: Callable[[str], None] = silent,
) -> list[Path]:
    """Write a VRT of maps as `folder / place.name`, and one of their confidence where all have it.

    Return what was written, the maps' first. Sources are named from `relative_to`, where the VRT
    is to stand; `notify` is told where they overlap. Raises SourceError where the maps do not fit
    one another.
    """
    tiles = [_tile(path) for path in paths]
    _check_alike(tiles)
    if _overlap(*_places(tiles)):
        notify(
            f"{paths[0].parent}: maps overlap; there the last by name is shown and counted, where "
            "it has a label"
        )
    made = [(tiles, place.name, "labels")]
    beside = [output_path(path, "confidence") for path in paths]
    if all(map(is_map, beside)):
        made.append((tiles, output_path(place, "confidence").name, "confidence"))
    written = []
    for group, name, output in made:
        text = _text(group, output, relative_to)
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


@contextmanager
def open_maps(path: Path, folder: Path, notify: Callable[[str], None]) -> Iterator[MapFile]:
    """Open a map, or all maps of a folder as one; `folder` is for what that takes.

    Raises SourceError.
    """
    if path.is_dir():
        paths = maps_in(path)
        path = write_virtual(folder, paths, Path(f"{path.name or 'maps'}.vrt"), folder, notify)[0]
    with open_map(path) as opened:
        if not opened.named:
            notify(
                f"{opened.path}: no names of classes lie beside it ({opened.path.name}.aux.xml); "
                "they are called by their value"
            )
        yield opened


def _tile(path: Path) -> _Tile:
    with open_map(path) as opened:
        dataset = opened.dataset
        return _Tile(
            path=path,
            crs=dataset.crs,
            transform=dataset.transform,
            height=opened.height,
            width=opened.width,
            nodata=opened.nodata,
            classes=opened.classes,
            tags=dataset.tags(),
        )


def _check_alike(tiles: Sequence[_Tile]) -> None:
    """Raise SourceError where two maps are not of one pixel grid, or of other classes."""
    first = tiles[0]
    for tile in tiles[1:]:
        col, row = _offset(first, tile)
        if not same_crs(first.crs, tile.crs):
            found = f"is in {tile.crs}, {first.path.name} in {first.crs}"
        elif not _same_pixels(first.transform, tile.transform):
            found = f"has pixels of another size than {first.path.name}"
        elif max(abs(col - round(col)), abs(row - round(row))) > NEAR_PX:
            found = f"lies {col:.3f} columns and {row:.3f} rows from {first.path.name}"
        elif (tile.nodata, tile.classes) != (first.nodata, first.classes):
            found = f"has other classes, values or colours than {first.path.name}"
        else:
            continue
        raise SourceError(f"{tile.path}: {found}", "put maps of one run in a folder of their own")


def _same_pixels(one: Affine, other: Affine) -> bool:
    return np.allclose(tuple(one)[:2] + tuple(one)[3:5], tuple(other)[:2] + tuple(other)[3:5],
                       rtol=1e-9, atol=1e-12)  # fmt: skip


def _offset(first: _Tile, tile: _Tile) -> tuple[float, float]:
    """Return the columns and rows from the corner of one map to that of another."""
    col, row = ~first.transform @ (tile.transform.c, tile.transform.f)
    return float(col), float(row)


def _text(tiles: Sequence[_Tile], output: str, relative_to: Path) -> str:
    first = tiles[0]
    offsets, sizes = _places(tiles)
    least = offsets.min(axis=0)
    width, height = (offsets + sizes).max(axis=0) - least
    corner = first.transform @ tuple(map(int, least))
    g = first.transform
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if first.crs:
        ET.SubElement(root, "SRS").text = first.crs.to_wkt()
    numbers = (corner[0], g.a, g.b, corner[1], g.d, g.e)
    ET.SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, numbers)))
    metadata = ET.SubElement(root, "Metadata")
    for key, value in _shared_tags(tiles).items():
        ET.SubElement(metadata, "MDI", key=key).text = value
    band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band="1",
                         blockXSize=str(BLOCK_PX), blockYSize=str(BLOCK_PX))  # fmt: skip
    if output == "labels":
        _describe(band, first)
    overlap = _overlap(offsets, sizes)
    for tile, offset in zip(tiles, offsets - least, strict=True):
        path = tile.path if output == "labels" else output_path(tile.path, output)
        _add_source(band, tile, path, offset, relative_to, blend=overlap and output == "labels")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _describe(band: ET.Element, tile: _Tile) -> None:
    """Add nodata, names and colours to a band."""
    ET.SubElement(band, "NoDataValue").text = str(tile.nodata)
    ET.SubElement(band, "ColorInterp").text = "Palette"
    names = {tile.nodata: NO_DATA, **{v: entry.name for v, entry in tile.classes.items()}}
    if tile.nodata > max(tile.classes, default=0):
        del names[tile.nodata]  # as flair-run writes them
    band.append(categories(names))
    table = ET.SubElement(band, "ColorTable")
    for value in range(256):
        known = tile.classes.get(value)
        color = known.rgba if known else (0, 0, 0, 0 if value == tile.nodata else 255)
        numbers = {f"c{n}": str(part) for n, part in enumerate(color, 1)}
        ET.SubElement(table, "Entry", numbers)


def _add_source(
    band: ET.Element,
    tile: _Tile,
    path: Path,
    offset: np.ndarray,
    relative_to: Path,
    *,
    blend: bool,
) -> None:
    """Add a map to a band; where maps overlap, nodata of one hides nothing of another."""
    source = ET.SubElement(band, "ComplexSource" if blend else "SimpleSource")
    name, is_relative = _name_from(path, relative_to)
    named = ET.SubElement(source, "SourceFilename", relativeToVRT=str(int(is_relative)))
    named.text = name
    ET.SubElement(source, "SourceBand").text = "1"
    size = {"xSize": str(tile.width), "ySize": str(tile.height)}
    ET.SubElement(source, "SourceProperties", RasterXSize=str(tile.width),
                  RasterYSize=str(tile.height), DataType="Byte",
                  BlockXSize=str(BLOCK_PX), BlockYSize=str(BLOCK_PX))  # fmt: skip
    ET.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    ET.SubElement(source, "DstRect", {"xOff": str(offset[0]), "yOff": str(offset[1]), **size})
    if blend:
        ET.SubElement(source, "NODATA").text = str(tile.nodata)


def _name_from(path: Path, folder: Path) -> tuple[str, bool]:
    """Return the name of a file from a folder, and whether it is one: not from another drive."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix(), True
    except ValueError:
        return str(path.resolve()), False


def _shared_tags(tiles: Sequence[_Tile]) -> dict[str, str]:
    """Return the tags that all maps have in common; the model is said even where it is not one."""
    shared = {
        key: value
        for key, value in tiles[0].tags.items()
        if all(tile.tags.get(key) == value for tile in tiles)
    }
    return {MAP_TAG: "several models", **shared}


def _places(tiles: Sequence[_Tile]) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets of maps from the first, and their sizes: (columns, rows) each."""
    offsets = np.array([_offset(tiles[0], tile) for tile in tiles]).round().astype(int)
    return offsets, np.array([(tile.width, tile.height) for tile in tiles])


def _overlap(offsets: np.ndarray, sizes: np.ndarray) -> bool:
    """Return whether any two of some rectangles share a pixel."""
    return any(
        ((offsets[n] < offsets[:n] + sizes[:n]) & (offsets[:n] < offsets[n] + sizes[n]))
        .all(axis=1)
        .any()
        for n in range(1, len(offsets))
    )


def is_virtual_map(path: Path) -> bool:
    """Return whether a VRT of flair-post stands at `path`."""
    try:
        with rasterio.open(path, driver="VRT", sharing=False) as dataset:
            return MAP_TAG in dataset.tags()
    except Exception:  # noqa: BLE001  whatever GDAL says of it
        return False
