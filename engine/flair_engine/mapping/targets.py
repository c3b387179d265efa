"""Places that maps and unfinished runs go to, and what is refused there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine.errors import OutputError
from flair_engine.mapping.journal import unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.grid import Window
    from flair_engine.options import Job


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


def check_place(job: Job) -> None:
    """Raise OutputError unless the maps of a job can be put where it says."""
    output = job.output
    if job.write.resume and output.is_file() and not _may_replace(job):
        raise OutputError(f"{output}: is complete, nothing is left to resume", "leave out --resume")
    if not job.write.per_input:
        _check_map(output, may_replace=_may_replace(job))
    elif output.is_file():
        raise OutputError(f"{output}: is a file, --per-input writes a folder", "name one")
    else:
        _check_folder(output, output)


def targets_per_input(job: Job, delivered: Sequence[tuple[str, Window]]) -> list[Target]:
    """Return with `per_input` a map for each delivered file, else none.

    `delivered` are files with the pixels each covers. Raises OutputError where two maps would have
    one name, or a map that of its input.
    """
    if not job.write.per_input:
        return []
    targets: dict[Path, Target] = {}
    for name, window in delivered:
        path = job.output / f"{Path(name).stem}.tif"
        if path in targets:
            raise OutputError(f"{path}: two inputs have this name", "give them in separate runs")
        if path.exists() and path.samefile(name):
            raise OutputError(f"{path}: is the input itself", "give another folder")
        _check_map(path, may_replace=_may_replace(job))
        targets[path] = Target(path=path, window=window)
    return list(targets.values())


def output_path(path: Path, name: str) -> Path:
    """Return where output `name` goes: NAME.tif for labels, NAME.confidence.tif and so on."""
    return path if name == "labels" else path.with_name(f"{path.stem}.{name}{path.suffix}")


def _may_replace(job: Job) -> bool:
    """Return whether maps that are there may be replaced: told so, or left by a run to resume."""
    return job.write.overwrite or (job.write.resume and unfinished(journal_folder(job)))


def _check_map(path: Path, *, may_replace: bool) -> None:
    """Raise OutputError unless a map can be put at `path`."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "give the name of the map, ending in .tif")
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{path}: the map is a GeoTIFF", "give a name ending in .tif")
    _check_folder(path.parent, path)
    if path.exists() and not may_replace:
        raise OutputError(f"{path}: exists already", "use --overwrite, or another name")


def _check_folder(folder: Path, path: Path) -> None:
    """Raise OutputError unless `folder` is there and may be written."""
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist", "create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: the folder {folder} is not writable by you", "give another")
