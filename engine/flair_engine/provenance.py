"""Facts of a run: those that must be equal to continue it, and those its maps are signed with."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flair_engine.mapping.standing import MAP_TAG, RUN_TAG
from flair_engine.model_file import model_sha256
from flair_engine.overwriting import on_disk
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job
    from flair_engine.reading.inputs import Opened
    from flair_engine.work import Panel, Work

MEMORY = "memory"
"""Part of an identity: MiB of decoded pixels, which say how wide panels are."""

NO_BYTE_OF_MAPS = {
    "overwrite", "resume", "report", "aoi", "aoi_layer", "preview", "stac", "acquired",
}  # fmt: skip
"""Options of writing that change no byte of a map; of shapes, what they are counts, not where they
were found."""
BESIDE = (".aux.xml", ".ovr", ".qml")
"""Ends of names of files that programs put beside a raster to show it."""


def identity(work: Work) -> dict[str, Any]:
    """Return everything that may change a byte of a strip, by the name a user knows."""
    # Strips are named by their panels; a map is the same whatever these are.
    cut = {MEMORY: work.memory_mib, "panels": _digest_of_panels(work.panels)}
    return {**_settings(work), **cut, "source": sources(work.opened.files)}


def sources(files: Iterable[str]) -> dict[str, Any]:
    """Return what shows that files are still the same ones, by their paths.

    What GDAL and QGIS put beside a raster for display is left out; what it says of the raster
    itself is in the settings.
    """
    found: dict[str, Any] = {}
    for name in files:
        if not name.endswith(BESIDE):
            path, *facts = fingerprint(name)
            found[path] = facts
    return found


def _settings(work: Work) -> dict[str, Any]:
    """Return what a run is but for the paths and times of its files."""
    known = settings_of(work.job, work.spec, work.opened, work.panels)
    found = with_engine(known, EngineFacts.of(work.backend))
    if work.excerpt:
        grid, window = work.excerpt.frame.pixel_grid, work.excerpt.window
        found["frame"] = [repr(tuple(grid.transform)), str(grid.crs), asdict(window)]
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """What of an engine may change a label."""

    identity: str
    """As of a backend: runtime, version and kind of device."""
    precision: str
    batch: int

    @classmethod
    def of(cls, backend: Backend) -> EngineFacts:
        """Return those of a backend."""
        return cls(identity=backend.identity, precision=backend.precision, batch=backend.batch)


def with_engine(settings: Mapping[str, Any], engine: EngineFacts) -> dict[str, Any]:
    """Return settings with those of an engine."""
    found = {"engine": engine.identity, "precision": engine.precision, "batch": engine.batch}
    return {**settings, **found}


def settings_of(
    job: Job, spec: ModelSpec, opened: Opened, panels: Sequence[Panel]
) -> dict[str, Any]:
    """Return what a run is but for its engine, and the paths and times of its files."""
    sizes = [[sheet.raster.height, sheet.raster.width] for sheet in opened.sheets]
    reading = asdict(job.read)
    return {
        "model": model_sha256(job.model),
        "geometry": [spec.tile_px, spec.margin_px, sizes],
        "inputs": opened.described,
        "area": _digest(panels),
        "on_error": reading.pop("on_error"),
        "reading": reading,
        "writing": {
            name: value for name, value in asdict(job.write).items() if name not in NO_BYTE_OF_MAPS
        },
        "version": __version__,
    }


def run_id(work: Work) -> str:
    """Return what maps of equal runs have in common, whatever their files are called."""
    return id_of(_settings(work))


def id_of(settings: Mapping[str, Any]) -> str:
    """Return the id of runs with these settings."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _digest(panels: Sequence[Panel]) -> str:
    """Return what changes with the pixels that are labelled, however wide panels are."""
    found = hashlib.sha256()
    for panel in panels:
        for number, col in enumerate(panel.cores.cols):
            found.update(repr((panel.cores.rows, col)).encode())
            if panel.selected is not None:
                found.update(panel.selected.column(number).tobytes())
    clips = {id(panel.clip): panel.clip for panel in panels if panel.clip is not None}
    for digest in sorted(clip.digest for clip in clips.values()):
        found.update(digest.encode())
    return found.hexdigest()


def _digest_of_panels(panels: Iterable[Panel]) -> str:
    """Return what changes with the numbers of panels and what they are of."""
    places = [(panel.cores.rows, panel.cores.cols) for panel in panels]
    return hashlib.sha256(repr(places).encode()).hexdigest()


def tags(work: Work) -> dict[str, str]:
    """Return what a map says of its making: the same for equal runs, so that their bytes are.

    A time is given by who wants one, in SOURCE_DATE_EPOCH (seconds, reproducible-builds.org).
    """
    return tags_of(work.spec, EngineFacts.of(work.backend), run_id(work))


def tags_of(spec: ModelSpec, engine: EngineFacts, run: str) -> dict[str, str]:
    """Return the tags of maps of a run, by its id."""
    found = {
        MAP_TAG: spec.name,
        "FLAIR_WEIGHTS_SHA256": spec.weights_sha256,
        "FLAIR_GEOMETRY": f"tile {spec.tile_px} px, margin {spec.margin_px} px",
        "FLAIR_ENGINE": f"{engine.identity}, batch {engine.batch}",
        "FLAIR_PRECISION": engine.precision,
        "FLAIR_EXPORTER": spec.exporter,
        RUN_TAG: run,
        "TIFFTAG_SOFTWARE": f"flair-engine {__version__}",
    }
    if time := given_time():
        found["TIFFTAG_DATETIME"] = f"{time:%Y:%m:%d %H:%M:%S}"
    return found


def skipped_blocks(opened: Opened) -> set[tuple[str, int, int]]:
    """Return the blocks that could not be decoded, files by the names that `sources` has."""
    return {(str(fingerprint(file)[0]), top, left) for file, top, left in opened.skipped}


def given_time() -> dt.datetime | None:
    """Return the time of SOURCE_DATE_EPOCH, which stands for that of making something."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return dt.datetime.fromtimestamp(int(epoch), dt.timezone.utc) if epoch.isdecimal() else None


def fingerprint(name: str) -> list[Any]:
    """Return what shows that a file is still the same one: name, size, time of change."""
    path = on_disk(name)
    if path is None or not path.exists():
        return [name]
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
