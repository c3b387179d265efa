"""The land-cover map: a tiled, compressed GeoTIFF with colours, class names and provenance.

Everything is written under hidden names beside the output and renamed when complete, the map last,
so that the output's name never shows a half-written file.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import OutputError, WriteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from affine import Affine
    from rasterio.crs import CRS

    from flair_engine.manifest import ModelSpec
    from flair_engine.pipeline import LabelledStrip

LabelValues = Literal["flair", "zero-based"]

BLOCK_PX = 512
NODATA = {"flair": 0, "zero-based": 255}


class MapWriter(AbstractContextManager["MapWriter"]):
    """Writes the model's outputs strip by strip; `publish` makes them appear.

    `labels` go to `path`; `confidence` and `probabilities`, where the model has them, to rasters
    of their own beside it. Leaving the context without `publish` removes what was written.
    Raises OutputError where the map cannot be put there, WriteError where writing fails.
    """

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        *,
        height: int,
        width: int,
        crs: CRS | None,
        transform: Affine,
        values: LabelValues,
        tags: Mapping[str, str],
        overwrite: bool,
    ) -> None:
        check_output(path, overwrite=overwrite)
        self._spec = spec
        self._values: LabelValues = values
        self._path = path
        self._tags = tags
        grid = {"height": height, "width": width, "crs": crs, "transform": transform}
        self._rasters = {
            name: _BlockWriter(
                output_path(path, name),
                count=len(spec.classes) if name == "probabilities" else 1,
                nodata=NODATA[values] if name == "labels" else None,
                grid=grid,
            )
            for name in spec.outputs
        }
        self._decorate()

    def write(self, strip: LabelledStrip) -> None:
        """Append the next strip, in order from the top."""
        for name, rows in strip.outputs.items():
            if name == "labels" and self._values == "zero-based":
                rows = rows - np.uint8(1)
            self._rasters[name].append(rows)

    def publish(self) -> None:
        """Finish every raster and rename it to its final name, the map last."""
        for raster in self._rasters.values():
            raster.finish()
        names = write_category_names(
            temporary(self._path).with_suffix(".aux.xml"), self._spec, self._values
        )
        try:
            names.replace(f"{self._path}.aux.xml")
            for raster in reversed(self._rasters.values()):
                raster.temporary.replace(raster.path)
        except OSError as error:
            raise WriteError(f"{self._path}: cannot be put in place ({error.strerror})") from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for raster in self._rasters.values():
            raster.discard()

    def _decorate(self) -> None:
        shift = self._values == "zero-based"
        colors = {entry.value - shift: _rgba(entry.color) for entry in self._spec.classes}
        colors[NODATA[self._values]] = (0, 0, 0, 0)
        self._rasters["labels"].dataset.write_colormap(1, colors)
        for raster in self._rasters.values():
            raster.dataset.update_tags(**self._tags)
        if "probabilities" in self._rasters:
            dataset = self._rasters["probabilities"].dataset
            for number, entry in enumerate(self._spec.classes, start=1):
                dataset.set_band_description(number, entry.name)
            dataset.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (number - 1)]


class _BlockWriter:
    """One GeoTIFF under a temporary name, written in whole rows of blocks."""

    def __init__(
        self, path: Path, *, count: int, nodata: int | None, grid: Mapping[str, object]
    ) -> None:
        self.path = path
        self.temporary = temporary(path)
        self._rows: list[np.ndarray] = []
        self._top = 0
        try:
            self.dataset = rasterio.open(
                self.temporary,
                "w",
                driver="GTiff",
                dtype="uint8",
                count=count,
                nodata=nodata,
                tiled=True,
                blockxsize=BLOCK_PX,
                blockysize=BLOCK_PX,
                interleave="band",
                compress="deflate",
                num_threads="all_cpus",
                bigtiff="if_safer",  # if_needed ignores what compression may fail to save
                **grid,
            )
        except RasterioError as error:
            raise OutputError(f"{path}: cannot be created ({_reason(error)})") from error

    def append(self, rows: np.ndarray) -> None:
        """Take uint8 [rows, width] or [bands, rows, width]; write what completes blocks."""
        self._rows.append(rows.reshape(-1, *rows.shape[-2:]))
        if sum(part.shape[1] for part in self._rows) >= BLOCK_PX:
            pending = np.concatenate(self._rows, axis=1)
            whole = pending.shape[1] // BLOCK_PX * BLOCK_PX
            self._write(pending[:, :whole])
            self._rows = [pending[:, whole:]]

    def finish(self) -> None:
        """Write what is left and close the file."""
        if self._rows:
            self._write(np.concatenate(self._rows, axis=1))
        self.dataset.close()

    def discard(self) -> None:
        """Close and remove the temporary file where it is still there."""
        self.dataset.close()
        self.temporary.unlink(missing_ok=True)

    def _write(self, rows_bhw: np.ndarray) -> None:
        _, height, width = rows_bhw.shape
        try:
            self.dataset.write(rows_bhw, window=RasterioWindow(0, self._top, width, height))
        except RasterioError as error:
            raise WriteError(
                f"{self.path}: rows {self._top} to {self._top + height - 1} cannot be written "
                f"({_reason(error)}). Check the free space of the disk"
            ) from error
        self._top += height


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless a map can be put at `path`."""
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder: give the name of the map, ending in .tif")
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{path}: the map is a GeoTIFF: give a name ending in .tif")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already: use --overwrite, or another name")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: the folder {path.parent} is not writable by you")


def output_path(path: Path, name: str) -> Path:
    """Return where output `name` goes: NAME.tif for labels, NAME.confidence.tif and so on."""
    return path if name == "labels" else path.with_name(f"{path.stem}.{name}{path.suffix}")


def temporary(path: Path) -> Path:
    """Return the hidden name `path` is written under."""
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def write_category_names(path: Path, spec: ModelSpec, values: LabelValues) -> Path:
    """Write GDAL's PAM sidecar: category n names pixel value n. rasterio cannot write it."""
    shift = values == "zero-based"
    names = {entry.value - shift: entry.name for entry in spec.classes}
    if not shift:
        names[NODATA["flair"]] = "no data"
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    categories = ET.SubElement(band, "CategoryNames")
    for value in range(max(names) + 1):
        ET.SubElement(categories, "Category").text = names.get(value, "")
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8")
    return path


def _rgba(color: str) -> tuple[int, int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue, 255


def _reason(error: Exception) -> str:
    return str(error.__cause__ or error).splitlines()[0]
