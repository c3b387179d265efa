"""Vector files of zones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyogrio
import shapely

from doubles.rasters import LAMBERT_93

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_zones(
    path: Path,
    shapes: Sequence[shapely.Geometry | None],
    ids: Sequence[object] | None = None,
    *,
    crs: str | None = LAMBERT_93,
    field: str = "insee",
    layer: str | None = None,
    append: bool = False,
) -> Path:
    """Write shapes with an id each: z0, z1 and so on unless given."""
    names = [f"z{n}" for n in range(len(shapes))] if ids is None else list(ids)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        [np.array(names, object)],
        [field],
        geometry_type="Unknown",
        crs=crs,
        layer=layer,
        append=append,
    )
    return path


def tiling(
    left: float, bottom: float, right: float, top: float, points: int = 12
) -> list[shapely.Geometry]:
    """Return triangles that cover a rectangle once."""
    random = np.random.default_rng(0)
    inner = random.uniform((left, bottom), (right, top), (points, 2))
    corners = [(left, bottom), (left, top), (right, bottom), (right, top)]
    found = shapely.delaunay_triangles(shapely.MultiPoint(np.vstack([inner, corners])))
    return list(shapely.get_parts(found))
