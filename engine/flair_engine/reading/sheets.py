"""Files of one product that cover one another, or lie far apart: what makes one raster of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.errors import SourceError
from flair_engine.grid import Cores, Grid, Window, bounds, ceil_div
from flair_engine.tolerances import FAR_APART, FAR_APART_PX, SEAM_SHARE
from flair_engine.window_index import meeting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flair_engine.reading.file_info import FileInfo


def covering(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """Return the numbers of every two windows that cover one another by more than a seam."""
    return [
        (one, other)
        for one, other in meeting(windows)
        if _share(windows[one], windows[other]) > SEAM_SHARE
    ]


def _share(one: Window, other: Window) -> float:
    """Return how much of the smaller window the other covers."""
    return one.intersection(other).pixels / min(one.pixels, other.pixels)


def check_placed(infos: Sequence[FileInfo], *, apart: bool) -> None:
    """Raise SourceError where files that do not say where they lie would make one raster."""
    unplaced = [info for info in infos if not info.placed]
    if len(infos) == 1 or not unplaced:
        return
    if len(unplaced) < len(infos):
        raise SourceError(
            f"{unplaced[0].name}: has no georeference while other files have one",
            "give it its world file or georeference, or leave it out",
        )
    if not apart:
        raise SourceError(
            f"{len(infos)} files without a georeference (first {infos[0].name}) cannot be put "
            "together",
            "use --per-input for a map of each",
        )


def apart_from_one_another(
    infos: Sequence[FileInfo], windows: Sequence[Window]
) -> list[list[FileInfo]]:
    """Return files put on sheets, in their order: on none do two cover one another."""
    if not infos[0].placed:
        return [[info] for info in infos]
    rivals: dict[int, set[int]] = defaultdict(set)
    for one, other in covering(windows):
        rivals[other].add(one)
    sheet_of: dict[int, int] = {}
    for number in range(len(infos)):
        taken = {sheet_of[rival] for rival in rivals[number] if rival in sheet_of}
        sheet_of[number] = next(n for n in range(len(infos)) if n not in taken)
    sheets: dict[int, list[FileInfo]] = defaultdict(list)
    for number, info in enumerate(infos):
        sheets[sheet_of[number]].append(info)
    return [sheets[number] for number in sorted(sheets)]


def check_no_rivals(name: str, infos: Sequence[FileInfo], windows: Sequence[Window]) -> None:
    """Raise SourceError where it is unknown which file of a product belongs to which sheet."""
    unplaced = [info for info in infos if not info.placed]
    pairs = [] if unplaced else covering(windows)
    if unplaced or pairs:
        rivals = [infos[n].name for n in pairs[0]] if pairs else [i.name for i in unplaced[:2]]
        raise SourceError(
            f"{name}: files of the leading product show the same ground, and it is not known to "
            f"which of them {' and '.join(rivals)} belong{'s'[: len(rivals) == 1]}",
            "give those of each date in a run of their own",
        )


def check_box(infos: Sequence[FileInfo], windows: Sequence[Window]) -> None:
    """Raise SourceError where one map of some files would be nearly all void."""
    box = bounds(windows)
    if box.pixels < FAR_APART_PX or box.pixels < FAR_APART * sum(w.pixels for w in windows):
        return
    centres = np.array([(w.top + w.height / 2, w.left + w.width / 2) for w in windows])
    distances = np.abs(centres - np.median(centres, axis=0)).max(axis=1)
    raise SourceError(
        f"one map of these files would be {box.width:,} x {box.height:,} px and all but void; "
        f"farthest off lies {infos[int(distances.argmax())].name}",
        "check its CRS and georeference, or use --per-input",
    )


def covered_areas(grid: Grid, windows: Sequence[Window]) -> list[Cores]:
    """Return rectangles of cores, apart from one another, that hold all windows of the raster.

    Files that touch come to one; those far from it to others, so that nothing is spent on what
    lies between.
    """
    size = grid.core_px
    whole = Window(top=0, left=0, height=grid.rows, width=grid.cols)
    touched = [
        Window(
            top=window.top // size,
            left=window.left // size,
            height=ceil_div(window.bottom, size) - window.top // size,
            width=ceil_div(window.right, size) - window.left // size,
        ).intersection(whole)
        for window in windows
    ]
    rectangles = list(dict.fromkeys(touched))
    while (joined := list(_joined(rectangles))) != rectangles:
        rectangles = joined
    ordered = sorted(rectangles, key=lambda r: (r.top, r.left))
    return [
        Cores(grid=grid, rows=range(r.top, r.bottom), cols=range(r.left, r.right)) for r in ordered
    ]


def _joined(rectangles: Sequence[Window]) -> Iterator[Window]:
    """Yield the bounds of rectangles that touch one another, each group's."""
    reaching = [
        Window(top=r.top, left=r.left, height=r.height + 1, width=r.width + 1) for r in rectangles
    ]
    root = list(range(len(rectangles)))

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    for one, other in meeting(reaching):
        low, high = sorted((find(one), find(other)))
        root[high] = low
    groups: dict[int, list[Window]] = defaultdict(list)
    for number, rectangle in enumerate(rectangles):
        groups[find(number)].append(rectangle)
    for group in groups.values():
        yield bounds(group)
