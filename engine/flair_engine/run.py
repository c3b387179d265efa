"""One run from inputs to published maps: the stations of the data put in a row."""

from __future__ import annotations

import datetime as dt
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from flair_engine import provenance
from flair_engine.agreement import TILES
from flair_engine.grid import area_of
from flair_engine.inference.base import available_cpus
from flair_engine.inference.choose import load
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import ELEVATION, output_bands, read_model_spec, tile_grid
from flair_engine.mapping.assembly import assembled
from flair_engine.mapping.journal import Journal
from flair_engine.mapping.landcover import MapStyle, write_maps
from flair_engine.mapping.targets import Target, check_place, journal_folder, targets_per_input
from flair_engine.overlap import alongside, prefetched, written_behind
from flair_engine.reading.area import selected_cores
from flair_engine.reading.height import check_heights
from flair_engine.reading.inputs import open_inputs
from flair_engine.reading.schedule import panels
from flair_engine.reading.strips import read_strips, sample_tiles
from flair_engine.report import report_of
from flair_engine.work import Meters, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from flair_engine.grid import Cores, Window
    from flair_engine.inference.base import Backend
    from flair_engine.inference.labelling import LabelledStrip
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job, Listener
    from flair_engine.reading.inputs import Opened
    from flair_engine.reading.strips import Strip
    from flair_engine.report import Report


def run(job: Job, listener: Listener) -> Report:
    """Read, label and write everything; return what was done. See `segment` for the errors."""
    began = time.perf_counter()
    spec = read_model_spec(job.model)
    check_place(job)
    meters = Meters()
    listener = replace(listener, notify=_kept(listener.notify, meters.notices))
    opened = open_inputs(spec, job.inputs, job.read)
    with closing(opened), closing(_open_backend(job, listener, spec, opened)) as backend:
        for notice in opened.notices:
            listener.notify(notice)
        work = _prepared(job, listener, spec, opened, backend, meters)
        with _journal(work) as journal:
            loaded = time.perf_counter()
            # The maps are assembled while strips come; the last rows wait for the last strips.
            with alongside(lambda: _publish(work, journal), cancel=journal.abandon) as check:
                _label(work, journal, check)
            counts = journal.count_values("labels")
            wall_s = time.perf_counter() - loaded
            report = report_of(work, counts, start_up_s=loaded - began, wall_s=wall_s)
            journal.remove()
            return report


def _kept(notify: Callable[[str], None], notices: list[str]) -> Callable[[str], None]:
    """Return `notify`, keeping what is said."""

    def notify_and_keep(notice: str) -> None:
        notices.append(notice)
        notify(notice)

    return notify_and_keep


def _open_backend(job: Job, listener: Listener, spec: ModelSpec, opened: Opened) -> Backend:
    """Open the engine; tiles of the inputs judge a plan that has to be built."""
    raster = opened.raster
    threads = job.run.threads or available_cpus()
    return load(
        job.model,
        spec,
        job.run,
        samples=lambda: sample_tiles(raster, tile_grid(spec, raster), TILES, threads),
        notify=listener.notify,
        status=listener.status,
    )


def _prepared(
    job: Job,
    listener: Listener,
    spec: ModelSpec,
    opened: Opened,
    backend: Backend,
    meters: Meters,
) -> Work:
    """Return what is to be done. Raises SourceError and OutputError for what cannot be."""
    targets = targets_per_input(job, opened.delivered)
    grid = tile_grid(spec, opened.raster)
    selected = selected_cores(grid, opened.pixel_grid, job.write.bbox, job.write.aoi)
    area = area_of(grid, selected)
    return Work(
        job=job,
        listener=listener,
        spec=spec,
        opened=opened,
        backend=backend,
        area=area,
        panels=panels(area, opened.raster),
        selected=selected,
        targets=targets or [Target(path=job.output, window=area.window)],
        threads=job.run.threads or available_cpus(),
        meters=meters,
    )


def _journal(work: Work) -> Journal:
    return Journal(
        journal_folder(work.job),
        provenance.identity(work),
        started=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        resume=work.job.write.resume,
        restart=work.job.write.overwrite,
    )


def _label(work: Work, journal: Journal, check: Callable[[], None]) -> None:
    """Infer the strips that the journal does not have, and store them there.

    `check` raises where it is of no use to go on.
    """
    finished = journal.finished(work.spec.outputs)
    total, done = work.area.window.pixels, 0
    for panel in work.panels:
        left_over = [i for i in panel.rows if (panel.left, i) not in finished]
        done += panel.window.pixels - panel.pixels(left_over)
        work.listener.progress(done, total)
        if not left_over:
            continue
        with _stored_strips(work, panel, left_over, journal) as strips:
            for strip in strips:
                check()
                done += strip.window.pixels
                work.listener.progress(done, total)


@contextmanager
def _stored_strips(
    work: Work, panel: Cores, rows: Sequence[int], journal: Journal
) -> Iterator[Iterator[LabelledStrip]]:
    """Read, label and store strips of a panel, each in a thread of its own; yield the stored."""

    def store(strip: LabelledStrip) -> None:
        journal.append(panel.left, strip.i, strip.outputs)

    meters = work.meters
    strips = read_strips(
        work.opened.raster, panel, rows, threads=work.threads, counter=meters.reading
    )
    ahead = prefetched(meters.read.time(strips))
    labelled = label_strips(
        _checked(work, ahead),
        panel.grid,
        work.backend.slots,
        output_bands(work.spec),
        work.selected,
    )
    with closing(ahead), closing(written_behind(labelled, meters.write.timed(store))) as stored:
        yield stored


def _checked(work: Work, strips: Iterator[Strip]) -> Iterator[Strip]:
    """Pass strips on, telling the user where their elevation cannot be right."""
    if ELEVATION not in work.spec.bands:
        return strips
    return check_heights(strips, work.spec.bands.index(ELEVATION), work.listener.notify)


def _publish(work: Work, journal: Journal) -> None:
    """Assemble the maps from the journal, whose strips may be still to come."""
    begin = time.perf_counter()
    load_strip = lru_cache(maxsize=2 * len(work.panels))(journal.load)

    def read(name: str, window: Window) -> np.ndarray:
        return assembled(load_strip, name, window, work.panels)

    style = MapStyle(
        spec=work.spec,
        crs=work.opened.pixel_grid.crs,
        transform=work.opened.pixel_grid.transform,
        values=work.job.write.labels,
        tags=provenance.tags(work.spec, work.backend, journal.started),
        cog=work.job.write.cog,
    )
    for target in work.targets:
        write_maps(target, style, read, journal.folder)
    work.meters.assembled_s = time.perf_counter() - begin - journal.waited_s
