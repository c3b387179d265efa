"""Outlines of regions, traced along the edges of pixels in whole rows and columns.

Every region has a corner wherever any region has one on its outline, so shared edges are equal
corner by corner and the outlines are a valid coverage. Corners come strip by strip; a region is
traced once its last row is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.post.regions import NO_REGION

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Corners:
    """Corners of outlines. Each has one edge along its row and one along its column.

    Where an outline passes straight through a corner of others, there are two at one place, joined
    by an edge of no length.
    """

    region: np.ndarray
    """int32 [n]."""
    row: np.ndarray
    col: np.ndarray
    """int32 [n], counted in edges of pixels: 0 to height, 0 to width."""
    across: np.ndarray
    """int8 [n], the side to which the edge along the row leads: -1 left, 1 right, 0 nowhere."""
    down: np.ndarray
    """int8 [n], that of the edge along the column: -1 up, 1 down, 0 nowhere."""
    leaves: np.ndarray
    """bool [n], whether who walks with the region on the left leaves along the row."""

    def __len__(self) -> int:
        return len(self.region)

    def chosen(self, which: np.ndarray) -> Corners:
        """Return some of them."""
        return Corners(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


def joined(parts: Sequence[Corners]) -> Corners:
    """Return the corners of all parts, one at least."""
    return Corners(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Corners)
        }
    )


def corners(top: int, regions_hw: np.ndarray) -> Corners:
    """Return the corners between the rows of int32 [rows, width], of which the first is `top`.

    What lies left and right of the rows is no region; above and below nothing is looked for.
    """
    padded = np.pad(regions_hw, ((0, 0), (1, 1)), constant_values=NO_REGION)
    upper, lower = padded[:-1], padded[1:]
    differs = (upper[:, 1:] != upper[:, :-1]) | (lower[:, 1:] != lower[:, :-1])
    differs |= upper[:, 1:] != lower[:, 1:]
    differs |= upper[:, :-1] != lower[:, :-1]
    row, col = np.nonzero(differs)
    cells = {
        (-1, -1): upper[row, col],
        (-1, 1): upper[row, col + 1],
        (1, -1): lower[row, col],
        (1, 1): lower[row, col + 1],
    }
    place = (row + top + 1).astype(np.int32), col.astype(np.int32)
    found = [part for side in cells for part in _of_cell(side, cells, place)]
    return joined(found)


def _of_cell(
    side: tuple[int, int],
    cells: dict[tuple[int, int], np.ndarray],
    place: tuple[np.ndarray, np.ndarray],
) -> list[Corners]:
    """Return the corners that the cells on one side of each place account for.

    Edges at a place lie between cells: that to the right between the two on the right.
    """
    down, across = side
    region, other_side = cells[side], cells[-down, -across]
    beside, past = cells[down, -across] == region, cells[-down, across] == region
    opposite = other_side == region
    there = region != NO_REGION

    def make(which: np.ndarray, along_row: int, along_col: int, leaves: bool) -> Corners:
        chosen = np.flatnonzero(which & there)
        return Corners(
            region=region[chosen],
            row=place[0][chosen],
            col=place[1][chosen],
            across=np.full(len(chosen), along_row, np.int8),
            down=np.full(len(chosen), along_col, np.int8),
            leaves=np.full(len(chosen), leaves),
        )

    # With the region on the left one walks right where it is above, left where it is below, up
    # where it is left, down where it is right.
    convex = ~beside & ~past & ~opposite
    found = [make(convex, across, down, (across > 0) == (down < 0))]
    # The one missing is on the other side; with two that touch by the corner alone, each of the
    # missing ones is walked around, which leaves rings that touch nowhere themselves.
    missing = beside & past & ~opposite
    found.append(make(missing, -across, -down, (across < 0) == (down < 0)))
    if across < 0:  # of both diagonal cells the one on the left
        twins = ~beside & ~past & opposite
        found += [make(twins, step, -step * across * down, down > 0) for step in (-1, 1)]
        straight = beside & ~past & ~opposite & (cells[-down, across] != other_side)
        found += [make(straight, step, 0, (step > 0) == (down < 0)) for step in (-1, 1)]
    if down < 0:
        straight = past & ~beside & ~opposite & (cells[down, -across] != other_side)
        found += [make(straight, 0, step, (step < 0) == (across > 0)) for step in (-1, 1)]
    return found


def traced(found: Corners) -> tuple[np.ndarray, np.ndarray]:
    """Return regions, int32 [n] in ascending order, and their polygons.

    Coordinates are columns and rows. Every corner of each region has to be there.
    """
    starts = np.flatnonzero(found.leaves).astype(np.int32)
    numbers = np.full(len(found), NO_REGION, np.int32)
    numbers[starts] = np.arange(len(starts), dtype=np.int32)
    along_row = _partners(found.region, found.row, found.col, found.across)
    along_col = _partners(found.region, found.col, found.row, found.down)
    ends = along_row[starts]
    follows = numbers[along_col[ends]]
    del numbers, along_row, along_col  # of a huge region each is large
    leaders, order = _cycles(follows)
    # The sum of dx * y is the area of what lies on the left, where y goes down.
    turns = (found.col[ends].astype(np.int64) - found.col[starts]) * found.row[starts]
    is_hole = np.bincount(leaders, turns, len(starts))[leaders] < 0
    by = np.lexsort((order, leaders, is_hole, found.region[starts]))
    walk = np.stack([starts[by], ends[by]], axis=1).ravel()
    xy = np.stack([found.col[walk], found.row[walk]], axis=1)
    return _assembled(xy, np.repeat(leaders[by], 2), found.region[walk])


def _partners(
    region: np.ndarray, line: np.ndarray, place: np.ndarray, side: np.ndarray
) -> np.ndarray:
    """Return the other end of each corner's edge along a line: a row, or a column.

    Along a line the corners of a region are in turn beginnings and ends of its edges.
    """
    lines, places = int(line.max(initial=0)) + 1, int(place.max(initial=0)) + 1
    least = int(region.min()) if len(region) else 0
    which = (region.astype(np.int64) - least) * lines + line
    where = place.astype(np.int64) * 3 + side + 1
    if (int(region.max(initial=0)) - least + 1) * lines * places * 3 < 2**63:
        which *= places * 3
        which += where
        del where
        by = np.argsort(which, kind="stable")
    else:
        by = np.lexsort((where, which))
    partner = np.empty(len(by), np.int32)
    partner[by[::2]], partner[by[1::2]] = by[1::2], by[::2]
    return partner


def _cycles(follows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each member of cycles the smallest of its cycle, and its place from there on.

    By doubling the length of jumps (Wyllie, The complexity of parallel computations, 1979). Places
    ascend, but not by one.
    """
    leaders, jump = np.arange(len(follows), dtype=np.int32), follows
    while True:
        smaller = np.minimum(leaders, leaders[jump])
        if np.array_equal(smaller, leaders):
            break
        leaders, jump = smaller, jump[jump]
    is_leader = leaders == np.arange(len(follows))
    jump = np.where(is_leader, leaders, follows)
    steps = np.where(is_leader, 0, 1).astype(np.int32)
    while not np.array_equal(jump, leaders):
        steps, jump = steps + steps[jump], jump[jump]
    return leaders, np.where(is_leader, np.int32(-len(follows)), -steps)


def _assembled(
    xy: np.ndarray, ring: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return regions and polygons of corners in order: those of a ring, the outer ring first."""
    import shapely

    begins = np.flatnonzero(np.append(True, ring[1:] != ring[:-1])) if len(ring) else ring
    sizes = np.diff(begins, append=len(ring))
    following = np.arange(1, len(ring) + 1)
    following[begins + sizes - 1] = begins
    kept = np.any(xy != xy[following], axis=1)  # edges of no length are left out
    sizes = np.add.reduceat(kept, begins, dtype=np.int64) if len(ring) else sizes
    xy, ring_regions = xy[kept], region[begins]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    # The first corner of each ring stands at its end too.
    closed = np.insert(xy, offsets[1:], xy[offsets[:-1]], axis=0)
    ring_offsets = offsets + np.arange(len(offsets))
    regions, first = np.unique(ring_regions, return_index=True)
    polygon_offsets = np.append(first, len(ring_regions))
    shapes = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, closed.astype(np.float64), (ring_offsets, polygon_offsets)
    )
    return regions, shapes
