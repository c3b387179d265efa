"""One run from inputs to published maps: the stations of the data put in a row."""

from __future__ import annotations

import math
import threading
import time
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from flair_engine import provenance
from flair_engine.contents import ContentLog
from flair_engine.coverage import planned
from flair_engine.durable import write_whole
from flair_engine.errors import EngineError, WriteError
from flair_engine.gdal import block_cache
from flair_engine.grid import strips_written
from flair_engine.inference.choose import load
from flair_engine.inference.labelling import label_strips
from flair_engine.manifest import ELEVATION, label_values, output_bands, read_model_spec
from flair_engine.mapping.assembly import assembled
from flair_engine.mapping.creation import creation_options
from flair_engine.mapping.journal import Journal, unfinished
from flair_engine.mapping.landcover import MapStyle, write_maps
from flair_engine.mapping.targets import (
    check_place,
    check_report,
    is_page,
    journal_folder,
    outputs_of,
)
from flair_engine.memory import check_fits, pixel_memory_mib
from flair_engine.model_file import model_sha256
from flair_engine.overlap import alongside, prefetched, written_behind
from flair_engine.overwriting import refuse_inputs
from flair_engine.page import page
from flair_engine.reading.height import HeightCheck, check_heights
from flair_engine.reading.inputs import open_excerpt, open_inputs
from flair_engine.reading.schedule import canvas_bytes
from flair_engine.reading.strips import read_strips, sample_tiles
from flair_engine.report import now, report_of
from flair_engine.resuming import check_complete, check_unchanged, drop_stale
from flair_engine.sidecars import beside, check_beside, is_counted, noted
from flair_engine.system import available_cpus
from flair_engine.tally import NOTHING, tallied, tally
from flair_engine.work import Meters, Panel, SheetTarget, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.grid import Window
    from flair_engine.inference.base import Backend
    from flair_engine.inference.labelling import LabelledStrip
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job, Listener
    from flair_engine.reading.frame import Excerpt
    from flair_engine.reading.inputs import Opened, Sheet
    from flair_engine.reading.strips import Strip
    from flair_engine.report import Report


CACHE_BYTES = 128 * 2**20
"""Blocks that GDAL keeps: of a VRT, or a file that is warped, some are wanted again. At least two
for each thread: it takes the bands of one from there."""

CHECK_EVERY_S = 10.0
"""Seconds between looks at the times of all inputs, while many maps are published."""


def run(
    job: Job,
    listener: Listener,
    *,
    excerpt: Excerpt | None = None,
    backend: Backend | None = None,
) -> Report:
    """Read, label and write everything; return what was done. See `segment` for the errors.

    With an `excerpt` the inputs are those that it sees of a larger raster, and all of its window is
    one map. A `backend` that is given is used and stays open.
    """
    began = time.perf_counter()
    spec = _read_spec(job)
    # What the run is known by takes the SHA-256, which is taken beside opening the inputs.
    threading.Thread(target=_take_sha256, args=(job.model,), name="sha256").start()
    meters = Meters()
    listener = replace(
        listener,
        notify=_kept(listener.notify, meters.notices),
        warn=_kept(listener.warn, meters.warnings),
    )
    check_beside(job.write, listener.notify)
    opened = _opened(job, spec, excerpt)
    threads = job.run.threads or available_cpus()
    with closing(opened), block_cache(max(CACHE_BYTES, 2 * threads * opened.largest_block_bytes)):
        memory_mib = pixel_memory_mib(job)
        within = excerpt.window if excerpt else None
        panels, targets = planned(job, spec, opened, memory_mib, listener.notify, within)
        check_fits(panels, spec, memory_mib, listener.notify)
        _check_outputs(job, spec, opened, targets)
        lent = nullcontext(backend) if backend else None
        with lent or closing(_open_backend(job, listener, spec, panels)) as used:
            meters.before_s.update(used.busy_s)
            work = Work(
                job=job,
                listener=listener,
                spec=spec,
                opened=opened,
                backend=used,
                panels=panels,
                targets=targets,
                threads=threads,
                memory_mib=memory_mib,
                meters=meters,
                excerpt=excerpt,
            )
            return _done(work, began)


def _read_spec(job: Job) -> ModelSpec:
    """Return what the model is, once it is known that its maps can be put where the job says."""
    spec = read_model_spec(job.model)
    check_place(job, spec.outputs)
    if job.write.report:
        check_report(job.write.report)
    creation_options(job.write.co, cog=job.write.cog)
    return spec


def _opened(job: Job, spec: ModelSpec, excerpt: Excerpt | None) -> Opened:
    if excerpt:
        return open_excerpt(spec, job.inputs, job.read, excerpt)
    return open_inputs(spec, job.inputs, job.read, apart=job.write.per_input)


def _done(work: Work, began: float) -> Report:
    """Label what is left of the work, publish the maps, write the report."""
    write = work.job.write
    if write.resume and not write.overwrite and not unfinished(journal_folder(work.job)):
        check_complete(work)
    with _journal(work) as journal, _none_left_of(journal):
        drop_stale(work, journal)
        loaded = time.perf_counter()
        # The maps are assembled while strips come; the last rows wait for the last strips.
        publishing = alongside(lambda: _publish(work, journal), cancel=journal.abandon)
        with publishing as check, ContentLog(work, journal) as contents:
            _label(work, journal, contents, check)
        found = tally(work, journal.counts("labels"))
        wall_s = time.perf_counter() - loaded
        report = report_of(
            work,
            found,
            started=journal.started,
            skipped=journal.skipped | provenance.skipped_blocks(work.opened),
            start_up_s=loaded - began,
            wall_s=wall_s,
        )
        journal.remove()
    if path := work.job.write.report:
        _write_report(path, page(report, work) if is_page(path) else report.to_json() + "\n")
    return report


def _take_sha256(model: Path) -> None:
    with suppress(OSError):  # it is taken again where it is used
        model_sha256(model)


def _write_report(path: Path, text: str) -> None:
    """Put the report at its name; raise WriteError where that cannot be."""
    try:
        if path.exists() and not path.is_file():  # a pipe, /dev/stdout
            path.write_text(text, encoding="utf-8")
        else:
            write_whole(path.resolve(), text.encode())
    except OSError as error:
        raise WriteError(
            f"{path}: the map is complete, its report cannot be written ({error.strerror})",
            "name another report",
        ) from error


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
    named = (job.write.aoi, job.run.plan)
    read = [*opened.files, str(job.model), *(str(path) for path in named if path)]
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
        samples=lambda count: sample_tiles(mapped, count, threads),
        wait=False,
        notify=listener.notify,
        status=listener.status,
    )


def _journal(work: Work) -> Journal:
    return Journal(
        journal_folder(work.job),
        provenance.identity(work),
        started=now(),
        resume=work.job.write.resume,
        restart=work.job.write.overwrite,
        alone=work.excerpt is not None,  # whoever makes a part holds its claim
        notify=work.listener.notify,
    )


@contextmanager
def _none_left_of(journal: Journal) -> Iterator[None]:
    """Delete a journal without strips where the model turns out to be refused."""
    try:
        yield
    except EngineError:
        if not unfinished(journal.folder):
            journal.remove()
        raise


def _label(work: Work, journal: Journal, contents: ContentLog, check: Callable[[], None]) -> None:
    """Infer the strips that the journal does not have, and store them there.

    `check` raises where it is of no use to go on.
    """
    finished = journal.finished(work.spec.outputs)
    wanted = {(p.number, i): p.wanted_px(i) for p in work.panels for i in p.cores.rows}
    total = sum(wanted.values())
    done = work.meters.resumed_px = sum(px for strip, px in wanted.items() if strip in finished)
    work.listener.progress(done, total)
    elevation = ELEVATION in work.spec.bands
    heights = HeightCheck(work.spec.bands.index(ELEVATION)) if elevation else None
    for panel in work.panels:
        left_over = [i for i in panel.cores.rows if (panel.number, i) not in finished]
        if not left_over:
            continue
        with _stored_strips(work, panel, left_over, journal, heights) as strips:
            for strip in strips:
                check()
                contents.note(panel, strip.i)
                done += strip.inferred_px
                total -= wanted[panel.number, strip.i] - strip.inferred_px  # void
                work.meters.inferred_px += strip.inferred_px
                work.listener.progress(done, total)
    if heights and (warning := heights.warning()):
        work.listener.warn(warning)


@contextmanager
def _stored_strips(
    work: Work, panel: Panel, rows: Sequence[int], journal: Journal, heights: HeightCheck | None
) -> Iterator[Iterator[LabelledStrip]]:
    """Read, label and store strips of a panel, each in a thread of its own; yield the stored."""

    def store(strip: LabelledStrip) -> None:
        if panel.clip is not None:
            panel.clip.cut(strip.window, strip.outputs)
        journal.append(panel.number, strip.i, strip.outputs, provenance.skipped_blocks(work.opened))

    meters = work.meters
    bands = output_bands(work.spec)
    strips = read_strips(
        panel.sheet.raster,
        panel.cores,
        rows,
        threads=work.threads,
        counter=meters.reading,
        memory_bytes=canvas_bytes(panel.cores, work.memory_mib * 2**20, sum(bands.values())),
    )
    ahead = prefetched(meters.read.time(strips))
    labelled = label_strips(
        _checked(work, ahead, heights),
        panel.cores.grid,
        work.backend.slots,
        bands,
        panel.is_wanted,
        values=label_values(work.spec),
    )
    with closing(ahead), closing(written_behind(labelled, meters.write.timed(store))) as stored:
        yield stored


def _checked(work: Work, strips: Iterator[Strip], heights: HeightCheck | None) -> Iterator[Strip]:
    """Pass strips on, telling the user what was found in them, and where height cannot be right."""
    if heights:
        strips = check_heights(strips, heights, work.listener.warn)
    for strip in strips:
        while work.opened.found:
            work.listener.warn(work.opened.found.popleft())
        yield strip


def _publish(work: Work, journal: Journal) -> None:
    """Assemble the maps from the journal, whose strips may be still to come."""
    begin = time.perf_counter()
    tags = provenance.tags(work)
    work.meters.written.clear()
    checked_s = -math.inf

    def unchanged() -> None:
        nonlocal checked_s
        if time.perf_counter() - checked_s > CHECK_EVERY_S:
            check_unchanged(work, journal.sources)
            checked_s = time.perf_counter()

    for each in work.targets:
        _publish_map(work, journal, each, tags, unchanged)
    check_unchanged(work, journal.sources)
    work.meters.assembled_s = time.perf_counter() - begin - journal.waited_s


def _publish_map(
    work: Work,
    journal: Journal,
    each: SheetTarget,
    tags: Mapping[str, str],
    unchanged: Callable[[], None],
) -> None:
    """Assemble and publish one map with what stands beside it."""
    bands = output_bands(work.spec)
    panels = [(panel.number, panel.cores) for panel in each.panels]
    load_strip = lru_cache(maxsize=strips_written(panels[0][1].grid.core_px))(journal.load)
    shown = NOTHING

    def read(name: str, window: Window) -> np.ndarray:
        nonlocal shown
        pixels_bhw = assembled(load_strip, name, window, panels, bands[name])
        if name == "labels" and is_counted(work.job.write):
            shown += tallied(work, each.sheet, window, pixels_bhw)
        return pixels_bhw

    def more(rasters: Mapping[str, Path], sidecars: Mapping[Path, bytes]) -> Mapping[Path, bytes]:
        made = beside(work, each, shown, journal.started, rasters)
        work.meters.written += noted(each, sidecars)
        return made

    style = _style(work, each.sheet, tags)
    write_maps(each.target, style, read, journal.folder, unchanged, more)


def _style(work: Work, sheet: Sheet, tags: Mapping[str, str]) -> MapStyle:
    return MapStyle(
        spec=work.spec,
        crs=sheet.pixel_grid.crs,
        transform=sheet.pixel_grid.transform,
        values=work.job.write.labels,
        tags=tags,
        cog=work.job.write.cog,
        creation=creation_options(work.job.write.co, cog=work.job.write.cog),
    )
