"""One run from inputs to published maps: the stations of the data put in a row."""

from __future__ import annotations

import datetime as dt
import math
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from flair_engine import provenance
from flair_engine.agreement import TILES
from flair_engine.coverage import planned
from flair_engine.errors import WriteError
from flair_engine.inference.choose import load
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import ELEVATION, label_values, output_bands, read_model_spec
from flair_engine.mapping.assembly import assembled
from flair_engine.mapping.journal import Journal, unfinished
from flair_engine.mapping.landcover import PART_PX, MapStyle, write_maps
from flair_engine.mapping.targets import (
    check_place,
    check_report,
    journal_folder,
    outputs_of,
)
from flair_engine.overlap import alongside, prefetched, written_behind
from flair_engine.overwriting import refuse_inputs
from flair_engine.reading.height import HeightCheck, check_heights
from flair_engine.reading.inputs import open_inputs
from flair_engine.reading.strips import read_strips, sample_tiles
from flair_engine.report import report_of
from flair_engine.resuming import check_complete, check_unchanged, drop_stale
from flair_engine.system import available_cpus
from flair_engine.tally import tally
from flair_engine.work import Meters, Panel, SheetTarget, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from flair_engine.grid import Cores, Window
    from flair_engine.inference.base import Backend
    from flair_engine.inference.labelling import LabelledStrip
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job, Listener
    from flair_engine.reading.inputs import Opened, Sheet
    from flair_engine.reading.strips import Strip
    from flair_engine.report import Report


CHECK_EVERY_S = 10.0
"""Seconds between looks at the times of all inputs, while many maps are published."""


def run(job: Job, listener: Listener) -> Report:
    """Read, label and write everything; return what was done. See `segment` for the errors."""
    began = time.perf_counter()
    spec = read_model_spec(job.model)
    check_place(job, spec.outputs)
    if job.write.report:
        check_report(job.write.report)
    meters = Meters()
    listener = replace(listener, notify=_kept(listener.notify, meters.notices))
    opened = open_inputs(spec, job.inputs, job.read, apart=job.write.per_input)
    with closing(opened):
        panels, targets = planned(job, spec, opened, listener.notify)
        _check_outputs(job, spec, opened, targets)
        with closing(_open_backend(job, listener, spec, panels)) as backend:
            work = Work(
                job=job,
                listener=listener,
                spec=spec,
                opened=opened,
                backend=backend,
                panels=panels,
                targets=targets,
                threads=job.run.threads or available_cpus(),
                meters=meters,
            )
            return _done(work, began)


def _done(work: Work, began: float) -> Report:
    """Label what is left of the work, publish the maps, write the report."""
    write = work.job.write
    if write.resume and not write.overwrite and not unfinished(journal_folder(work.job)):
        check_complete(work)
    with _journal(work) as journal:
        drop_stale(work, journal)
        loaded = time.perf_counter()
        # The maps are assembled while strips come; the last rows wait for the last strips.
        with alongside(lambda: _publish(work, journal), cancel=journal.abandon) as check:
            _label(work, journal, check)
        found = tally(work, journal.counts("labels"))
        wall_s = time.perf_counter() - loaded
        report = report_of(
            work,
            found,
            started=journal.started,
            skipped_before=journal.skipped_before,
            start_up_s=loaded - began,
            wall_s=wall_s,
        )
        journal.remove()
    if path := work.job.write.report:
        try:
            path.write_text(report.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise WriteError(
                f"{path}: the map is complete, its report cannot be written ({error.strerror})",
                "name another report",
            ) from error
    return report


def _kept(notify: Callable[[str], None], notices: list[str]) -> Callable[[str], None]:
    """Return `notify`, keeping what is said."""

    def notify_and_keep(notice: str) -> None:
        notices.append(notice)
        notify(notice)

    return notify_and_keep


def _check_outputs(
    job: Job, spec: ModelSpec, opened: Opened, targets: Sequence[SheetTarget]
) -> None:
    """Raise OutputError where the run would write over anything that it reads."""
    maps = [each.target for each in targets]
    read = [*opened.files, str(job.model), *([job.write.aoi] if job.write.aoi else [])]
    refuse_inputs(outputs_of(job, maps, spec.outputs), read)


def _open_backend(
    job: Job, listener: Listener, spec: ModelSpec, panels: Sequence[Panel]
) -> Backend:
    """Open the engine; tiles of what is mapped judge a plan that has to be built."""
    threads = job.run.threads or available_cpus()
    mapped = [(panel.sheet.raster, panel.cores) for panel in panels]
    return load(
        job.model,
        spec,
        job.run,
        samples=lambda: sample_tiles(mapped, TILES, threads),
        notify=listener.notify,
        status=listener.status,
    )


def _journal(work: Work) -> Journal:
    return Journal(
        journal_folder(work.job),
        provenance.identity(work),
        started=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        resume=work.job.write.resume,
        restart=work.job.write.overwrite,
        notify=work.listener.notify,
    )


def _label(work: Work, journal: Journal, check: Callable[[], None]) -> None:
    """Infer the strips that the journal does not have, and store them there.

    `check` raises where it is of no use to go on.
    """
    finished = journal.finished(work.spec.outputs)
    total, done = work.pixels, 0
    elevation = ELEVATION in work.spec.bands
    heights = HeightCheck(work.spec.bands.index(ELEVATION)) if elevation else None
    for panel in work.panels:
        left_over = [i for i in panel.cores.rows if (panel.number, i) not in finished]
        done += panel.cores.window.pixels - panel.cores.pixels(left_over)
        work.listener.progress(done, total)
        if not left_over:
            continue
        with _stored_strips(work, panel, left_over, journal, heights) as strips:
            for strip in strips:
                check()
                done += strip.window.pixels
                work.listener.progress(done, total)
    if heights and (warning := heights.warning()):
        work.listener.notify(warning)


@contextmanager
def _stored_strips(
    work: Work, panel: Panel, rows: Sequence[int], journal: Journal, heights: HeightCheck | None
) -> Iterator[Iterator[LabelledStrip]]:
    """Read, label and store strips of a panel, each in a thread of its own; yield the stored."""

    def store(strip: LabelledStrip) -> None:
        if panel.clip is not None:
            panel.clip.cut(strip.window, strip.outputs)
        journal.append(panel.number, strip.i, strip.outputs, work.opened.skipped_blocks)

    meters = work.meters
    strips = read_strips(
        panel.sheet.raster, panel.cores, rows, threads=work.threads, counter=meters.reading
    )
    ahead = prefetched(meters.read.time(strips))
    labelled = label_strips(
        _checked(work, ahead, heights),
        panel.cores.grid,
        work.backend.slots,
        output_bands(work.spec),
        panel.is_wanted,
        values=label_values(work.spec),
    )
    with closing(ahead), closing(written_behind(labelled, meters.write.timed(store))) as stored:
        yield stored


def _checked(work: Work, strips: Iterator[Strip], heights: HeightCheck | None) -> Iterator[Strip]:
    """Pass strips on, telling the user what was found in them, and where height cannot be right."""
    if heights:
        strips = check_heights(strips, heights, work.listener.notify)
    for strip in strips:
        while work.opened.found:
            work.listener.notify(work.opened.found.popleft())
        yield strip


def _publish(work: Work, journal: Journal) -> None:
    """Assemble the maps from the journal, whose strips may be still to come."""
    begin = time.perf_counter()
    bands = output_bands(work.spec)
    tags = provenance.tags(work)
    checked_s = -math.inf

    def unchanged() -> None:
        nonlocal checked_s
        if time.perf_counter() - checked_s > CHECK_EVERY_S:
            check_unchanged(work, journal.sources)
            checked_s = time.perf_counter()

    for each in work.targets:
        panels = [(panel.number, panel.cores) for panel in each.panels]
        load_strip = lru_cache(maxsize=_strips_kept(each))(journal.load)

        def read(
            name: str,
            window: Window,
            panels: Sequence[tuple[int, Cores]] = panels,
            load_strip: Callable[[int, int, str], np.ndarray] = load_strip,
        ) -> np.ndarray:
            return assembled(load_strip, name, window, panels, bands[name])

        write_maps(each.target, _style(work, each.sheet, tags), read, journal.folder, unchanged)
    check_unchanged(work, journal.sources)
    work.meters.assembled_s = time.perf_counter() - begin - journal.waited_s


def _strips_kept(each: SheetTarget) -> int:
    """Return how many strips lie in what is written at a time: those of two panels."""
    return 2 * (PART_PX[0] // each.panels[0].cores.grid.core_px + 2)


def _style(work: Work, sheet: Sheet, tags: Mapping[str, str]) -> MapStyle:
    return MapStyle(
        spec=work.spec,
        crs=sheet.pixel_grid.crs,
        transform=sheet.pixel_grid.transform,
        values=work.job.write.labels,
        tags=tags,
        cog=work.job.write.cog,
    )
