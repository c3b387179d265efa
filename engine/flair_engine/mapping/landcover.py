"""The land-cover map: tiled, compressed GeoTIFFs with colours, class names and provenance.

Maps are assembled from finished strips under names in the run's own folder and renamed when
complete and checked, sidecars first and the map last: an output's name never shows a half-written
file.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.windows import Window as RasterioWindow

from flair_engine.durable import publish
from flair_engine.errors import WriteError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.grid import MAP_BLOCK_PX, Window, blocks, ceil_div
from flair_engine.mapping.journal import JOURNAL_FILES
from flair_engine.mapping.legend import (
    CONFIDENCE_NODATA,
    NODATA,
    category_names,
    confidence_style,
    qgis_style,
    rgba,
)
from flair_engine.mapping.standing import (
    foreign_style,
    gdal_sidecars,
    is_map,
    made_beside,
    names_of,
    stands,
    style_of,
)
from flair_engine.mapping.targets import output_path
from flair_engine.options import silent
from flair_engine.overlap import prefetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rasterio.crs import CRS
    from rasterio.io import DatasetReader, DatasetWriter

    from flair_engine.manifest import ModelSpec
    from flair_engine.mapping.targets import Target
    from flair_engine.options import LabelValues


BLOCK_PX = MAP_BLOCK_PX
PART_PX = (BLOCK_PX, 8 * BLOCK_PX)
"""Height and width of what is put together and written at a time: memory does not grow with the
width of a map."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapStyle:
    """What maps of one run have in common."""

    spec: ModelSpec
    crs: CRS | None
    transform: Affine
    """Of the whole raster; a map of a window moves it."""
    values: LabelValues
    tags: Mapping[str, str]
    cog: bool
    creation: Mapping[str, str] = field(default_factory=dict)
    """Options over those that maps are written with anyway; see mapping/creation.py."""


def nothing_beside(
    _rasters: Mapping[str, Path], _sidecars: Mapping[Path, bytes]
) -> dict[Path, bytes]:
    """Return what stands beside a map but for names and styles: nothing."""
    return {}


def write_maps(
    target: Target,
    style: MapStyle,
    read: Callable[[str, Window], np.ndarray],
    folder: Path,
    check: Callable[[], None] = silent,
    beside: Callable[
        [Mapping[str, Path], Mapping[Path, bytes]], Mapping[Path, bytes]
    ] = nothing_beside,
) -> None:
    """Assemble and publish every output of the model over the target's window of the raster.

    `labels` go to its path, the others to rasters of their own beside it. `read` returns uint8
    [bands, h, w] of an output and a window of it; `folder` is on the same file system as the
    target. `check` is called when all is written and nothing published, and raises where it must
    not be. Of the finished rasters, by output, and the texts beside them `beside` makes more files,
    which get their names with them. Old maps go with what GDAL has put beside them, and with their
    preview and Item; a style that is not ours is kept. Raises WriteError where the disk refuses;
    what was at the path is then still there.
    """
    path = target.path
    try:
        _clear(folder)
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be cleared ({error.strerror})", "mend that, then use --resume"
        ) from error
    rasters = {
        name: _made_map(folder / output_path(path, name).name, name, target.window, style, read)
        for name in style.spec.outputs
    }
    made = [(temporary, output_path(path, name)) for name, temporary in rasters.items()]
    try:
        sidecars = _sidecars(path, style)
        sidecars |= beside(rasters, sidecars)
        for sidecar, content in sidecars.items():
            temporary = folder / sidecar.name
            temporary.write_bytes(content)
            made.append((temporary, sidecar))
        check()
        # `labels` is the first output: its name comes last.
        files = sorted(made, key=lambda pair: pair[1] == path)
        stale = _stale([output_path(path, name) for name in style.spec.outputs])
        old = [old for old in made_beside(path) if old not in sidecars]
        publish(files, remove=[*stale, *old])
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be put in place ({error.strerror})", "mend that, then use --resume"
        ) from error


def _clear(folder: Path) -> None:
    """Remove what an earlier attempt left half written: GDAL would open it, not replace it."""
    for leftover in folder.iterdir():
        if leftover.name not in JOURNAL_FILES:
            leftover.unlink()


def _sidecars(path: Path, style: MapStyle) -> dict[Path, bytes]:
    """Return names and styles, by where they stand; a style that is not ours stays as it is."""
    texts = {names_of(path): category_names(style.spec, style.values)}
    styles = {path: qgis_style(style.spec, style.values)}
    if "confidence" in style.spec.outputs:
        styles[output_path(path, "confidence")] = confidence_style()
    texts |= {style_of(path): text for path, text in styles.items() if not foreign_style(path)}
    return {sidecar: text.encode() for sidecar, text in texts.items()}


def _stale(rasters: Sequence[Path]) -> list[Path]:
    """Return what GDAL would take for parts of the new maps but belongs to the old.

    Raises WriteError where something that is no map has come to a map's name during the run.
    """
    replaced = [raster for raster in rasters if stands(raster)]
    for raster in replaced:
        if not is_map(raster):
            raise WriteError(
                f"{raster}: came during the run and is no map of flair-engine",
                "move it away, then use --resume",
            )
    return [sidecar for raster in replaced for sidecar in gdal_sidecars(raster)]


def _made_map(
    path: Path,
    name: str,
    window: Window,
    style: MapStyle,
    read: Callable[[str, Window], np.ndarray],
) -> Path:
    """Write a map under a temporary name; return the name that it is at in the end."""
    _write_map(path, name, window, style, read)
    return as_cog(path, name, style.creation) if style.cog else path


def _write_map(
    path: Path,
    name: str,
    window: Window,
    style: MapStyle,
    read: Callable[[str, Window], np.ndarray],
) -> None:
    def windows() -> Iterator[tuple[RasterioWindow, np.ndarray]]:
        zero_based = name == "labels" and style.values == "zero-based"
        for part in blocks(
            Window(top=0, left=0, height=window.height, width=window.width), PART_PX
        ):
            pixels_bhw = read(
                name, replace(part, top=part.top + window.top, left=part.left + window.left)
            )
            where = RasterioWindow(part.left, part.top, part.width, part.height)
            yield where, _to_zero_based()[pixels_bhw] if zero_based else pixels_bhw

    try:
        # The next pixels are unpacked while GDAL compresses these.
        with _create(path, name, window, style) as dataset, closing(prefetched(windows())) as ahead:
            _decorate(dataset, name, style)
            for where, pixels_bhw in ahead:
                dataset.write(pixels_bhw, window=where)
        check_complete(path)
    except (*GDAL_ERRORS, OSError) as error:
        with suppress(OSError):  # else the next attempt removes it
            path.unlink()
        raise WriteError(
            f"{path.name}: cannot be written ({first_line(error)})",
            "check the free space of the disk, then continue with --resume",
        ) from error


def _create(path: Path, name: str, window: Window, style: MapStyle) -> DatasetWriter:
    spec = style.spec
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint8",
        count=max(c.value for c in spec.classes) if name == "probabilities" else 1,
        height=window.height,
        width=window.width,
        crs=style.crs,
        transform=style.transform @ Affine.translation(window.left, window.top),
        nodata={"labels": NODATA[style.values], "confidence": CONFIDENCE_NODATA}.get(name),
        tiled=True,
        blockxsize=BLOCK_PX,
        blockysize=BLOCK_PX,
        interleave="band",
        num_threads="all_cpus",
        # if_needed ignores what compression may fail to save
        **{"compress": "deflate", "bigtiff": "if_safer", **({} if style.cog else style.creation)},
    )


def _decorate(dataset: DatasetWriter, name: str, style: MapStyle) -> None:
    dataset.update_tags(**style.tags)
    if name == "labels":
        shift = style.values == "zero-based"
        colors = {entry.value - shift: rgba(entry.color) for entry in style.spec.classes}
        dataset.write_colormap(1, {**colors, NODATA[style.values]: (0, 0, 0, 0)})
    if name == "confidence":
        dataset.set_band_description(1, name)
    if name == "probabilities":
        for entry in style.spec.classes:
            dataset.set_band_description(entry.value, entry.name)
        others = [ColorInterp.undefined] * (dataset.count - 1)
        dataset.colorinterp = [ColorInterp.gray, *others]


def check_complete(path: Path) -> None:
    """Raise OSError where a block did not reach the file, overviews included.

    GDAL's compression threads swallow a write that fails, so closing proves nothing.
    """
    size = path.stat().st_size
    with rasterio.open(path) as dataset:
        for band in range(1, dataset.count + 1):
            for level in range(1 + len(dataset.overviews(band))):
                for row, col in _block_numbers(dataset, 2**level):
                    offset, length = _block_place(dataset, band, row, col, level)
                    if offset == 0 or offset + length > size:
                        raise OSError(f"block ({row}, {col}) is not in the file")


def _block_numbers(dataset: DatasetReader, factor: int) -> Iterator[tuple[int, int]]:
    """Return (row, column) of the blocks of an overview; factor 1 is the map itself."""
    rows, cols = (ceil_div(ceil_div(edge_px, factor), BLOCK_PX) for edge_px in dataset.shape)
    return product(range(rows), range(cols))


def _block_place(
    dataset: DatasetReader, band: int, row: int, col: int, level: int
) -> tuple[int, int]:
    """Return offset and length of a block in its file, 0 where it has none; level 0 is the map."""
    overview = level - 1 if level else None
    place = (
        dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band, ovr=overview)
        for what in ("OFFSET", "SIZE")
    )
    offset, length = (int(value or 0) for value in place)
    return offset, length


def as_cog(
    path: Path,
    name: str,
    creation: Mapping[str, str] = MappingProxyType({}),
    remedy: str = "check the free space of the disk, then continue with --resume",
) -> Path:
    """Return a Cloud-Optimized copy; overviews show the most frequent class.

    They are made in the file that is copied, whose bands lie apart: GDAL's COG driver would make
    those of all bands at once, over whole rows. Raises WriteError with the `remedy`.
    """
    cog = path.with_name(f"cog-{path.name}")
    try:
        _build_overviews(path, Resampling.mode if name == "labels" else Resampling.average)
        check_complete(path)
        rasterio.shutil.copy(
            path,
            cog,
            driver="COG",
            blocksize=BLOCK_PX,
            overviews="FORCE_USE_EXISTING",
            num_threads="ALL_CPUS",
            **{"compress": "DEFLATE", "bigtiff": "IF_SAFER", **creation},
        )
        check_complete(cog)
        path.unlink()
    except (*GDAL_ERRORS, OSError) as error:
        with suppress(OSError):
            cog.unlink()
        raise WriteError(
            f"{path.name}: cannot be made a COG ({first_line(error)})",
            remedy,
        ) from error
    return cog


def _build_overviews(path: Path, resampling: Resampling) -> None:
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"), rasterio.open(path, "r+") as dataset:
        if factors := _overview_factors(max(dataset.shape)):
            dataset.build_overviews(factors, resampling)


def _overview_factors(edge_px: int) -> list[int]:
    """Return the factors of overviews that a COG has: until one block shows all."""
    count = max(0, (edge_px - 1) // BLOCK_PX).bit_length()
    return [2**level for level in range(1, count + 1)]


def _to_zero_based() -> np.ndarray:
    """Return the table from 1..19, 0 nodata, to 0..18, 255 nodata: uint8 wraps around."""
    return np.arange(-1, 255).astype(np.uint8)
