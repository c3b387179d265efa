"""Regions: pixels of one value that touch by their edges, found strip by strip.

Equal pixels in a row are run lengths; those that touch are of one region. A map needs memory for
one strip and some bytes for each of its regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flair_engine.post.ground import Ground

NO_REGION = -1
"""Number of what is nodata, and of what lies outside the map: no region."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedStrip:
    """Run lengths of a strip and of the row above it, with what touches what.

    Positions count pixels from the beginning of the row above.
    """

    top: int
    """Row of the strip's first line in the map."""
    width: int
    first: int
    """Number of the first run length that is of the strip itself, not of the row above."""
    starts: np.ndarray
    """int64 [n], where run lengths begin; they follow one another without a gap."""
    lengths: np.ndarray
    """int64 [n]."""
    values: np.ndarray
    """uint8 [n]."""
    ids: np.ndarray
    """int32 [n], provisional numbers; NO_REGION of nodata."""
    upper: np.ndarray
    lower: np.ndarray
    """int64 [m], numbers of the run lengths that touch, one above the other."""
    at: np.ndarray
    """int64 [m], the first position in the lower row at which they touch."""

    @property
    def rows(self) -> np.ndarray:
        """int64 [n], the row of each run length in the map."""
        return self.top - 1 + self.starts // self.width

    def spread(self, of_runs: np.ndarray) -> np.ndarray:
        """Return [rows, width] of the strip itself, from what its run lengths are each given."""
        own = slice(self.first, None)
        return np.repeat(of_runs[own], self.lengths[own]).reshape(-1, self.width)


class Labeller:
    """Gives each strip's run lengths provisional numbers, and notes which of them are one region.

    The same strips get the same numbers each time.
    """

    def __init__(self, nodata: int) -> None:
        self._nodata = nodata
        self._above: np.ndarray | None = None
        self._above_ids = np.zeros(0, np.int32)
        self._merges: list[np.ndarray] = []
        self.count = 0
        """Provisional numbers given so far."""

    def label(self, top: int, strip_hw: np.ndarray) -> NumberedStrip:
        """Return the run lengths of the strip that follows the one before."""
        width = strip_hw.shape[1]
        above = np.full((1, width), self._nodata, np.uint8) if self._above is None else self._above
        rows_hw = np.concatenate([above, strip_hw])
        starts, values = _run_lengths(rows_hw)
        first = int(np.searchsorted(starts, width))
        upper, lower, at = _touching(starts, width, rows_hw.size)
        joined = (values[upper] == values[lower]) & (values[upper] != self._nodata)
        roots = components(len(starts), upper[joined], lower[joined])
        ids = self._numbered(roots, values, first)
        self._above = strip_hw[-1:]
        self._above_ids = ids[np.searchsorted(starts, rows_hw.size - width) :]
        return NumberedStrip(
            top=top,
            width=width,
            first=first,
            starts=starts,
            lengths=np.diff(starts, append=rows_hw.size),
            values=values,
            ids=ids,
            upper=upper,
            lower=lower,
            at=at,
        )

    def regions_of_ids(self) -> tuple[np.ndarray, int]:
        """Return int32 [count], the region of each provisional number, and how many there are."""
        merges = np.concatenate([np.zeros((0, 2), np.int32), *self._merges])
        roots = components(self.count, merges[:, 0], merges[:, 1])
        kept, of_ids = np.unique(roots, return_inverse=True)
        return of_ids.astype(np.int32), len(kept)

    def _numbered(self, roots: np.ndarray, values: np.ndarray, first: int) -> np.ndarray:
        """Return the provisional numbers of run lengths, by the first of each that they touch.

        What reaches the row above keeps the smallest number it has there.
        """
        number = np.full(len(roots), self.count + len(roots), np.int64)
        known = self._above_ids if len(self._above_ids) else np.full(first, NO_REGION, np.int32)
        old = known != NO_REGION
        np.minimum.at(number, roots[:first][old], known[old])
        merged = np.stack([known[old], number[roots[:first][old]]], axis=1)
        self._merges.append(merged[merged[:, 0] != merged[:, 1]].astype(np.int32))
        is_new = (roots == np.arange(len(roots))) & (values != self._nodata)
        is_new &= number == self.count + len(roots)
        number[is_new] = self.count + np.arange(np.count_nonzero(is_new))
        self.count += int(np.count_nonzero(is_new))
        return np.where(values == self._nodata, NO_REGION, number[roots]).astype(np.int32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Regions:
    """What is known of every region of a map."""

    of_ids: np.ndarray
    """int32, the region of each provisional number."""
    values: np.ndarray
    """uint8 [regions]."""
    pixels: np.ndarray
    """int64 [regions]."""
    areas_m2: np.ndarray
    """float64 [regions], on the ground."""
    last_rows: np.ndarray
    """int64 [regions], the lowest row that each reaches."""
    confidences: np.ndarray | None
    """float64 [regions], the mean of the pixels, 0 to 1; None where the map has no confidence."""

    @property
    def count(self) -> int:
        """Number of regions."""
        return len(self.values)

    def of(self, strip: NumberedStrip) -> np.ndarray:
        """Return int32, the region of each run length of a strip; NO_REGION of nodata."""
        if not len(self.of_ids):
            return np.full(len(strip.ids), NO_REGION, np.int32)
        found: np.ndarray = np.where(strip.ids == NO_REGION, NO_REGION, self.of_ids[strip.ids])
        return found


def measured(
    strips: Iterable[tuple[int, np.ndarray]],
    nodata: int,
    ground: Ground,
    confidence: Iterable[tuple[int, np.ndarray]] | None = None,
) -> Regions:
    """Return the regions of a map whose strips come from top to bottom.

    `confidence` gives uint8 strips of the same rows, counts of 255.
    """
    labeller = Labeller(nodata)
    table = _Table()
    beside = iter(confidence) if confidence is not None else None
    for top, strip_hw in strips:
        strip = labeller.label(top, strip_hw)
        table.add(strip, ground, next(beside)[1] if beside else None)
    of_ids, count = labeller.regions_of_ids()
    pixels = np.bincount(of_ids, table.column("pixels", labeller.count), count).astype(np.int64)
    confidences = None
    if confidence is not None:
        sums = np.bincount(of_ids, table.column("confidences", labeller.count), count)
        confidences = sums / np.maximum(pixels, 1) / 255
    values, last_rows = np.zeros(count, np.uint8), np.zeros(count, np.int64)
    values[of_ids] = table.column("values", labeller.count)
    np.maximum.at(last_rows, of_ids, table.column("last_rows", labeller.count))
    return Regions(
        of_ids=of_ids,
        values=values,
        pixels=pixels,
        areas_m2=np.bincount(of_ids, table.column("areas_m2", labeller.count), count),
        last_rows=last_rows,
        confidences=confidences,
    )


class _Table:
    """Sums by provisional number, grown as numbers are given."""

    def __init__(self) -> None:
        self._columns: dict[str, np.ndarray] = {
            "pixels": np.zeros(0),
            "areas_m2": np.zeros(0),
            "confidences": np.zeros(0),
            "values": np.zeros(0, np.uint8),
            "last_rows": np.zeros(0, np.int32),
        }

    def add(self, strip: NumberedStrip, ground: Ground, confidence_hw: np.ndarray | None) -> None:
        own = np.flatnonzero(strip.ids[strip.first :] != NO_REGION) + strip.first
        ids = strip.ids[own]
        count = int(ids.max(initial=-1)) + 1
        self._grow(count)
        lengths = strip.lengths[own]
        sums = {"pixels": lengths, "areas_m2": _areas_m2(strip, own, ground)}
        if confidence_hw is not None:
            starts = strip.starts[strip.first :] - strip.width
            of_runs = np.add.reduceat(confidence_hw.ravel(), starts, dtype=np.int64)
            sums["confidences"] = of_runs[own - strip.first]
        for name, weights in sums.items():
            self._columns[name][:count] += np.bincount(ids, weights, count)
        self._columns["values"][ids] = strip.values[own]
        np.maximum.at(self._columns["last_rows"], ids, strip.rows[own].astype(np.int32))

    def column(self, name: str, count: int) -> np.ndarray:
        self._grow(count)
        return self._columns[name][:count]

    def _grow(self, count: int) -> None:
        room = len(self._columns["pixels"])
        if count > room:
            more = max(count, 2 * room) - room
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros(more, column.dtype)])


def _areas_m2(strip: NumberedStrip, own: np.ndarray, ground: Ground) -> np.ndarray:
    """Return float64, what run lengths cover on the ground."""
    areas = np.zeros(len(own))
    rows = strip.rows[own]
    cols = strip.starts[own] % strip.width
    for row in np.unique(rows):
        chosen = slice(*np.searchsorted(rows, (row, row + 1)))
        sums = ground.sums_m2(int(row))
        start = cols[chosen]
        areas[chosen] = sums[start + strip.lengths[own[chosen]]] - sums[start]
    return areas


def components(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return int64 [count], the smallest node that each of `count` nodes is linked with.

    Links are pairs of nodes. Roots are hooked to smaller ones and ways to them halved until no
    link joins two (Shiloach and Vishkin, An O(log n) parallel connectivity algorithm, 1982).
    """
    parent = np.arange(count)
    one, other = np.asarray(one, np.int64), np.asarray(other, np.int64)
    while len(one):
        one, other = parent[one], parent[other]
        apart = one != other
        one, other = one[apart], other[apart]
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                break
            parent = above
    return parent


def _run_lengths(rows_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions at which run lengths begin, each in one row, and their values."""
    flat = rows_hw.ravel()
    begins = np.ones(len(flat), bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    begins[:: rows_hw.shape[1]] = True
    starts = np.flatnonzero(begins)
    return starts, flat[starts]


def _touching(starts: np.ndarray, width: int, size: int) -> tuple[np.ndarray, ...]:
    """Return which run lengths touch one above the other, and from which position on."""
    lower, upper = starts[starts >= width], starts[starts < size - width] + width
    at = np.sort(np.concatenate([lower, upper]), kind="stable")  # two sorted halves: merged
    at = at[np.concatenate([[True], at[1:] != at[:-1]])] if len(at) else at
    above = np.searchsorted(starts, at - width, side="right") - 1
    return above, np.searchsorted(starts, at, side="right") - 1, at


def labelled(strips: Iterable[tuple[int, np.ndarray]], nodata: int) -> Iterator[NumberedStrip]:
    """Yield the strips of a map with the numbers that `measured` has seen."""
    labeller = Labeller(nodata)
    for top, strip_hw in strips:
        yield labeller.label(top, strip_hw)
