"""Small regions given to the largest that they touch, as GDAL's sieve gives them.

GDAL decides by the regions of the map as it is: each small one goes to the largest neighbour; where
that is small too, to the largest neighbour of that, and so on until one is large enough. So do
these, whatever the strips: neighbours are compared in GDAL's order, row by row, the pixel above
before the one on the left, and the first of two that are equally large counts. Nodata stays as it
is, and nothing becomes nodata.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.post.regions import NO_REGION, labelled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flair_engine.post.regions import NumberedStrip, Regions

SLACK = 1e-9
"""Share by which sums of equal areas may differ in float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sieved:
    """What becomes of the regions of a map."""

    values: np.ndarray
    """uint8 [regions], the value of each from now on."""
    small: int
    """How many regions were smaller than asked for."""
    kept: int
    """How many of these stay, since nothing large enough is to be reached from them."""


def sieved(
    strips: Iterable[tuple[int, np.ndarray]], nodata: int, regions: Regions, min_m2: float
) -> Sieved:
    """Return which value each region gets where none may be smaller than `min_m2`."""
    neighbours = _Neighbours(regions)
    for strip in labelled(strips, nodata):
        neighbours.add(strip)
    is_small = regions.areas_m2 < min_m2 * (1 - SLACK)
    target = np.arange(regions.count)
    moving = is_small & (neighbours.largest != NO_REGION)
    target[moving] = neighbours.largest[moving]
    for _ in range(int(regions.count).bit_length()):  # ways have no more steps than regions
        further = target[target]
        if np.array_equal(further, target):
            break
        target = further
    moved = is_small & ~is_small[target]
    values = regions.values.copy()
    values[moved] = regions.values[target[moved]]
    small = int(np.count_nonzero(is_small))
    return Sieved(values=values, small=small, kept=small - int(np.count_nonzero(moved)))


def rewritten(
    strips: Iterable[tuple[int, np.ndarray]], nodata: int, regions: Regions, values: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the strips of a map whose regions have other values."""
    table = np.append(values, np.uint8(nodata))  # NO_REGION is the last
    for strip in labelled(strips, nodata):
        yield strip.top, strip.spread(table[regions.of(strip)])


class _Neighbours:
    """The largest neighbour of each region, among those seen so far."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self.largest = np.full(regions.count, NO_REGION, np.int64)
        self._pixels = np.zeros(regions.count, np.int64)

    def add(self, strip: NumberedStrip) -> None:
        """Take in the neighbours that a strip shows."""
        one, other, order = _meetings(strip, self._regions.of(strip))
        self._take(np.concatenate([one, other]), np.concatenate([other, one]), np.tile(order, 2))

    def _take(self, region: np.ndarray, neighbour: np.ndarray, order: np.ndarray) -> None:
        pixels = self._regions.pixels[neighbour]
        larger = pixels > self._pixels[region]
        region, neighbour, order, pixels = (
            array[larger] for array in (region, neighbour, order, pixels)
        )
        by = np.lexsort((order, -pixels, region))
        region, neighbour, pixels = region[by], neighbour[by], pixels[by]
        first = np.ones(len(region), bool)
        first[1:] = region[1:] != region[:-1]
        self.largest[region[first]] = neighbour[first]
        self._pixels[region[first]] = pixels[first]


def _meetings(strip: NumberedStrip, regions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return pairs of regions that touch in a strip, and the order in which GDAL meets them."""
    left = np.arange(strip.first, len(regions) - 1)
    left = left[strip.starts[left + 1] % strip.width != 0]  # not across the ends of rows
    one = np.concatenate([regions[strip.upper], regions[left]])
    other = np.concatenate([regions[strip.lower], regions[left + 1]])
    order = np.concatenate([2 * strip.at, 2 * strip.starts[left + 1] + 1])
    met = (one != other) & (one != NO_REGION) & (other != NO_REGION)
    return one[met], other[met], order[met]
