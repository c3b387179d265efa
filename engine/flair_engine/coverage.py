"""Panels that are read of the inputs, and the maps that are made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flair_engine.grid import LARGEST_TILE_PX, TILE_STEP_PX, bounds, ceil_div, cut_to
from flair_engine.manifest import output_bands, tile_grid
from flair_engine.mapping.standing import kept_styles
from flair_engine.mapping.targets import Target, targets_per_input
from flair_engine.options import silent
from flair_engine.reading.area import area_shapes, touched_cores, touches_nothing
from flair_engine.reading.clip import clip_to
from flair_engine.reading.schedule import panels as panels_of
from flair_engine.reading.sheets import covered_areas
from flair_engine.window_index import WindowIndex
from flair_engine.work import Panel, SheetTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from flair_engine.core_mask import CoreMask
    from flair_engine.grid import Cores, Window
    from flair_engine.manifest import ModelSpec, Sized
    from flair_engine.options import Job
    from flair_engine.reading.clip import Clip
    from flair_engine.reading.inputs import Opened, Sheet

TRAINED_TILE_PX = 512
"""Tiles of the training; smaller ones have not been looked at."""


def planned(
    job: Job,
    spec: ModelSpec,
    opened: Opened,
    memory_mib: int,
    notify: Callable[[str], None],
    within: Window | None = None,
) -> tuple[list[Panel], list[SheetTarget]]:
    """Return what is to be read, and the maps to be made of it; tell what the user should know.

    Panels are as wide as their pixels fit into `memory_mib`. Of an excerpt only cores `within` its
    window are read, and the map shows all of that. Raises SourceError and OutputError for
    what cannot be.
    """
    for notice in opened.notices:
        notify(notice)
    panels: list[Panel] = []
    bands = sum(output_bands(spec).values())
    for sheet in opened.sheets:
        grid = tile_grid(spec, sheet.raster)
        # The second sheet has the same shapes as the first: told once.
        tell = notify if sheet is opened.sheets[0] else silent
        wanted = _wanted(job, sheet, tell)
        areas = covered_areas(grid, [window for _, window in sheet.delivered])
        for area in areas if within is None else _cut_at(areas, within):
            selected = wanted.cores(sheet, area)
            if selected is not None and not selected.any():
                continue
            cores = area if selected is None else cut_to(area, selected.by_row(), selected.by_col())
            cut = panels_of(cores, sheet.raster, memory_mib * 2**20, bands)
            panels += _panels(sheet, area, wanted.clip, selected, cut, first=len(panels))
    targets = _targets(job, spec, opened, panels, within) if panels else []
    if not targets:
        raise touches_nothing(job.write.bbox, job.write.aoi)
    wasteful = too_large_tiles(spec, [sheet.raster for sheet in opened.sheets])
    if wasteful and within is None:
        notify(wasteful)
    if kept := kept_styles([each.target.path for each in targets]):
        notify(kept)
    return panels, targets


def _cut_at(areas: Iterable[Cores], window: Window) -> Iterator[Cores]:
    """Yield what lies in a window, which ends with cores, of areas."""
    for area in areas:
        size = area.grid.core_px
        first_row, first_col = window.top // size, window.left // size
        stop_row, stop_col = ceil_div(window.bottom, size), ceil_div(window.right, size)
        rows = range(max(area.rows.start, first_row), min(area.rows.stop, stop_row))
        cols = range(max(area.cols.start, first_col), min(area.cols.stop, stop_col))
        if rows and cols:
            yield replace(area, rows=rows, cols=cols)


def too_large_tiles(spec: ModelSpec, rasters: Sequence[Sized]) -> str | None:
    """Return what is said where smaller tiles take at most half the arithmetic, None elsewhere.

    A raster of 512 px is one tile of 2048 px, nearly all of it mirrored, or four of 512 px.
    """
    work = {tile_px: _tiled_px(replace(spec, tile_px=tile_px), rasters) for tile_px in _tiles(spec)}
    best_px = min(work, key=lambda tile_px: (work[tile_px], -tile_px))
    times = work[spec.tile_px] / work[best_px]
    if times < 2:
        return None
    largest = max(rasters, key=lambda raster: raster.height * raster.width)
    return (
        f"{'the raster' if len(rasters) == 1 else 'the largest raster'} has {largest.height} x "
        f"{largest.width} px, the model reads tiles of {spec.tile_px}: one exported with --tile "
        f"{best_px} computes {times:.2g} times less"
    )


def _tiles(spec: ModelSpec) -> list[int]:
    """Return the model's tile and its halves that are not smaller than those of the training."""
    halves = (spec.tile_px >> times for times in range(1, LARGEST_TILE_PX.bit_length()))
    least = max(TRAINED_TILE_PX, 2 * spec.margin_px + 1)
    return [spec.tile_px, *(half for half in halves if half >= least and not half % TILE_STEP_PX)]


def _tiled_px(spec: ModelSpec, rasters: Iterable[Sized]) -> int:
    """Return the pixels of all tiles of some rasters."""
    grids = (tile_grid(spec, raster) for raster in rasters)
    return sum(grid.rows * grid.cols for grid in grids) * spec.tile_px**2


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What is to be mapped of a sheet."""

    shapes: Sequence[Any] | None
    """None for all of it."""
    clip: Clip | None
    """None where the cores that shapes touch are mapped whole."""

    def cores(self, sheet: Sheet, area: Cores) -> CoreMask | None:
        """Return the cores of an area that are labelled, None for all."""
        if self.shapes is None:
            return None
        touched = touched_cores(self.shapes, sheet.pixel_grid, area)
        return touched if self.clip is None else touched.within(*self.clip.meeting(area))


def _wanted(job: Job, sheet: Sheet, tell: Callable[[str], None]) -> _Wanted:
    """Return what is to be mapped of a sheet. Raises SourceError."""
    write = job.write
    shapes = area_shapes(sheet.pixel_grid, write.bbox, write.aoi, tell, write.aoi_layer)
    exact = shapes is not None and not write.whole_cores
    return _Wanted(shapes=shapes, clip=clip_to(shapes or (), sheet.pixel_grid) if exact else None)


def _panels(
    sheet: Sheet,
    area: Cores,
    clip: Clip | None,
    selected: CoreMask | None,
    cut: Sequence[Cores],
    first: int,
) -> Iterator[Panel]:
    """Yield the panels that an area is cut into, numbered from `first`."""
    for number, panel in enumerate(cut, first):
        here = None
        if selected is not None:
            rows = slice(panel.rows.start - area.rows.start, panel.rows.stop - area.rows.start)
            cols = slice(panel.cols.start - area.cols.start, panel.cols.stop - area.cols.start)
            here = selected.cut(rows, cols)
        yield Panel(number=number, sheet=sheet, cores=panel, selected=here, clip=clip)


def _targets(
    job: Job, spec: ModelSpec, opened: Opened, panels: Sequence[Panel], within: Window | None
) -> list[SheetTarget]:
    """Return the maps, in the order in which what they show is read."""
    if not job.write.per_input:
        window = within or bounds(panel.shown for panel in panels)
        if within is None and not _shown(panels, window):
            return []
        target = Target(path=job.output, window=window)
        return [SheetTarget(target=target, sheet=opened.sheets[0], panels=tuple(panels))]
    shown = []
    panels_of_sheet: dict[int, list[Panel]] = {id(sheet): [] for sheet in opened.sheets}
    for panel in panels:
        panels_of_sheet[id(panel.sheet)].append(panel)
    for sheet in opened.sheets:
        of_sheet = panels_of_sheet[id(sheet)]
        index = WindowIndex([panel.cores.window for panel in of_sheet])
        for name, covered in sheet.delivered:
            met = tuple(of_sheet[number] for number in index.meeting(covered))
            if any(_shows(panel, covered) for panel in met) and (part := _shown(met, covered)):
                shown.append((name, part, sheet, met))
    maps = targets_per_input(job, [(name, window) for name, window, _, _ in shown], spec.outputs)
    targets = [
        SheetTarget(target=target, sheet=sheet, panels=met)
        for target, (_, _, sheet, met) in zip(maps, shown, strict=True)
    ]
    return sorted(targets, key=lambda each: max(panel.number for panel in each.panels))


def _shown(panels: Sequence[Panel], window: Window) -> Window | None:
    """Return what a map of a window shows of panels of one sheet; None where that is no pixel."""
    clip = panels[0].clip
    if clip is None:
        return window
    return window.intersection(clip.window) if clip.covers(window) else None


def _shows(panel: Panel, window: Window) -> bool:
    """Return whether a core of a panel that is labelled lies in a window."""
    if panel.selected is None:
        return True
    size, rows, cols = panel.cores.grid.core_px, panel.cores.rows, panel.cores.cols
    first_row, first_col = window.top // size - rows.start, window.left // size - cols.start
    stop_row = ceil_div(window.bottom, size) - rows.start
    stop_col = ceil_div(window.right, size) - cols.start
    here = slice(max(0, first_row), max(0, stop_row)), slice(max(0, first_col), max(0, stop_col))
    return panel.selected.cut(*here).any()
