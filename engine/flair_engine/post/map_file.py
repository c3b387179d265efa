"""A map of flair-engine that is read again: classes, colours, tags, and its pixels by strips."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import rasterio
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import ReadError, SourceError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.mapping.legend import rgba
from flair_engine.mapping.standing import MAP_TAG, names_of
from flair_engine.mapping.targets import output_path
from flair_engine.post.ground import Ground

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from rasterio.io import DatasetReader

STRIP_PX = 2**21
"""Pixels that are worked on at a time: some hundred megabytes of what is made of them, whatever the
width of the map."""
MOST_ROWS = 512
"""Rows of a strip at most: those of a block."""
NAMES_BYTES = 2**28
"""More than any file of names is, or a VRT of a country."""
MAP_SUFFIXES = (".tif", ".tiff", ".vrt")
NO_DATA = "no data"


@dataclass(frozen=True, kw_only=True, slots=True)
class MapClass:
    """One entry of a map's legend."""

    value: int
    name: str
    color: str
    """`#rrggbb`."""
    alpha: int = 255
    """Opacity, 0 of what is not to be seen."""

    @property
    def rgba(self) -> tuple[int, int, int, int]:
        """Red, green, blue and opacity."""
        return (*rgba(self.color)[:3], self.alpha)


@dataclass(frozen=True, kw_only=True, slots=True)
class MapFile:
    """An open map."""

    path: Path
    dataset: DatasetReader
    classes: Mapping[int, MapClass]
    """By value; all that are named, whether they occur or not."""
    nodata: int
    named: bool
    """False where no names lie beside the map, so that classes are called by their value."""

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.dataset.height)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.dataset.width)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def class_of(self, value: int) -> MapClass:
        """Return the class of a value, one without a name called by its value."""
        known = self.classes.get(value)
        return known or MapClass(value=value, name=f"class {value}", color="#000000")

    def ground(self) -> Ground:
        """Return what pixels cover. Raises SourceError for a map without CRS."""
        if not self.dataset.crs:
            raise SourceError(
                f"{self.path}: has no CRS, so what its pixels cover is not known",
                "give it one, for example with gdal_edit -a_srs",
            )
        return Ground(self.dataset.crs, self.dataset.transform, self.height, self.width)

    def strips(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row of the first line, uint8 [rows, width]) from top to bottom."""
        yield from strips(self.dataset, self.path)

    def confidence_path(self) -> Path | None:
        """Return where the confidence of the map stands, None where it has none."""
        path = output_path(self.path, "confidence")
        return path if path.is_file() else None


def strips(dataset: DatasetReader, path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (row of the first line, [rows, width]) of band 1. Raises ReadError."""
    rows = strip_rows(dataset.width)
    for top in range(0, dataset.height, rows):
        yield top, read_rows(dataset, path, top, min(rows, dataset.height - top))


def strip_rows(width: int) -> int:
    """Return how many rows are worked on at a time."""
    return max(1, min(MOST_ROWS, STRIP_PX // width))


def read_rows(dataset: DatasetReader, path: Path, top: int, rows: int) -> np.ndarray:
    """Return [rows, width] of band 1. Raises ReadError."""
    try:
        window = RasterioWindow(0, top, dataset.width, rows)
        found: np.ndarray = dataset.read(1, window=window)
    except GDAL_ERRORS as error:
        raise ReadError(
            f"{path}: rows {top} to {top + rows} cannot be read ({first_line(error)})",
            "the file is damaged: make or fetch it again",
        ) from error
    return found


@contextmanager
def open_map(path: Path) -> Iterator[MapFile]:
    """Open a map of flair-engine, a GeoTIFF or a VRT of flair-post. Raises SourceError."""
    if path.suffix.lower() not in MAP_SUFFIXES or not path.is_file():
        found = "does not exist" if not path.exists() else "is no GeoTIFF and no VRT"
        raise SourceError(f"{path}: {found}", "name a map that flair-run has made")
    driver = "VRT" if path.suffix.lower() == ".vrt" else "GTiff"
    try:
        dataset = rasterio.open(path, driver=driver, sharing=False)
    except GDAL_ERRORS as error:
        raise SourceError(
            f"{path}: cannot be opened ({first_line(error)})", "name a map that flair-run has made"
        ) from error
    with dataset:
        yield _described(path, dataset)


def _described(path: Path, dataset: DatasetReader) -> MapFile:
    if MAP_TAG not in dataset.tags():
        raise SourceError(
            f"{path}: has no tag {MAP_TAG}, so is no map of flair-engine",
            "name one that flair-run or flair-post has made; of a folder of maps, make a VRT with "
            "flair-post vrt",
        )
    bands = zip(dataset.dtypes, dataset.colorinterp, strict=True)
    kinds = ", ".join(f"{dtype} {kind.name}" for dtype, kind in bands)
    if kinds != "uint8 palette" or dataset.nodata is None:
        raise SourceError(
            f"{path}: holds {kinds} with nodata {dataset.nodata}, expected uint8 labels with a "
            "palette and nodata",
            "name the map of labels, not that of confidence or probabilities",
        )
    names = _names(path)
    colors = _colors(dataset)
    nodata = int(dataset.nodata)
    shown = [value for value, color in colors.items() if any(color[:3])]
    values = names or {value: f"class {value}" for value in shown}
    classes = {}
    for value, name in values.items():
        if value != nodata:
            *parts, alpha = colors.get(value, (0, 0, 0, 255))
            color = "#" + bytes(parts).hex()
            classes[value] = MapClass(value=value, name=name, color=color, alpha=alpha)
    return MapFile(path=path, dataset=dataset, classes=classes, nodata=nodata, named=bool(names))


def _names(path: Path) -> dict[int, str]:
    """Return the category names of band 1, which rasterio does not know; none where none are.

    A VRT holds them itself, a GeoTIFF has them beside it. Raises SourceError for what cannot be
    taken apart.
    """
    holder = path if path.suffix.lower() == ".vrt" else names_of(path)
    if not holder.is_file() or holder.stat().st_size > NAMES_BYTES:
        return {}
    try:
        root = ET.parse(holder).getroot()
    except (ET.ParseError, OSError, ValueError) as error:
        raise SourceError(
            f"{holder}: the names of the classes cannot be read ({error})", "make the map again"
        ) from error
    found = next(iter(root.iter("CategoryNames")), None)
    entries = [] if found is None else list(found)
    return {value: entry.text for value, entry in enumerate(entries) if entry.text}


def _colors(dataset: DatasetReader) -> dict[int, tuple[int, ...]]:
    """Return the colours of band 1, with opacity; none where it has no table."""
    try:
        return dict(dataset.colormap(1))
    except ValueError:
        return {}
