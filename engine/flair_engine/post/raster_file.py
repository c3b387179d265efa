"""Rasters of classes as flair-post writes them: like the map they are made of."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import WriteError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.mapping.landcover import BLOCK_PX, as_cog, check_complete
from flair_engine.mapping.legend import names_sidecar, palette_style
from flair_engine.mapping.standing import (
    MAP_TAG,
    foreign_style,
    gdal_sidecars,
    names_of,
    stands,
    style_of,
)
from flair_engine.overlap import prefetched
from flair_engine.post.map_file import NO_DATA
from flair_engine.post.place import RUN_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from rasterio.io import DatasetReader, DatasetWriter

    from flair_engine.post.map_file import MapClass, MapFile


def write_raster(
    path: Path,
    like: MapFile,
    strips: Iterable[tuple[int, np.ndarray]],
    classes: Mapping[int, MapClass],
    tags: Mapping[str, str],
) -> Path:
    """Write strips of labels at `path`, on the pixels of a map; return what has been written.

    Blocks, compression, nodata, overviews and whether it is a COG are those of the map. Raises
    WriteError.
    """
    dataset = like.dataset
    levels = dataset.overviews(1)
    is_cog = dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    try:
        with _create(path, like) as made, closing(prefetched(_by_blocks(strips))) as ahead:
            made.update_tags(**tags)
            colors = {value: entry.rgba for value, entry in classes.items()}
            made.write_colormap(1, {**colors, like.nodata: (0, 0, 0, 0)})
            for top, rows_hw in ahead:
                where = RasterioWindow(0, top, rows_hw.shape[1], len(rows_hw))
                made.write(rows_hw, 1, window=where)
        check_complete(path)
        if is_cog:
            return as_cog(path, "labels", remedy=RUN_AGAIN)
        if levels:
            with rasterio.open(path, "r+") as made:
                made.build_overviews(levels, Resampling.mode)
    except (*GDAL_ERRORS, OSError) as error:
        raise WriteError(
            f"{path.name}: cannot be written ({first_line(error)})", RUN_AGAIN
        ) from error
    return path


def sidecars(
    target: Path, like: MapFile, classes: Mapping[int, MapClass], model: str, folder: Path
) -> list[tuple[Path, Path]]:
    """Write names and style of a raster into `folder`; return (temporary, target) pairs.

    A style of somebody else stays.
    """
    names = {like.nodata: NO_DATA, **{value: entry.name for value, entry in classes.items()}}
    texts = {names_of(target): names_sidecar(names, model)}
    if not foreign_style(target):
        texts[style_of(target)] = style(classes)
    made = []
    for place, text in texts.items():
        temporary = folder / place.name
        temporary.write_text(text, encoding="utf-8")
        made.append((temporary, place))
    return made


def style(classes: Mapping[int, MapClass]) -> str:
    """Return the QGIS style of a raster of classes."""
    return palette_style(
        (entry.value, entry.name, entry.color, entry.alpha) for entry in classes.values()
    )


def stale(target: Path) -> list[Path]:
    """Return what GDAL would take for parts of a new raster but belongs to the old."""
    return gdal_sidecars(target) if stands(target) else []


def tags_of(dataset: DatasetReader, done: str) -> dict[str, str]:
    """Return the tags of what is made of a map, with what has been done."""
    kept = {key: value for key, value in dataset.tags().items() if key != "AREA_OR_POINT"}
    before = kept.get("FLAIR_POST")
    return {**kept, "FLAIR_POST": f"{before}; {done}" if before else done}


def model_of(dataset: DatasetReader) -> str:
    """Return the name of the model that a map was made with."""
    return str(dataset.tags()[MAP_TAG])


def _create(path: Path, like: MapFile) -> DatasetWriter:
    dataset = like.dataset
    tiled = dataset.driver == "GTiff" and dataset.profile.get("tiled", False)
    rows, cols = dataset.block_shapes[0] if tiled else (BLOCK_PX, BLOCK_PX)
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=1,
        height=like.height,
        width=like.width,
        crs=dataset.crs,
        transform=dataset.transform,
        nodata=like.nodata,
        tiled=True,
        blockxsize=cols,
        blockysize=rows,
        compress=dataset.compression.name if tiled and dataset.compression else "deflate",
        num_threads="all_cpus",
        bigtiff="if_safer",
    )


def _by_blocks(strips: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield strips put together so that each block is written once."""
    waiting: list[np.ndarray] = []
    begin = 0
    for top, strip_hw in strips:
        waiting.append(strip_hw)
        whole = (top + len(strip_hw)) // BLOCK_PX * BLOCK_PX
        if whole > begin:
            rows_hw = np.concatenate(waiting)
            yield begin, rows_hw[: whole - begin]
            waiting, begin = [rows_hw[whole - begin :]], whole
    rows_hw = np.concatenate(waiting)
    if len(rows_hw):
        yield begin, rows_hw
