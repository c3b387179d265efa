"""Hectares of each class in zones, by the exact share of every pixel that lies in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.post.extras import needed
from flair_engine.post.map_file import read_rows, strip_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from flair_engine.post.ground import Ground
    from flair_engine.post.map_file import MapFile
    from flair_engine.post.zones import Zones

M2_PER_HECTARE = 10_000
NEAR_SHARE = 1e-6
"""Share of a zone that may lie outside the map without being told: shares of pixels are float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZoneHectares:
    """What zones hold."""

    by_value: np.ndarray
    """float64 [zones, 256], on the ground, nodata of the map too."""
    outside: np.ndarray
    """float64 [zones], what of each lies beside the map, at the size of its pixels inside."""


def zone_hectares(
    map_file: MapFile, zones: Zones, ground: Ground, progress: Callable[[int, int], None]
) -> ZoneHectares:
    """Return the hectares of each value in each zone. Raises SourceError, ReadError."""
    shapely = needed("shapely")
    needed("exactextract")
    pixels, areas_m2 = np.zeros(len(zones.ids)), np.zeros((len(zones.ids), 256))
    bounds = shapely.bounds(zones.shapes)
    # exactextract has y go up: rows are counted down from 0.
    shapes = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for shape in shapely.transform(zones.shapes, lambda xy: xy * (1, -1))
    ]
    rows = strip_rows(map_file.width)
    for top in range(0, map_file.height, rows):
        count = min(rows, map_file.height - top)
        inside = np.flatnonzero((bounds[:, 1] < top + count) & (bounds[:, 3] > top))
        if len(inside):
            strip_hw = read_rows(map_file.dataset, map_file.path, top, count)
            px_m2 = np.stack([ground.row_m2(row) for row in range(top, top + count)])
            for number in inside:
                found = _covered(shapes[number], bounds[number], top, strip_hw, px_m2)
                pixels[number] += found[0]
                areas_m2[number] += found[1]
        progress(map_file.width * (top + count), map_file.pixels)
    total_px = shapely.area(zones.shapes)
    beside = np.where(total_px - pixels > NEAR_SHARE * total_px, total_px - pixels, 0)
    per_px = areas_m2.sum(axis=1) / np.maximum(pixels, 1e-12)
    return ZoneHectares(
        by_value=areas_m2 / M2_PER_HECTARE, outside=beside * per_px / M2_PER_HECTARE
    )


def _covered(
    shape: dict[str, Any], bounds: np.ndarray, top: int, strip_hw: np.ndarray, px_m2: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the pixels of a strip that a shape covers, and float64 [256], their m² by value."""
    extract = needed("exactextract")
    height, width = strip_hw.shape
    left, right = max(0, int(bounds[0])), min(width, int(np.ceil(bounds[2])))
    upper, lower = max(0, int(bounds[1]) - top), min(height, int(np.ceil(bounds[3])) - top)
    if left >= right or upper >= lower:
        return 0.0, np.zeros(256)
    part_hw = np.ascontiguousarray(strip_hw[upper:lower, left:right])
    source = extract.raster.NumPyRasterSource(
        part_hw, xmin=left, xmax=right, ymin=-(top + lower), ymax=-(top + upper)
    )
    (found,) = extract.exact_extract(source, [shape], ["cell_id", "coverage"])
    cells, shares = found["properties"]["cell_id"], found["properties"]["coverage"]
    weights = shares * px_m2[upper:lower, left:right].ravel()[cells]
    return float(shares.sum()), np.bincount(part_hw.ravel()[cells], weights, 256)
