"""Zones of a vector file, put on the pixels of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform, transform_bounds

from flair_engine.crs import same_crs
from flair_engine.errors import SourceError, first_line
from flair_engine.gdal import UNTRANSFORMABLE
from flair_engine.post.extras import needed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flair_engine.post.map_file import MapFile

EDGE_SHARE = 1000
"""Pieces that an edge as long as the map is cut into before it is put in another CRS, where
straight lines are arcs: 5 m of 5 km rise less than a micrometre over their chord."""
POLYGONAL = (3, 6)
"""Polygon and MultiPolygon, as shapely numbers types."""
FIELDS_SAID = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Zones:
    """Shapes in columns and rows of the map, with what each is called."""

    ids: list[str]
    shapes: np.ndarray


def read_zones(
    path: Path, field: str, layer: str | None, map_file: MapFile, notify: Callable[[str], None]
) -> Zones:
    """Return the zones of a vector file that touch a map; those of one id are one.

    `notify` is told what was put in another CRS, made valid or left out. Raises SourceError.
    """
    shapely, pyogrio = needed("shapely"), needed("pyogrio")
    try:
        layer = _layer(path, layer, pyogrio)
        facts = pyogrio.read_info(path, layer=layer)
        crs = _crs(path, facts)
        _check_field(path, field, facts)
        _, _, wkb, (ids,) = pyogrio.raw.read(
            path, layer=layer, columns=[field], bbox=_box(map_file, crs)
        )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise SourceError(
            f"{path}: cannot be read ({first_line(error)})", "give a file of zones that GDAL reads"
        ) from error
    shapes, names = _sound(path, shapely.from_wkb(wkb), ids, notify)
    if not same_crs(crs, map_file.dataset.crs):
        notify(f"{path}: zones are in {crs}, put in {map_file.dataset.crs}")
        shapes = _put_in(shapes, crs, map_file)
    shapes = _on_pixels(shapes, map_file)
    whole = shapely.box(0, 0, map_file.width, map_file.height)
    touching = shapely.area(shapely.intersection(shapes, whole)) > 0
    apart = int(facts["features"]) - int(np.count_nonzero(touching))
    if not touching.any():
        raise SourceError(
            f"{path}: none of {facts['features']} zones touches the map",
            "check their coordinates against their CRS",
        )
    if apart:
        notify(f"{path}: {apart} of {facts['features']} zones do not touch the map, left out")
    return _one_per_id([name for name, is_in in zip(names, touching, strict=True) if is_in],
                       shapes[touching], path, notify)  # fmt: skip


def _layer(path: Path, layer: str | None, pyogrio: Any) -> str:
    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    spatial = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and len(spatial) == 1:
        return spatial[0]
    if layer in layers:
        return str(layer)
    found = f"no layer {layer}" if layer else f"{len(spatial)} layers of shapes"
    raise SourceError(
        f"{path}: has {found}, but {', '.join(layers[:FIELDS_SAID])}", "name one with --layer"
    )


def _crs(path: Path, facts: dict[str, Any]) -> CRS:
    if not facts["crs"]:
        raise SourceError(
            f"{path}: has no CRS, so where its zones are is not known",
            "give it one, for example with ogr2ogr -a_srs",
        )
    try:
        return CRS.from_user_input(facts["crs"])
    except CRSError as error:
        raise SourceError(
            f"{path}: its CRS is not known ({first_line(error)})", "give it another with ogr2ogr"
        ) from error


def _check_field(path: Path, field: str, facts: dict[str, Any]) -> None:
    names = [str(name) for name in facts["fields"]]
    if field not in names:
        raise SourceError(
            f"{path}: has no field {field}, but {', '.join(names[:FIELDS_SAID]) or 'none'}",
            "name the one that tells zones apart with --id",
        )


def _box(map_file: MapFile, crs: CRS) -> tuple[float, ...]:
    """Return the box around a map in another CRS, a little larger."""
    try:
        left, bottom, right, top = transform_bounds(
            map_file.dataset.crs, crs, *map_file.dataset.bounds, densify_pts=101
        )
    except UNTRANSFORMABLE as error:
        raise SourceError(
            f"the zones are in {crs}, which does not reach the map ({first_line(error)})",
            "give zones around the map",
        ) from error
    dx, dy = (right - left) / 10, (top - bottom) / 10
    return left - dx, bottom - dy, right + dx, top + dy


def _sound(
    path: Path, shapes: np.ndarray, ids: np.ndarray, notify: Callable[[str], None]
) -> tuple[np.ndarray, list[str]]:
    """Return valid areas with their ids; tell what was mended and what was left out."""
    shapely = needed("shapely")
    present = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    if empty := int(np.count_nonzero(~present)):
        notify(f"{path}: {empty} zones have no shape, left out")
    shapes, ids = shapely.force_2d(shapes[present]), ids[present]
    broken = ~shapely.is_valid(shapes)
    if broken.any():
        names = ", ".join(map(str, ids[broken][:3]))
        notify(f"{path}: {np.count_nonzero(broken)} zones are not valid, made so: {names}")
        shapes[broken] = shapely.make_valid(shapes[broken], method="structure")
    is_area = np.isin(shapely.get_type_id(shapes), POLYGONAL)
    if not is_area.all():
        notify(f"{path}: {np.count_nonzero(~is_area)} zones are no areas, left out")
    shapes, ids = shapes[is_area], ids[is_area]
    nameless = [value is None or value != value or str(value) == "" for value in ids]
    if any(nameless):
        raise SourceError(
            f"{path}: {sum(nameless)} zones on the map have no id", "give each one, or another --id"
        )
    return shapes, [str(value) for value in ids]


def _put_in(shapes: np.ndarray, crs: CRS, map_file: MapFile) -> np.ndarray:
    """Return shapes in the map's CRS, their long edges cut first."""
    shapely = needed("shapely")
    left, bottom, right, top = _box(map_file, crs)
    shapes = shapely.segmentize(shapes, max(right - left, top - bottom) / EDGE_SHARE)

    def put(xy: np.ndarray) -> np.ndarray:
        xs, ys = transform(crs, map_file.dataset.crs, xy[:, 0], xy[:, 1])
        return np.stack([xs, ys], axis=1)

    found: np.ndarray = shapely.make_valid(shapely.transform(shapes, put))
    return found


def _on_pixels(shapes: np.ndarray, map_file: MapFile) -> np.ndarray:
    shapely = needed("shapely")
    g = ~map_file.dataset.transform

    def put(xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        return np.stack([g.a * x + g.b * y + g.c, g.d * x + g.e * y + g.f], axis=1)

    found: np.ndarray = shapely.transform(shapes, put)
    return found


def _one_per_id(
    names: list[str], shapes: np.ndarray, path: Path, notify: Callable[[str], None]
) -> Zones:
    """Return zones of which each id is one, in the order of the file."""
    shapely = needed("shapely")
    ids = list(dict.fromkeys(names))
    if len(ids) == len(names):
        return Zones(ids=ids, shapes=shapes)
    notify(f"{path}: {len(names)} shapes have {len(ids)} ids: those of one id are one zone")
    of = np.array([ids.index(name) for name in names])
    united = [shapely.union_all(shapes[of == number]) for number in range(len(ids))]
    return Zones(ids=ids, shapes=np.array(united))
