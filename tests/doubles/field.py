"""Rasters as people have them, flair-run in this process, and what numpy answers."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.transform import xy
from rasterio.warp import transform

from doubles.rasters import LAMBERT_93, ORIGIN_M
from flair_engine.cli import command
from flair_engine.command import run_command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

X, Y = ORIGIN_M
LOCAL = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1]]'
"""What IGN's own files carry instead of EPSG:2154."""
NOTE = "flair-run: note: "
WARNING = "flair-run: warning: "


class Outcome(NamedTuple):
    """What a run of the command left."""

    code: int
    out: str
    err: str

    @property
    def notices(self) -> str:
        """What was told on the way, a line each."""
        return "\n".join(x for x in self.err.splitlines() if x.startswith((NOTE, WARNING)))


class Mapped(NamedTuple):
    """A map, its report, and what was told."""

    labels: np.ndarray
    report: dict[str, Any]
    notices: str

    @property
    def hectares(self) -> float:
        """Of all classes."""
        return sum(self.report["hectares_by_class"].values())


def flair_run(*arguments) -> Outcome:
    """Run the command here, on the CPU."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    given = [*map(str, arguments), "--engine", "ort", "--device", "cpu", "--threads", "2"]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            run_command(command, "flair-run", arguments=given)
        except SystemExit as left:
            code = int(left.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def mapped(model: Path, output: Path, *arguments, code: int = 0) -> Mapped:
    """Run the command on `arguments`; return what it made."""
    report = output.with_name(f"{output.name}.json")
    outcome = flair_run("-m", model, *arguments, output, "--report", report)
    assert outcome.code == code, outcome.err
    return Mapped(read_map(output), json.loads(report.read_text()), outcome.notices)


def mapped_apart(model: Path, folder: Path, *arguments) -> Outcome:
    """Run the command with --per-input into a new folder."""
    folder.mkdir()
    outcome = flair_run("-m", model, *arguments, folder, "--per-input")
    assert outcome.code == 0, outcome.err
    return outcome


def refused(model: Path, *arguments) -> str:
    """Return the one line with which the command refuses `arguments`."""
    return said(flair_run("-m", model, *arguments), 2)


def said(outcome: Outcome, code: int) -> str:
    """Return the one line of a run that ended with `code`."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    lines = [x for x in outcome.err.splitlines() if not x.startswith(NOTE)]
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("flair-run: ")
    return lines[0]


def read_map(path: Path) -> np.ndarray:
    """Return the first band of a raster."""
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def noise(bands: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return uint8 [bands, H, W] from 1 to 254, so that 0 and 255 are free for nodata."""
    return np.random.default_rng(seed).integers(1, 255, (bands, height, width)).astype(np.uint8)


def flat(value: float, height: int, width: int, dtype: str = "uint8") -> np.ndarray:
    """Return one band [1, H, W] of one value."""
    return np.full((1, height, width), value, dtype)


def write(
    path: Path,
    image_bhw: np.ndarray,
    *,
    row: float = 0,
    col: float = 0,
    gsd_m: float = 0.2,
    mask_hw: np.ndarray | None = None,
    sidecar: bool = False,
    kinds: Iterable[str] = (),
    names: Iterable[str] = (),
    scale: float = 1,
    offset: float = 0,
    unit: str | None = None,
    south_up: bool = False,
    **profile,
) -> Path:
    """Write [bands, H, W] at a row and column of pixels from the one place of these tests.

    `mask_hw` goes into the file, or with `sidecar` into one beside it; `kinds` are colour tags,
    `names` descriptions of the bands.
    """
    count, height, width = image_bhw.shape
    place = Affine(gsd_m, 0, X + col * gsd_m, 0, -gsd_m, Y - row * gsd_m)
    if south_up:
        image_bhw = image_bhw[:, ::-1]
        mask_hw = None if mask_hw is None else mask_hw[::-1]
        place = place @ Affine(1, 0, 0, 0, -1, height)
    size = {"count": count, "height": height, "width": width, "dtype": image_bhw.dtype}
    default = {"driver": "GTiff", "crs": LAMBERT_93, "transform": place}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar),
        rasterio.open(path, "w", **size, **{**default, **profile}) as dataset,
    ):
        for number, name in enumerate(names, 1):
            dataset.set_band_description(number, name)
        if kinds:
            dataset.colorinterp = [ColorInterp[kind] for kind in kinds]
        if (scale, offset) != (1, 0):
            dataset.scales, dataset.offsets = (scale,), (offset,)
        if unit:
            dataset.units = (unit,)
        dataset.write(image_bhw)
        if mask_hw is not None:
            dataset.write_mask(mask_hw)
    return path


class Placed(NamedTuple):
    """A file, and the pixels that it covers of a VRT."""

    path: Path
    row: int
    col: int
    height: int
    width: int


def write_vrt(
    path: Path,
    placed: Iterable[Placed],
    *,
    height: int,
    width: int,
    bands: int = 1,
    dtype: str = "Byte",
    nodata: float | None = None,
    declared: float | None = None,
    keyed: float | None = None,
    by_mask: bool = False,
    masked: bool = False,
    alpha: bool = False,
    stated: tuple[int, int] | None = None,
) -> Path:
    """Write what gdalbuildvrt would, with paths relative to the VRT.

    Pixels that are `keyed`, and with `by_mask` those that a source's mask leaves out, are not
    painted, and the VRT says `declared` of them; `nodata` is both. With `masked` it has a mask of
    its own, with `alpha` its last band is tagged so. `stated` are columns and rows of each source.
    """
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    ET.SubElement(root, "SRS").text = LAMBERT_93
    ET.SubElement(root, "GeoTransform").text = f"{X}, 0.2, 0, {Y}, 0, -0.2"
    declared, keyed = (nodata if value is None else value for value in (declared, keyed))
    for number in range(1, bands + 1):
        band = ET.SubElement(root, "VRTRasterBand", dataType=dtype, band=str(number))
        if declared is not None:
            ET.SubElement(band, "NoDataValue").text = repr(declared)
        if alpha and number == bands:
            ET.SubElement(band, "ColorInterp").text = "Alpha"
        for source in _paste(band, placed, str(number), path.parent, keyed, by_mask):
            if stated:
                size = {"RasterXSize": str(stated[0]), "RasterYSize": str(stated[1])}
                ET.SubElement(source, "SourceProperties", size)
    if masked:
        mask = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _paste(mask, placed, "mask,1", path.parent)
    path.write_bytes(ET.tostring(root))
    return path


def _paste(
    band: ET.Element,
    placed: Iterable[Placed],
    number: str,
    folder: Path,
    keyed: float | None = None,
    by_mask: bool = False,
) -> list[ET.Element]:
    sources = []
    for at in placed:
        plain = keyed is None and not by_mask
        source = ET.SubElement(band, "SimpleSource" if plain else "ComplexSource")
        name = str(at.path.relative_to(folder))
        ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
        ET.SubElement(source, "SourceBand").text = number
        size = {"xSize": str(at.width), "ySize": str(at.height)}
        ET.SubElement(source, "SrcRect", xOff="0", yOff="0", **size)
        ET.SubElement(source, "DstRect", xOff=str(at.col), yOff=str(at.row), **size)
        if keyed is not None:
            ET.SubElement(source, "NODATA").text = repr(keyed)
        if by_mask:
            ET.SubElement(source, "UseMaskBand").text = "true"
        sources.append(source)
    return sources


def damage_block(path: Path, row: int, col: int) -> None:
    """Make one block of a TIFF unreadable."""
    with rasterio.open(path) as dataset:
        place, size = (
            int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1))
            for what in ("OFFSET", "SIZE")
        )
    content = bytearray(path.read_bytes())
    content[place : place + size] = b"\xff" * size
    path.write_bytes(content)


def write_index(path: Path, tiles: Iterable[Placed]) -> Path:
    """Write a tile index of GDAL's driver GTI, and the shapes it looks into beside it."""
    shapes = path.with_suffix(".geojson")
    boxes = [(at.row, at.col, at.row + at.height, at.col + at.width) for at in tiles]
    collection = json.loads(write_shapes(shapes, *boxes).read_text())
    for feature, at in zip(collection["features"], tiles, strict=True):
        feature["properties"] = {"location": str(at.path)}
    shapes.write_text(json.dumps(collection))
    path.write_text(
        f"<GDALTileIndexDataset><IndexDataset>{shapes}</IndexDataset>"
        "<LocationField>location</LocationField></GDALTileIndexDataset>"
    )
    return path


def has_driver(name: str) -> bool:
    """Return whether this GDAL has a driver."""
    with rasterio.Env() as env:
        return name in env.drivers()


def write_shapes(path: Path, *boxes: tuple[int, int, int, int] | None) -> Path:
    """Write a GeoJSON of boxes (top, left, bottom, right px); None is a feature without shape."""
    geometries = []
    for box in boxes:
        if box is None:
            geometries.append(None)
            continue
        top, left, bottom, right = box
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        ring = [[X + 0.2 * col, Y - 0.2 * row] for col, row in corners]
        geometries.append({"type": "Polygon", "coordinates": [ring]})
    path.write_text(json.dumps({
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": g} for g in geometries],
    }))  # fmt: skip
    return path


def box_labels(
    first_hw: np.ndarray, last_hw: np.ndarray, valid_hw: np.ndarray | None = None, fill: int = 100
) -> np.ndarray:
    """Return what the box model answers, 0 where not valid; `fill` is what it sees there."""
    valid = np.ones(first_hw.shape, bool) if valid_hw is None else valid_hw
    height, width = valid.shape
    first, last = (
        np.pad(np.where(valid, band, fill).astype(int), 2, mode="reflect")
        for band in (first_hw, last_hw)
    )
    more = np.zeros(valid.shape, int)
    for i in range(5):
        for j in range(5):
            more += (first - last)[i : i + height, j : j + width]
    return np.where(valid, np.where(more >= 0, 1, 3), 0).astype(np.uint8)


def away(found_hw: np.ndarray, px: int = 2) -> np.ndarray:
    """Return bool [H, W], True where nothing found lies within `px`, counted along both axes."""
    height, width = found_hw.shape
    padded = np.pad(found_hw, px)
    steps = range(2 * px + 1)
    return ~np.any([padded[i : i + height, j : j + width] for i in steps for j in steps], axis=0)


def ground_m2(path: Path) -> float:
    """Return the area of a small raster on the ground: its corners in an equal-area projection."""
    with rasterio.open(path) as dataset:
        rows, cols = (0, 0, dataset.height, dataset.height), (0, dataset.width, dataset.width, 0)
        xs, ys = xy(dataset.transform, rows, cols, offset="ul")
        (lon,), (lat,) = transform(dataset.crs, "EPSG:4326", xs[:1], ys[:1])
        equal = f"+proj=laea +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"
        east, north = map(np.array, transform(dataset.crs, equal, xs, ys))
    return float(abs(np.sum(east * np.roll(north, -1) - north * np.roll(east, -1))) / 2)
