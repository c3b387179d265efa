"""One run from inputs to published maps: the stations of the data put in a row."""

from __future__ import annotations

import datetime as dt
import time
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flair_engine import provenance
from flair_engine.agreement import TILES
from flair_engine.errors import OutputError
from flair_engine.grid import Grid, Window
from flair_engine.inference.base import available_cpus
from flair_engine.inference.choose import load
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import output_bands, read_model_spec, tile_grid
from flair_engine.mapping.assembly import assembled
from flair_engine.mapping.journal import Journal, unfinished
from flair_engine.mapping.landcover import MapStyle, check_folder, check_output, write_maps
from flair_engine.overlap import Stopwatch, alongside, prefetched, written_behind
from flair_engine.reading.height import HeightCheck
from flair_engine.reading.inputs import ELEVATION, Opened, open_inputs, selected_cores
from flair_engine.reading.schedule import ReadCounter, panels
from flair_engine.reading.strips import read_strips, sample_tiles
from flair_engine.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flair_engine.inference.base import Backend
    from flair_engine.inference.labelling import LabelledStrip
    from flair_engine.options import Inputs, MapOptions, ReadOptions, RunOptions
    from flair_engine.reading.strips import Strip


class Run:
    """The state of one run; see `segment` for its arguments and errors."""

    def __init__(
        self,
        model: Path,
        inputs: Inputs,
        output: Path,
        run: RunOptions,
        read: ReadOptions,
        write: MapOptions,
        progress: Callable[[int, int], None] | None,
        notify: Callable[[str], None] | None,
        status: Callable[[str], None] | None,
    ) -> None:
        self._began = time.perf_counter()
        self._model = model
        self._output = output
        self._options = run
        self._read_options = read
        self._map = write
        self._progress = progress or (lambda _done, _total: None)
        self._notify = notify
        self._status = status or (lambda _line: None)
        self._notices: list[str] = []
        self._inputs = inputs
        self._spec = read_model_spec(model)
        self._threads = run.threads or available_cpus()
        self._counter = ReadCounter()
        self._read_watch, self._write_watch = Stopwatch(), Stopwatch()
        self._assembled_s = 0.0

    def execute(self) -> Report:
        """Read, label and write everything; return what was done."""
        folder = self._work_folder()
        may_replace = self._map.overwrite or (self._map.resume and unfinished(folder))
        if self._map.resume and self._output.is_file() and not may_replace:
            raise OutputError(f"{self._output}: is complete, there is no unfinished run to resume")
        self._check_output(may_replace)
        opened = open_inputs(self._spec, self._inputs, self._read_options)
        with closing(opened), closing(self._load(opened)) as backend:
            for notice in opened.notices:
                self._tell(notice)
            targets = self._targets(opened, may_replace)
            grid = tile_grid(self._spec, opened.raster)
            selected = selected_cores(grid, opened.pixel_grid, self._map.bbox, self._map.aoi)
            with Journal(
                folder,
                provenance.identity(
                    self._model,
                    self._spec,
                    backend,
                    grid,
                    opened.files,
                    selected,
                    (self._inputs, self._read_options, self._map),
                ),
                started=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
                resume=self._map.resume,
                restart=self._map.overwrite,
            ) as journal:
                loaded = time.perf_counter()
                area = _area(grid, selected)
                cores = panels(grid, opened.raster, area[1])

                def publish() -> None:
                    self._publish(opened, backend, grid, area, cores, journal, targets)

                # The maps are assembled while strips come; the last rows wait for the last strips.
                with alongside(publish, cancel=journal.abandon) as check:
                    self._label(opened, backend, grid, selected, area[0], cores, journal, check)
                counts = journal.count_values("labels")
                report = self._report(opened, backend, grid, area, counts, loaded)
                journal.remove()
                return report

    def _load(self, opened: Opened) -> Backend:
        """Open the engine; tiles of the inputs judge a plan that has to be built."""
        raster = opened.raster
        return load(
            self._model,
            self._spec,
            self._options,
            samples=lambda: sample_tiles(
                raster, tile_grid(self._spec, raster), TILES, self._threads
            ),
            notify=self._tell,
            status=self._status,
        )

    def _label(
        self,
        opened: Opened,
        backend: Backend,
        grid: Grid,
        selected: np.ndarray | None,
        rows: range,
        cores: Sequence[range],
        journal: Journal,
        check: Callable[[], None],
    ) -> None:
        """Infer the strips that the journal does not have, and store them there.

        `check` raises where it is of no use to go on.
        """
        finished = journal.finished(self._spec.outputs)
        total = sum(_pixels(grid, rows, panel) for panel in cores)
        done = 0
        for panel in cores:
            left = panel.start * grid.core_px
            todo = [i for i in rows if (left, i) not in finished]
            done += _pixels(grid, [i for i in rows if (left, i) in finished], panel)
            self._progress(done, total)
            if not todo:
                continue
            strips = read_strips(
                opened.raster,
                grid,
                panel,
                todo,
                threads=self._threads,
                counter=self._counter,
            )
            ahead = prefetched(self._read_watch.time(strips))
            labelled = label_strips(
                self._watched(ahead), grid, backend.slots, output_bands(self._spec), selected
            )
            store = self._write_watch.timed(_store(journal))
            with closing(ahead), closing(written_behind(labelled, store)) as stored:
                for strip in stored:
                    check()
                    done += strip.window.height * strip.window.width
                    self._progress(done, total)

    def _watched(self, strips: Iterator[Strip]) -> Iterator[Strip]:
        """Pass strips on, telling the user where their elevation cannot be right."""
        if ELEVATION not in self._spec.bands:
            yield from strips
            return
        check = HeightCheck(self._spec.bands.index(ELEVATION))
        for strip in strips:
            if warning := check.observe(strip):
                self._tell(warning)
            yield strip
        if warning := check.verdict():
            self._tell(warning)

    def _publish(
        self,
        opened: Opened,
        backend: Backend,
        grid: Grid,
        area: tuple[range, range],
        cores: Sequence[range],
        journal: Journal,
        targets: Sequence[tuple[Path, Window]],
    ) -> None:
        """Assemble the maps from the journal, whose strips may be still to come."""
        begin = time.perf_counter()
        whole = _window(grid, area)
        load_strip = lru_cache(maxsize=2 * len(cores))(journal.load)

        def read(name: str, window: Window) -> np.ndarray:
            return assembled(load_strip, name, window, grid, area[0], cores)

        style = MapStyle(
            spec=self._spec,
            crs=opened.pixel_grid.crs,
            transform=opened.pixel_grid.transform,
            values=self._map.labels,
            tags=provenance.tags(self._spec, backend, journal.started),
            cog=self._map.cog,
        )
        for path, window in targets or [(self._output, whole)]:
            write_maps(path, window, style, read, journal.folder)
        self._assembled_s = time.perf_counter() - begin - journal.waited_s

    def _report(
        self,
        opened: Opened,
        backend: Backend,
        grid: Grid,
        area: tuple[range, range],
        counts: np.ndarray,
        loaded: float,
    ) -> Report:
        spec, window = self._spec, _window(grid, area)
        if self._counter.missing:
            self._tell(f"height is missing on {self._counter.missing:,} px: counted as 0")
        if opened.skipped_blocks:
            self._tell(f"{opened.skipped_blocks} unreadable blocks skipped: nodata there")
        transform = opened.pixel_grid.transform
        hectares_per_px = abs(transform.determinant) / 10_000
        if self._read_options.gsd_m or not opened.pixel_grid.crs:
            hectares_per_px = spec.gsd_m**2 / 10_000
        return Report(
            output=str(self._output),
            model=spec.name,
            weights_sha256=spec.weights_sha256,
            engine=backend.engine,
            device=backend.device,
            description=backend.description,
            precision=backend.precision,
            agreement_fp32=backend.agreement_fp32,
            exported_agreement_fp32=spec.agreement_fp32,
            batch=backend.batch,
            slots=len(backend.slots),
            tile_px=spec.tile_px,
            margin_px=spec.margin_px,
            gsd_m=spec.gsd_m,
            height=window.height,
            width=window.width,
            tiles=len(area[0]) * len(area[1]),
            start_up_s=loaded - self._began,
            wall_s=time.perf_counter() - loaded,
            busy_s={
                "read": self._read_watch.busy_s,
                **backend.busy_s,
                "write": self._write_watch.busy_s,
                "assemble": self._assembled_s,
            },
            pixels_by_class={
                entry.name: int(counts[entry.value])
                for entry in spec.classes
                if counts[entry.value]
            },
            hectares_by_class={
                entry.name: int(counts[entry.value]) * hectares_per_px
                for entry in spec.classes
                if counts[entry.value]
            },
            nodata_pixels=int(counts[0]),
            blocks_requested=self._counter.blocks,
            blocks=opened.raster.blocks,
            skipped_blocks=opened.skipped_blocks,
            missing_height_pixels=self._counter.missing,
            notices=tuple(self._notices),
        )

    def _tell(self, notice: str) -> None:
        self._notices.append(notice)
        if self._notify:
            self._notify(notice)

    def _work_folder(self) -> Path:
        if self._map.per_input:
            return self._output / ".flair-run"
        return self._output.with_name(f".{self._output.name}.flair-run")

    def _check_output(self, may_replace: bool) -> None:
        if not self._map.per_input:
            check_output(self._output, overwrite=may_replace)
        elif self._output.is_file():
            raise OutputError(f"{self._output}: is a file: --per-input wants a folder")
        else:
            check_folder(self._output, self._output)

    def _targets(self, opened: Opened, may_replace: bool) -> list[tuple[Path, Window]]:
        """Return the map and window of each delivered file with `per_input`, else nothing."""
        if not self._map.per_input:
            return []
        targets: dict[Path, Window] = {}
        for name, window in opened.delivered:
            path = self._output / f"{Path(name).stem}.tif"
            if path in targets:
                raise OutputError(f"{path}: two inputs have this name: give them in separate runs")
            if path.exists() and path.samefile(name):
                raise OutputError(f"{path}: is the input itself: give another folder")
            check_output(path, overwrite=may_replace)
            targets[path] = window
        return list(targets.items())


def _store(journal: Journal) -> Callable[[LabelledStrip], None]:
    return lambda strip: journal.append(strip.window.left, strip.i, strip.outputs)


def _area(grid: Grid, selected: np.ndarray | None) -> tuple[range, range]:
    """Return the rows and columns of cores that hold every selected one."""
    if selected is None:
        return range(grid.rows), range(grid.cols)
    rows, cols = np.flatnonzero(selected.any(1)), np.flatnonzero(selected.any(0))
    return range(int(rows[0]), int(rows[-1]) + 1), range(int(cols[0]), int(cols[-1]) + 1)


def _window(grid: Grid, area: tuple[range, range]) -> Window:
    first = grid.core(area[0][0], area[1][0])
    last = grid.core(area[0][-1], area[1][-1])
    return Window(
        top=first.top,
        left=first.left,
        height=last.bottom - first.top,
        width=last.right - first.left,
    )


def _pixels(grid: Grid, rows: Sequence[int], panel: range) -> int:
    width = grid.core(0, panel[-1]).right - grid.core(0, panel[0]).left
    return width * sum(grid.core(i, 0).height for i in rows)
