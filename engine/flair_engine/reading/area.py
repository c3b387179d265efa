"""The part of the raster that is mapped: cores that a box or shapes of a vector file touch."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError, TransformError
from rasterio.features import rasterize
from rasterio.warp import transform, transform_bounds

from flair_engine.core_mask import CoreMask
from flair_engine.crs import is_local, same_crs
from flair_engine.errors import SourceError, first_line
from flair_engine.gdal import UNTRANSFORMABLE
from flair_engine.reading.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flair_engine.grid import Cores
    from flair_engine.reading.pixel_grid import PixelGrid

NEAR = 0.05
"""Share of the raster's longer side, around it, to which shapes are clipped before they are put in
its CRS: what is left lies where the projection holds. Sides of the raster are arcs in another CRS
and lie within this of what GDAL finds at 21 points of each."""

EDGE_SEGMENTS = 1000
"""Pieces that an edge across the raster is cut into before it is put in another CRS, where straight
lines are arcs. A parallel of 600 km (3 million pixels) rises 7 km over its chord at 45 degrees
(L^2 tan(latitude) / 8 R), its thousandth part 7 mm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """The shapes of one layer of a vector file, some of them None, in the layer's CRS."""

    name: str
    crs: str | None
    shapes: np.ndarray


def area_shapes(
    pixel_grid: PixelGrid,
    bbox: Sequence[float] | None,
    aoi: str | None,
    notify: Callable[[str], None],
    aoi_layer: str | None = None,
) -> list[Any] | None:
    """Return what is to be mapped, in the raster's CRS: a box, or the shapes of a vector file.

    Those of every layer or of `aoi_layer`, as whatever `rasterio.features` takes for a geometry;
    none where all lie apart from the raster, and None where neither `bbox` (xmin, ymin, xmax, ymax
    in the raster's CRS) nor `aoi` (a file) is given. `notify` is told what was assumed. Raises
    SourceError.
    """
    if bbox is not None and aoi is not None:
        raise SourceError("both a box and a file say what to map", "give one of them")
    if bbox is not None:
        return _box(bbox, pixel_grid)
    return None if aoi is None else _file_shapes(aoi, aoi_layer, pixel_grid, notify)


def touched_cores(shapes: Sequence[Any], pixel_grid: PixelGrid, area: Cores) -> CoreMask:
    """Return the cores of `area` that a shape touches.

    A core ends where the raster does: what lies beside the raster touches none.
    """
    return CoreMask.in_blocks(
        area.rows,
        len(area.cols),
        lambda rows: _touched_rows(shapes, pixel_grid, replace(area, rows=rows)),
    )


def _touched_rows(shapes: Sequence[Any], pixel_grid: PixelGrid, area: Cores) -> np.ndarray:
    """Return bool [rows, cols] of the cores of `area` that a shape touches."""
    touched = np.zeros((len(area.rows), len(area.cols)), bool)
    core_px = area.grid.core_px
    for rows, height_px in _alike(area.rows, area.grid.height, core_px):
        for cols, width_px in _alike(area.cols, area.grid.width, core_px):
            corner = Affine.translation(cols.start * core_px, rows.start * core_px)
            geotransform = pixel_grid.transform @ corner @ Affine.scale(width_px, height_px)
            shape = len(rows), len(cols)
            near = _reaching(shapes, _bounds(geotransform, *shape))
            if not len(near):
                continue
            top, left = rows.start - area.rows.start, cols.start - area.cols.start
            touched[top : top + shape[0], left : left + shape[1]] = rasterize(
                near,
                out_shape=shape,
                transform=geotransform,
                all_touched=True,
                dtype="uint8",
            )
    return touched


def touches_nothing(bbox: Sequence[float] | None, aoi: str | None) -> SourceError:
    """Return the error of a box or file that holds no pixel."""
    what = aoi or _said(bbox or ())
    return SourceError(
        f"{what}: does not touch the images",
        "check its coordinates against their CRS, and that it is larger than a pixel",
    )


def reaching(shapes: Sequence[Any], pixel_grid: PixelGrid) -> Sequence[Any]:
    """Return the shapes whose bounds overlap those of a grid of pixels, and perhaps a few more."""
    bounds = _bounds(pixel_grid.transform, pixel_grid.height, pixel_grid.width)
    return _reaching(shapes, bounds)


def _alike(cores: range, size_px: int, core_px: int) -> Iterator[tuple[range, int]]:
    """Yield the whole cores along one side of a raster, then the one its edge cuts; with sizes."""
    whole = range(cores.start, min(cores.stop, size_px // core_px))
    cut = range(whole.stop, cores.stop)
    for part, px in ((whole, core_px), (cut, size_px % core_px)):
        if part:
            yield part, px


def _said(bbox: Sequence[float]) -> str:
    return f"the box {','.join(f'{edge:g}' for edge in bbox)}"


def _box(bbox: Sequence[float], pixel_grid: PixelGrid) -> list[Any]:
    left, bottom, right, top = bbox
    if not (left < right and bottom < top):
        raise SourceError(
            f"{_said(bbox)} is empty", "give xmin,ymin,xmax,ymax in the CRS of the images"
        )
    # What the raster does not reach is cut off: edges may be as far away as infinity.
    bounds = _bounds(pixel_grid.transform, pixel_grid.height, pixel_grid.width)
    left, bottom = max(left, bounds[0]), max(bottom, bounds[1])
    right, top = min(right, bounds[2]), min(top, bounds[3])
    if left >= right or bottom >= top:
        return []
    ring = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
    return [{"type": "Polygon", "coordinates": [ring]}]


def _bounds(geotransform: Affine, height: int, width: int) -> tuple[float, float, float, float]:
    """Return xmin, ymin, xmax, ymax of a raster, which may lie askew, in its CRS."""
    corners = [geotransform @ (col, row) for col in (0, width) for row in (0, height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _reaching(shapes: Sequence[Any], bounds: Sequence[float]) -> Sequence[Any]:
    """Return the shapes whose bounds overlap others: to rasterize one takes some 20 us."""
    if len(shapes) < 2:  # a box, too, which does without shapely
        return shapes
    import shapely

    several = np.array(shapes, object)
    left, bottom, right, top = shapely.bounds(several).T
    widened = _widened(bounds)
    apart = (right < widened[0]) | (top < widened[1]) | (left > widened[2]) | (bottom > widened[3])
    return several[~apart].tolist()  # type: ignore[no-any-return]


def _file_shapes(
    path: str, layer_name: str | None, pixel_grid: PixelGrid, notify: Callable[[str], None]
) -> list[Any]:
    try:
        import pyogrio  # noqa: F401
        import shapely
    except ImportError as error:
        raise SourceError(
            f"{path}: reading areas of interest needs more packages",
            "run pip install 'flair-engine[aoi]'",
        ) from error
    layers = _layers(path) if layer_name is None else [_named(path, layer_name)]
    usable = [_Layer(name=o.name, crs=o.crs, shapes=_usable(o.shapes)) for o in layers]
    held = [layer for layer in usable if len(layer.shapes)]
    if not held:
        raise SourceError(f"{path}: holds no shape", "give a vector file with areas")
    features = sum(len(layer.shapes) for layer in layers)
    left_out = features - sum(len(layer.shapes) for layer in usable)
    if left_out:
        notify(f"{path}: {left_out:,} of {features:,} features without a usable shape left out")
    if len(held) > 1:
        notify(f"{path}: all its layers are mapped: {', '.join(layer.name for layer in held)}")
    shapes: list[Any] = []
    for layer in held:
        what = path if len(held) == 1 else f"{path}, layer {layer.name}"
        source = _source_crs(layer, what, pixel_grid, notify)
        parts = _parts(layer.shapes)
        invalid = ~shapely.is_valid(parts)
        parts[invalid] = shapely.make_valid(parts[invalid], method="structure", keep_collapsed=True)
        shapes += _moved(_parts(parts), source, what, pixel_grid).tolist()
    return shapes


def _named(path: str, name: str) -> _Layer:
    """Return the layer of that name. Raises SourceError."""
    layers = {layer.name: layer for layer in _layers(path)}
    if name not in layers:
        raise SourceError(
            f"{path}: has no layer of shapes called {name}",
            f"choose from {', '.join(layers) or 'the layers of another file'}",
        )
    return layers[name]


def _layers(path: str) -> list[_Layer]:
    """Return the layers of a file that have a geometry. Raises SourceError."""
    import pyogrio.errors
    import pyogrio.raw
    import shapely

    if "/vsi" not in path and ":" not in path and not Path(path).exists():
        raise SourceError(f"{printable(path)}: no such file", "check the path")
    layers = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be read comes as None, and is counted
            for name, kind in pyogrio.list_layers(path):
                if kind is None:
                    continue
                # No attribute is read: their encoding does not matter.
                meta, _, wkb, _ = pyogrio.raw.read(
                    path, layer=name, columns=[], force_2d=True, encoding="latin-1"
                )
                shapes = shapely.from_wkb(wkb, on_invalid="fix")
                layers.append(_Layer(name=name, crs=meta["crs"], shapes=shapes))
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        shapely.errors.ShapelyError,
        OSError,
        ValueError,
    ) as error:
        said = first_line(error).split(";")[0].rstrip(".")
        raise SourceError(
            f"{printable(path)}: cannot be read as a vector file ({said})",
            "give one that GDAL opens",
        ) from error
    return layers


def _usable(shapes: np.ndarray) -> np.ndarray:
    """Return the shapes that are there, not empty, and of finite coordinates."""
    import shapely

    there: np.ndarray = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    coordinates, owner = shapely.get_coordinates(there, return_index=True)
    finite = np.ones(len(there), bool)
    finite[owner[~np.isfinite(coordinates).all(1)]] = False
    return there[finite]


def _parts(shapes: np.ndarray) -> np.ndarray:
    """Return points, lines and polygons of shapes, those inside collections too."""
    import shapely

    while (shapely.get_type_id(shapes) >= shapely.GeometryType.MULTIPOINT).any():
        shapes = shapely.get_parts(shapes)
    parts: np.ndarray = shapes[~shapely.is_empty(shapes)]
    return parts


def _source_crs(
    layer: _Layer, what: str, pixel_grid: PixelGrid, notify: Callable[[str], None]
) -> CRS | None:
    """Return the CRS a layer has to be brought from; None where it is that of the images.

    Raises SourceError.
    """
    # GeoPackages say so in words: "Undefined Cartesian SRS", "Undefined geographic SRS".
    if not layer.crs or re.match(r'\w+\["undefined', layer.crs, re.IGNORECASE):
        if pixel_grid.crs:
            notify(f"{what}: has no CRS, its coordinates are taken for those of the images")
        return None
    if not pixel_grid.crs:
        raise SourceError(
            f"{what}: is in {_crs_name(layer.crs)} while the images have no CRS",
            "assign them theirs with gdal_edit.py -a_srs, or give a file without CRS in their "
            "coordinates",
        )
    try:
        crs = CRS.from_user_input(layer.crs)
    except CRSError as error:
        raise SourceError(
            f"{what}: its CRS {_crs_name(layer.crs)} is unknown to GDAL",
            "give it in the CRS of the images",
        ) from error
    if not same_crs(crs, pixel_grid.crs):
        return crs
    if crs != pixel_grid.crs and (is_local(crs) or is_local(pixel_grid.crs)):
        notify(f"{what}: its CRS is taken for that of the images, which has the same name")
    return None


def _crs_name(crs: str) -> str:
    found = re.match(r'\w+\["([^"]*)"', crs)
    return found.group(1) if found else crs


def _moved(shapes: np.ndarray, source: CRS | None, what: str, pixel_grid: PixelGrid) -> np.ndarray:
    """Return what lies near the raster of shapes, brought from `source` to the raster's CRS.

    Raises SourceError where there is no way.
    """
    bounds = _bounds(pixel_grid.transform, pixel_grid.height, pixel_grid.width)
    target = pixel_grid.crs
    if source is None or target is None:
        return _near(shapes, [_widened(bounds)])
    try:
        with rasterio.Env():  # without it PROJ's errors go to the terminal
            return _transformed(shapes, source, target, bounds)
    except UNTRANSFORMABLE as error:
        raise SourceError(
            f"{what}: cannot be brought from {_crs_name(source.to_string())} to "
            f"{_crs_name(target.to_string())}, the CRS of the images",
            "give it in the CRS of the images, or without CRS in their coordinates",
        ) from error


def _transformed(
    shapes: np.ndarray, source: CRS, target: CRS, bounds: Sequence[float]
) -> np.ndarray:
    """Return what lies near `bounds`, which are in `target`, of shapes in `source`, in `target`.

    Raises one of UNTRANSFORMABLE.
    """
    import shapely

    def put(xy: np.ndarray) -> np.ndarray:
        return _finite(np.column_stack(transform(source, target, xy[:, 0], xy[:, 1])))

    left, bottom, right, top = _finite(np.array(transform_bounds(target, source, *bounds)))
    turns = [0.0]
    if source.is_geographic:  # longitudes may be counted on beyond the antimeridian
        turn = 2 * np.pi / source.units_factor[1]
        turns = [turn * whole for whole in range(-2, 3)]
        right += turn * (right < left)
    box = _widened((left, bottom, right, top))
    near = _near(shapes, [(box[0] + by, box[1], box[2] + by, box[3]) for by in turns])
    if not len(near):
        return near
    piece = np.hypot(box[2] - box[0], box[3] - box[1]) / EDGE_SEGMENTS
    return np.asarray(shapely.transform(shapely.segmentize(near, piece), put))


def _finite(numbers: np.ndarray) -> np.ndarray:
    if not np.isfinite(numbers).all():
        raise TransformError("outside the projection")
    return numbers


def _widened(bounds: Sequence[float]) -> tuple[float, float, float, float]:
    left, bottom, right, top = bounds
    by = NEAR * max(right - left, top - bottom)
    return left - by, bottom - by, right + by, top + by


def _near(shapes: np.ndarray, boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Return what lies in boxes of valid shapes that are no collections."""
    import shapely

    clip = shapely.union_all(shapely.box(*np.transpose(boxes)))
    shapely.prepare(clip)
    near = shapes[shapely.intersects(clip, shapes)]
    cut = ~shapely.contains(clip, near)
    near[cut] = shapely.intersection(near[cut], clip)
    return _parts(near)
