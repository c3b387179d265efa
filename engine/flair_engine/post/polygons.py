"""Polygons of a map: a valid coverage with class, ground and confidence of each region."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import OutputError
from flair_engine.post.extras import needed
from flair_engine.post.regions import NO_REGION, labelled
from flair_engine.post.rings import corners, joined, traced
from flair_engine.system import memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flair_engine.post.map_file import MapFile
    from flair_engine.post.regions import Regions
    from flair_engine.post.rings import Corners

SIMPLIFY_BYTES = 200
"""Memory for each corner of a coverage that is simplified: 61 to 117 were measured on real maps of
0.6 and 6.8 million, beside the shapes themselves."""
MOST_MEMORY = 0.6
"""Share of the machine's memory that simplifying may take."""
BUCKET_ROWS = 64
"""Rows of the map whose regions wait for one another to be traced together."""
MOST_CORNERS = 2**19
"""Corners that are traced together, but for those of one region."""
POLYGONS_AT_ONCE = 20_000
"""Polygons written at a time, at most, where all are in memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Polygons:
    """Some polygons with what is known of each."""

    shapes: np.ndarray
    """Of shapely, in columns and rows."""
    regions: np.ndarray
    """int32, the region that each is."""


def outlined(
    strips: Iterable[tuple[int, np.ndarray]], map_file: MapFile, regions: Regions
) -> Iterator[Polygons]:
    """Yield the polygons of all regions, each as soon as its last row has come."""
    finishing: defaultdict[int, list[Corners]] = defaultdict(list)
    above = np.full((1, map_file.width), NO_REGION, np.int32)
    for strip in labelled(strips, map_file.nodata):
        regions_hw = strip.spread(regions.of(strip))
        rows_hw = np.concatenate([above, regions_hw])
        bottom = strip.top + len(regions_hw)
        if bottom == map_file.height:
            rows_hw = np.concatenate([rows_hw, np.full_like(above, NO_REGION)])
        _sort_in(corners(strip.top - 1, rows_hw), regions, finishing)
        above = regions_hw[-1:]
        # The corners below a region's last row come with the row after it.
        whole = finishing if bottom == map_file.height else range((bottom - 1) // BUCKET_ROWS)
        done = sorted(bucket for bucket in finishing if bucket in whole)
        parts = [part for bucket in done for part in finishing.pop(bucket)]
        if parts:
            groups = _groups(joined(parts))
            parts.clear()  # nothing is held that is in memory elsewhere: regions can be huge
            yield from map(_polygons_of, groups)


def _polygons_of(corners: Corners) -> Polygons:
    numbers, shapes = traced(corners)
    return Polygons(shapes=shapes, regions=numbers)


def _sort_in(found: Corners, regions: Regions, finishing: defaultdict[int, list[Corners]]) -> None:
    """Put corners with those of regions that end in the same rows, by these rows' number."""
    bucket = regions.last_rows[found.region] // BUCKET_ROWS
    by = np.argsort(bucket, kind="stable")
    for which in np.split(by, np.flatnonzero(np.diff(bucket[by])) + 1):
        if len(which):
            finishing[int(bucket[which[0]])].append(found.chosen(which))


def _groups(found: Corners) -> Iterator[Corners]:
    """Yield corners by whole regions, so many that tracing them takes little memory."""
    if len(found) <= MOST_CORNERS:
        yield found
        return
    by = np.argsort(found.region, kind="stable").astype(np.int32)
    begins = np.flatnonzero(np.diff(found.region[by], prepend=NO_REGION))
    group = begins // MOST_CORNERS
    for start, stop in pairwise([*begins[np.flatnonzero(np.diff(group, prepend=-1))], len(by)]):
        yield found.chosen(by[start:stop])


def simplified(polygons: Iterable[Polygons], tolerance_px: float) -> Iterator[Polygons]:
    """Yield polygons with fewer corners, still a coverage: shared edges are simplified once.

    All are held in memory. The edge of the map stays. By the size of triangles that corners make
    (Visvalingam and Whyatt, 1993), whose root is the tolerance. Raises OutputError where that takes
    more memory than the machine has.
    """
    shapely = needed("shapely")
    found: list[Polygons] = []
    count = 0
    for part in polygons:
        found.append(part)
        count += int(shapely.get_num_coordinates(part.shapes).sum())
        if count * SIMPLIFY_BYTES > MOST_MEMORY * memory_bytes():
            raise OutputError(
                f"--simplify holds all corners in memory, {SIMPLIFY_BYTES} bytes each: over "
                f"{count:,} are more than {MOST_MEMORY:.0%} of this machine's "
                f"{memory_bytes() / 2**30:.1f} GiB",
                "use a larger --min-m2, or a smaller map",
            )
    if not found:
        return
    shapes = np.concatenate([part.shapes for part in found])
    numbers = np.concatenate([part.regions for part in found])
    del found
    shapes = shapely.coverage_simplify(shapes, tolerance_px, simplify_boundary=False)
    # It turns rings as it likes; those of outlines are counter-clockwise on the ground.
    shapes = shapely.orient_polygons(shapes, exterior_cw=True)
    for start in range(0, len(shapes), POLYGONS_AT_ONCE):
        chosen = slice(start, start + POLYGONS_AT_ONCE)
        yield Polygons(shapes=shapes[chosen], regions=numbers[chosen])


def columns_of(found: Polygons, map_file: MapFile, regions: Regions) -> dict[str, Any]:
    """Return what is written of polygons by name of the column; `geometry` in the map's CRS."""
    shapely = needed("shapely")
    g = map_file.dataset.transform

    def on_ground(xy: np.ndarray) -> np.ndarray:
        col, row = xy.T
        return np.stack([g.a * col + g.b * row + g.c, g.d * col + g.e * row + g.f], axis=1)

    values = regions.values[found.regions]
    classes = {int(value): map_file.class_of(int(value)) for value in np.unique(values)}
    columns = {
        "value": values.astype(np.int16),
        "class": [classes[int(value)].name for value in values],
        "color": [classes[int(value)].color for value in values],
        "area_m2": regions.areas_m2[found.regions],
    }
    if regions.confidences is not None:
        columns["confidence"] = regions.confidences[found.regions]
    return {**columns, "geometry": shapely.transform(found.shapes, on_ground)}
