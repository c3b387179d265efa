"""Changes between two maps: hectares from each class to each, and a map of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from flair_engine.crs import same_crs
from flair_engine.errors import SourceError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.post.map_file import NO_DATA, MapClass, strips
from flair_engine.post.virtual import NEAR_PX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rasterio.io import DatasetReader

    from flair_engine.post.ground import Ground
    from flair_engine.post.map_file import MapFile

UNCHANGED = 1
"""Value of what is alike in both maps, in a map of changes; 0 is nodata of either."""
MOST_PAIRS = 254
UNNAMED = "not in the legend"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Pixels and hectares by class of the old map and of the new."""

    names: list[str]
    """Classes of both; the first is what is not mapped, the last what no legend names."""
    pixels: np.ndarray
    """int64 [names, names], old by new."""
    hectares: np.ndarray
    """float64 [names, names], old by new."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Numbers of (old, new) that differ and are mapped in both, the largest change first."""
        changed = [
            (old, new)
            for old, new in np.argwhere(self.pixels)
            if old != new and old != 0 and new != 0
        ]
        return sorted(((int(o), int(n)) for o, n in changed), key=lambda p: -self.hectares[p])


@contextmanager
def on_grid_of(new: MapFile, old: MapFile, *, resample: bool) -> Iterator[DatasetReader]:
    """Yield the old map on the pixels of the new one: nearest where it has to be put there.

    Raises SourceError where the grids differ and nothing is to be resampled.
    """
    if _same_grid(old.dataset, new.dataset):
        yield old.dataset
        return
    if not resample:
        raise SourceError(
            f"{old.path} and {new.path} are not on one pixel grid "
            f"({_said(old.dataset)}; {_said(new.dataset)})",
            "use --resample nearest, which puts the old one on the pixels of the new",
        )
    try:
        warped = WarpedVRT(
            old.dataset,
            crs=new.dataset.crs,
            transform=new.dataset.transform,
            width=new.width,
            height=new.height,
            resampling=Resampling.nearest,
            src_nodata=old.nodata,
            nodata=old.nodata,
        )
    except GDAL_ERRORS as error:
        raise SourceError(
            f"{old.path}: cannot be put on the pixels of {new.path} ({first_line(error)})",
            "give two maps of one place",
        ) from error
    with warped:
        yield warped


def compared(
    old: DatasetReader,
    old_map: MapFile,
    new_map: MapFile,
    ground: Ground,
    progress: Callable[[int, int], None],
) -> Change:
    """Return what two maps on one grid hold, `old` being the old one there. Raises SourceError."""
    names = names_of_both(old_map, new_map)
    count = len(names)
    pixels, areas_m2 = np.zeros(count**2, np.int64), np.zeros(count**2)
    from_old, from_new = _numbers(old_map, names), _numbers(new_map, names)
    both = zip(strips(old, old_map.path), new_map.strips(), strict=True)
    for (top, old_hw), (_, new_hw) in both:
        pair = from_old[old_hw] * count + from_new[new_hw]
        px_m2 = np.stack([ground.row_m2(top + row) for row in range(len(pair))])
        pixels += np.bincount(pair.ravel(), minlength=count**2)
        areas_m2 += np.bincount(pair.ravel(), px_m2.ravel(), count**2)
        progress(new_map.width * (top + len(pair)), new_map.pixels)
    found = Change(
        names=names,
        pixels=pixels.reshape(count, count),
        hectares=areas_m2.reshape(count, count) / 10_000,
    )
    if not found.pixels[1:, 1:].any():
        raise SourceError(
            f"{old_map.path} and {new_map.path} are nowhere both mapped",
            "give two maps of one place",
        )
    return found


def names_of_both(old: MapFile, new: MapFile) -> list[str]:
    """Return "no data", the names of the new map's classes, of the old one's others, "unknown".

    Raises SourceError where a map has no names to match by.
    """
    for each in (old, new):
        if not each.named:
            raise SourceError(
                f"{each.path}: no names of classes lie beside it, by which they are matched",
                f"put {each.path.name}.aux.xml beside it again",
            )
    known = [*new.classes.values(), *old.classes.values()]
    return [NO_DATA, *dict.fromkeys(entry.name for entry in known), UNNAMED]


def only_in_one(change: Change, old: MapFile, new: MapFile) -> list[str]:
    """Return what to tell of classes that occur in one map and that the other cannot hold."""
    told = []
    for one, other, axis in ((old, new, 1), (new, old, 0)):
        known = {entry.name for entry in other.classes.values()}
        occurs = change.pixels.sum(axis=axis) > 0
        missing = [
            name
            for name, there in zip(change.names[1:-1], occurs[1:-1], strict=True)
            if there and name not in known
        ]
        if missing:
            told.append(
                f"{other.path} has no class {', '.join(missing)}: what {one.path} shows as such "
                "counts as changed"
            )
    return told


def change_classes(change: Change, new: MapFile) -> dict[int, MapClass]:
    """Return the classes of a map of changes: each named "old -> new", in the new one's colour."""
    colors = {entry.name: entry.color for entry in new.classes.values()}
    found = {UNCHANGED: MapClass(value=UNCHANGED, name="unchanged", color="#ffffff", alpha=0)}
    for value, (o, n) in enumerate(change.pairs[:MOST_PAIRS], UNCHANGED + 1):
        name = f"{change.names[o]} -> {change.names[n]}"
        color = colors.get(change.names[n], "#808080")
        found[value] = MapClass(value=value, name=name, color=color)
    return found


def change_strips(
    old: DatasetReader, old_map: MapFile, new_map: MapFile, change: Change
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield strips of the map of changes, with the values of `change_classes`."""
    count = len(change.names)
    table = np.zeros((count, count), np.uint8)
    table[1:, 1:] = UNCHANGED * np.eye(count - 1, dtype=np.uint8)
    for value, pair in enumerate(change.pairs[:MOST_PAIRS], UNCHANGED + 1):
        table[pair] = value
    from_old, from_new = _numbers(old_map, change.names), _numbers(new_map, change.names)
    both = zip(strips(old, old_map.path), new_map.strips(), strict=True)
    for (top, old_hw), (_, new_hw) in both:
        yield top, table[from_old[old_hw], from_new[new_hw]]


def table_of(change: Change) -> dict[str, list[object]]:
    """Return the table, class by class, of all that occurs: what is alike too."""
    pairs = [(int(o), int(n)) for o, n in np.argwhere(change.pixels)]
    return {
        "old_class": [change.names[o] for o, _ in pairs],
        "new_class": [change.names[n] for _, n in pairs],
        "hectares": [float(change.hectares[pair]) for pair in pairs],
        "pixels": [int(change.pixels[pair]) for pair in pairs],
    }


def _numbers(map_file: MapFile, names: Sequence[str]) -> np.ndarray:
    """Return int64 [256], the number of the name of each value."""
    found = np.full(256, len(names) - 1)
    for value, entry in map_file.classes.items():
        found[value] = names.index(entry.name)
    found[map_file.nodata] = 0
    return found


def _same_grid(old: DatasetReader, new: DatasetReader) -> bool:
    if (old.width, old.height) != (new.width, new.height) or not same_crs(old.crs, new.crs):
        return False
    corners = ((0, 0), (new.width, 0), (0, new.height))
    moved = [~new.transform @ (old.transform @ corner) for corner in corners]
    return bool(np.allclose(moved, corners, rtol=0, atol=NEAR_PX))


def _said(dataset: DatasetReader) -> str:
    left, top = dataset.transform.c, dataset.transform.f
    return (
        f"{dataset.width} x {dataset.height} px of {dataset.res[0]:g} from {left:.2f}, {top:.2f} "
        f"in {dataset.crs}"
    )
