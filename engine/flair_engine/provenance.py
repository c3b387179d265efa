"""Facts of a run: those that must be equal to continue it, and those its maps are signed with."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from flair_engine.overwriting import on_disk
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.work import Panel, Work


def identity(work: Work) -> dict[str, Any]:
    """Return everything that may change a byte of the maps, by the name a user knows."""
    job, spec, backend = work.job, work.spec, work.backend
    sizes = [[sheet.raster.height, sheet.raster.width] for sheet in work.opened.sheets]
    return {
        "model": hashlib.sha256(job.model.read_bytes()).hexdigest(),
        "geometry": [spec.tile_px, spec.margin_px, sizes],
        "source": [fingerprint(name) for name in work.opened.files],
        "products": asdict(job.inputs),
        "engine": backend.description,
        "precision": backend.precision,
        "batch": backend.batch,
        "area": _digest(work.panels),
        "reading": asdict(job.read),
        "writing": asdict(replace(job.write, overwrite=False, resume=False, report=None)),
        "version": __version__,
    }


def _digest(panels: Iterable[Panel]) -> str:
    """Return what changes with the cores that are labelled, and with their order."""
    found = hashlib.sha256()
    for panel in panels:
        found.update(repr((panel.cores.rows, panel.cores.cols)).encode())
        if panel.selected is not None:
            found.update(panel.selected.tobytes())
    return found.hexdigest()


def tags(spec: ModelSpec, backend: Backend, started: str) -> dict[str, str]:
    """Return what a map says of its making; `started` is the first start, ISO 8601."""
    return {
        "FLAIR_MODEL": spec.name,
        "FLAIR_WEIGHTS_SHA256": spec.weights_sha256,
        "FLAIR_GEOMETRY": f"tile {spec.tile_px} px, margin {spec.margin_px} px",
        "FLAIR_ENGINE": f"{backend.description}, batch {backend.batch}",
        "FLAIR_PRECISION": backend.precision,
        "FLAIR_EXPORTER": spec.exporter,
        "FLAIR_STARTED": started,
        "TIFFTAG_SOFTWARE": f"flair-engine {__version__}",
        "TIFFTAG_DATETIME": started[:19].replace("-", ":").replace("T", " "),
    }


def fingerprint(name: str) -> list[Any]:
    """Return what shows that a file is still the same one: name, size, time of change."""
    path = on_disk(name)
    if path is None or not path.exists():
        return [name]
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
