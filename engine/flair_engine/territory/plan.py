"""The plan of a territory: all files described once, the frame they settle, the parts of it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine import provenance
from flair_engine.checking import check_job
from flair_engine.coverage import planned
from flair_engine.errors import EngineError, OutputError, SourceError, WriteError
from flair_engine.grid import MAP_BLOCK_PX, Window, ceil_div
from flair_engine.manifest import read_model_spec, tile_grid
from flair_engine.mapping.creation import creation_options
from flair_engine.model_file import model_sha256
from flair_engine.options import Inputs, Job, MapOptions, ReadOptions, RunOptions, silent
from flair_engine.overwriting import on_disk
from flair_engine.reading.inputs import open_inputs
from flair_engine.report import now
from flair_engine.sidecars import check_beside
from flair_engine.system import available_cpus, has_nvidia_driver
from flair_engine.territory.engine import settled_engine
from flair_engine.territory.plan_file import (
    Facts,
    JobPart,
    Plan,
    PlannedFile,
    PlannedMap,
    write_plan,
)
from flair_engine.version import __version__
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from flair_engine.grid import Grid
    from flair_engine.reading.inputs import Opened, Sheet
    from flair_engine.work import Panel, SheetTarget

PART_EDGE_PX = 25_000
"""Edge of a part, about: that of a delivered tile of BD ORTHO. A GPU takes minutes for it, so that
little is lost where one dies, and much more than to start."""
PLANS = "plans"
"""Folder of TensorRT plans in that of the job, where none is given."""
ANY_MIB = 2**20
"""Memory that cuts no area into panels: what is planned here is read by nobody."""


def plan(
    model: Path | str,
    inputs: Inputs | Path | str | Sequence[Path | str],
    folder: Path | str,
    run: RunOptions = RunOptions(),
    *,
    read: ReadOptions = ReadOptions(),
    write: MapOptions = MapOptions(),
    part_px: int = PART_EDGE_PX,
    update: bool = False,
    notify: Callable[[str], None] = silent,
) -> Plan:
    """Describe all inputs and write into `folder` what every part of their map has to agree on.

    Parts are about `part_px` on each side: whole cores, and whole blocks of maps. With `update` the
    plan may take the place of another: parts that see what has changed are made again. Raises a
    FlairError with exit_code 2 for what cannot be mapped so, and where another plan is there.
    """
    named = inputs if isinstance(inputs, Inputs) else Inputs(images=inputs)  # type: ignore[arg-type]
    job = _job(Path(model), named, Path(folder), _settled(run, Path(folder), notify), read, write)
    check_job(job)
    _check(job.run, job.write, part_px)
    check_beside(job.write, notify)
    spec = read_model_spec(job.model)
    _make_folder(Path(folder))
    if job.run.plan_cache:
        _make_folder(job.run.plan_cache)
    opened = open_inputs(spec, job.inputs, job.read, apart=job.write.per_input)
    try:
        return write_plan(_plan(job, opened, Path(folder), part_px, notify), update=update)
    finally:
        opened.close()


def step_px(core_px: int, part_px: int) -> int:
    """Return the edge of parts: a multiple of cores and of blocks, `part_px` or a little less.

    At least one of it.
    """
    least = math.lcm(core_px, MAP_BLOCK_PX)
    return least * max(1, part_px // least)


def _job(
    model: Path,
    inputs: Inputs,
    folder: Path,
    run: RunOptions,
    read: ReadOptions,
    write: MapOptions,
) -> Job:
    """Return the run of the whole, whose names mean the same in every working folder."""
    names = {
        product: tuple(_absolute(name) for name in given) for product, given in inputs.given.items()
    }
    folder = folder.absolute()
    return Job(
        model=model.absolute(),
        inputs=Inputs(**names),
        output=folder if write.per_input else folder / "map.tif",
        run=run,
        read=read,
        write=replace(write, aoi=_absolute(write.aoi) if write.aoi else None),
    )


def _absolute(name: str) -> str:
    """Return a name of a file, folder or pattern on disk from the root, any other as it is."""
    plain = on_disk(name) == Path(name)
    return os.path.abspath(name) if plain and name else name  # noqa: PTH100  links stay


def _settled(run: RunOptions, folder: Path, notify: Callable[[str], None]) -> RunOptions:
    """Return how parts are run, with nothing left open that differs between machines."""
    if run.plan_cache is None and run.engine in ("auto", "trt") and has_nvidia_driver():
        run = replace(run, plan_cache=folder / PLANS)
    if run.plan_cache:
        run = replace(run, plan_cache=run.plan_cache.absolute())
    if run.threads is None:
        run = replace(run, threads=available_cpus())
        notify(
            f"parts use {run.threads} threads, the CPUs of this machine: give --threads for others"
        )
    return run


def _check(run: RunOptions, write: MapOptions, part_px: int) -> None:
    """Raise OutputError or EngineError for what is not for parts."""
    asked = ("whole_cores", "preview", "report", "overwrite", "resume")
    if found := [name for name in asked if getattr(write, name)]:
        raise OutputError(f"{found[0]} is not for the parts of a job", "leave it out")
    if run.plan:
        raise EngineError(
            f"{run.plan}: a plan built ahead is not for the parts of a job",
            "leave it out: the job's own is built where it is planned",
        )
    if part_px < 1:
        raise OutputError(
            f"parts of {part_px} px hold nothing", f"give some, such as {PART_EDGE_PX}"
        )
    creation_options(write.co, cog=write.cog)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o755, exist_ok=True)  # others read what this user writes
    except OSError as error:
        raise WriteError(
            f"{folder}: the job's folder cannot be made ({error.strerror})", "give another"
        ) from error


def _plan(
    job: Job, opened: Opened, folder: Path, part_px: int, notify: Callable[[str], None]
) -> Plan:
    if len(opened.sheets) > 1:
        sheet = opened.sheets[1]
        raise SourceError(
            f"{sheet.delivered[0][0]}: shows ground that another file shows too",
            "make a job for each date",
        )
    spec = read_model_spec(job.model)
    (sheet,) = opened.sheets
    panels, targets = planned(job, spec, opened, ANY_MIB, notify)
    run, engine = settled_engine(job, spec, panels, notify)
    return Plan(
        folder=folder,
        digest="",
        started=now(),
        version=__version__,
        model=job.model,
        model_facts=provenance.fingerprint(str(job.model))[1:],
        model_sha256=model_sha256(job.model),
        run=run,
        engine=engine,
        read=job.read,
        write=job.write,
        aoi_facts=_facts([job.write.aoi] if job.write.aoi else []),
        frame=sheet.frame,
        files=_planned_files(sheet),
        parts=tuple(_parts(tile_grid(spec, sheet.raster), sheet, panels, part_px)),
        maps=tuple(_maps(targets, per_input=job.write.per_input)),
        settings=provenance.settings_of(job, spec, opened, panels),
    )


def _planned_files(sheet: Sheet) -> dict[str, tuple[PlannedFile, ...]]:
    return {
        product: tuple(
            PlannedFile(
                name=file.name,
                window=file.window,
                warped_px=file.warped_px,
                facts=_facts(file.files),
            )
            for file in files
        )
        for product, files in sheet.products.items()
    }


def _facts(files: Iterable[str]) -> Facts:
    return provenance.sources(files)


def _maps(targets: Sequence[SheetTarget], *, per_input: bool) -> Iterator[PlannedMap]:
    for each in targets:
        target = each.target
        yield PlannedMap(name=target.path.name if per_input else None, window=target.window)


def _parts(grid: Grid, sheet: Sheet, panels: Sequence[Panel], part_px: int) -> Iterator[JobPart]:
    """Yield the blocks of cores in which a core is wanted and a leading file lies, row by row."""
    step = step_px(grid.core_px, part_px)
    index = WindowIndex([window for _, window in sheet.delivered])
    digits = len(str(max(grid.height, grid.width) // step))
    for row, col in sorted(_touched(panels, step // grid.core_px)):
        top, left = row * step, col * step
        window = Window(
            top=top,
            left=left,
            height=min(step, grid.height - top),
            width=min(step, grid.width - left),
        )
        if index.meeting(window):
            yield JobPart(id=f"r{row:0{digits}}_c{col:0{digits}}", window=window)


def _touched(panels: Sequence[Panel], cores: int) -> set[tuple[int, int]]:
    """Return row and column of the parts, so many `cores` on each side, with a wanted core."""
    found: set[tuple[int, int]] = set()
    for panel in panels:
        rows, cols = panel.cores.rows, panel.cores.cols
        if panel.selected is None:
            found |= {
                (row, col)
                for row in range(rows.start // cores, ceil_div(rows.stop, cores))
                for col in range(cols.start // cores, ceil_div(cols.stop, cores))
            }
            continue
        found.update(panel.selected.tiles((rows.start, cols.start), cores))
    return found
