"""Places that maps and unfinished runs go to, and what is refused there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine import bounded_json
from flair_engine.errors import OutputError
from flair_engine.mapping.journal import done_folder
from flair_engine.mapping.standing import (
    foreign_sidecars,
    foreign_style,
    gdal_sidecars,
    is_item,
    is_map,
    is_preview,
    item_of,
    made_beside,
    preview_of,
    stands,
    style_of,
)
from flair_engine.overwriting import on_disk, same_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.grid import Window
    from flair_engine.options import Job


STYLED = ("labels", "confidence")
"""Outputs that have a style of their own."""
PAGE_SUFFIXES = (".html", ".htm")
"""Ends of the name of a report that is a page for people."""
PAGE_MARK = '<meta name="generator" content="flair-run">'
"""What tells our page from others."""
PAGE_HEAD_BYTES = 4096
"""Where the mark of a page stands."""
REPORT_KEYS = {"weights_sha256", "wall_s"}
"""Fields that tell a report from other JSON."""
REPORT_BYTES = 2**24
"""More than any report is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One map: where it goes, and the pixels of the raster it shows."""

    path: Path
    window: Window


def journal_folder(job: Job) -> Path:
    """Return the hidden folder that the strips of a run are kept in until its maps are there."""
    if job.write.per_input:
        return job.output / ".flair-run"
    return job.output.with_name(f".{job.output.name}.flair-run")


def check_place(job: Job, outputs: Sequence[str]) -> None:
    """Raise OutputError unless the maps of a job can be put where it says.

    `outputs` are the names of what the model gives, `labels` first. Maps of `per_input` are checked
    once their names are known.
    """
    output = job.output
    if not job.write.per_input:
        may_replace = _may_replace(job)
        remedy = "the last name is the output: give one that does not exist"
        check_maps(output, outputs, may_replace=may_replace, remedy=remedy)
        _check_beside(output, job)
    elif output.is_file():
        raise OutputError(f"{output}: is a file, --per-input writes a folder", "name one")
    else:
        _check_folder(output, output)
    folder = journal_folder(job)
    if stands(folder) and not folder.is_dir():
        raise OutputError(f"{folder}: is a file where the run keeps its work", "move it away")


def targets_per_input(
    job: Job, delivered: Sequence[tuple[str, Window]], outputs: Sequence[str]
) -> list[Target]:
    """Return with `per_input` a map for each delivered file, else none.

    `delivered` are files with the pixels each covers, `outputs` the names of what the model gives.
    Raises OutputError where two maps would have one name, a map that of its input, or where what
    stands at a name may not be replaced.
    """
    if not job.write.per_input:
        return []
    may_replace = _may_replace(job)
    targets: dict[Path, Target] = {}
    for name, window in delivered:
        path = job.output / f"{Path(name).stem}.tif"
        if path in targets:
            raise OutputError(f"{path}: two inputs have this name", "give them in separate runs")
        source = on_disk(name)
        if source and stands(path) and same_file(path, source):
            raise OutputError(f"{path}: is the input itself", "give another folder")
        check_maps(path, outputs, may_replace=may_replace, remedy="give another folder")
        _check_beside(path, job)
        targets[path] = Target(path=path, window=window)
    return list(targets.values())


def outputs_of(job: Job, targets: Sequence[Target], outputs: Sequence[str]) -> list[Path]:
    """Return every path that a job writes or deletes: maps, what stands beside them, its journal.

    A folder stands for what is in it. A style that is kept is none of them.
    """
    found: list[Path] = []
    for target in targets:
        for name in outputs:
            raster = output_path(target.path, name)
            found += [raster, *gdal_sidecars(raster)]
            if name in STYLED and not foreign_style(raster):
                found.append(style_of(raster))
        found += dict.fromkeys([*wanted_beside(target.path, job), *made_beside(target.path)])
    if job.write.report:
        found.append(job.write.report)
    folder = journal_folder(job)
    found += [folder, done_folder(folder)]
    return [*found, *folder.iterdir()] if folder.is_dir() else found


def wanted_beside(path: Path, job: Job) -> list[Path]:
    """Return the preview and the Item that a job makes beside a map."""
    wanted = [(job.write.preview, preview_of(path)), (job.write.stac, item_of(path))]
    return [beside for asked, beside in wanted if asked]


def is_page(path: Path) -> bool:
    """Return whether a report of this name is a page for people."""
    return path.suffix.lower() in PAGE_SUFFIXES


def check_report(path: Path) -> None:
    """Raise OutputError unless the report of a run can be put at `path`.

    An older report may be replaced, nothing else. What is no file, such as a pipe, holds nothing
    that could be lost.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "give the name of the report, ending in .json")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"{path}: its folder does not exist", "create it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise OutputError(f"{path}: the report is not writable by you", "give another name")
    if path.is_file() and path.stat().st_size and not _is_report(path):
        raise OutputError(
            f"{path}: exists already and is no report of flair-run",
            "give one that does not exist",
        )


def _is_report(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if is_page(path):
                return PAGE_MARK.encode() in file.read(PAGE_HEAD_BYTES)
            value = bounded_json.parse(file.read(REPORT_BYTES))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.keys() >= REPORT_KEYS


def output_path(path: Path, name: str) -> Path:
    """Return where output `name` goes: NAME.tif for labels, NAME.confidence.tif and so on."""
    return path if name == "labels" else path.with_name(f"{path.stem}.{name}{path.suffix}")


def _may_replace(job: Job) -> bool:
    """Return whether maps that are there may be replaced: told so, or of the run to resume.

    Whose they are is looked at once that run is known.
    """
    return job.write.overwrite or job.write.resume


def check_maps(path: Path, outputs: Sequence[str], *, may_replace: bool, remedy: str) -> None:
    """Raise OutputError unless a map of each output can be put at `path` and beside it.

    `remedy` is what to do about a file that is not of flair-engine.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "give the name of the map, ending in .tif")
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{path}: the map is a GeoTIFF", "give a name ending in .tif")
    _check_folder(path.parent, path)
    for raster in (output_path(path, name) for name in outputs):
        if not stands(raster):
            _check_sidecars(raster)
        elif not is_map(raster):
            raise OutputError(f"{raster}: exists already and is no map of flair-engine", remedy)
        elif not may_replace:
            raise OutputError(f"{raster}: exists already", "use --overwrite, or another name")


def _check_beside(path: Path, job: Job) -> None:
    """Raise OutputError where a file that is not ours stands where a preview or an Item goes."""
    for beside in wanted_beside(path, job):
        is_ours = is_preview if beside == preview_of(path) else is_item
        if stands(beside) and not is_ours(beside):
            raise OutputError(
                f"{beside}: exists already and is not of flair-engine",
                "move it away, or name another output",
            )


def _check_sidecars(raster: Path) -> None:
    """Raise OutputError where GDAL would take another file for a part of a map to come."""
    if found := foreign_sidecars(raster):
        raise OutputError(
            f"{found[0]}: exists already, would be taken for a part of {raster.name} and is not of "
            "flair-engine",
            "remove it, or choose another name",
        )


def _check_folder(folder: Path, path: Path) -> None:
    """Raise OutputError unless `folder` is there and may be written."""
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist", "create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable by you", "give another")
