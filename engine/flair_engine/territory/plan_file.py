"""The plan of a territory, as one JSON file that every process reads and none changes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affine import Affine

from flair_engine import bounded_json
from flair_engine.crs import crs_of, words_of
from flair_engine.durable import write_whole
from flair_engine.errors import OutputError, SourceError, WriteError
from flair_engine.grid import Window
from flair_engine.options import MapOptions, ReadOptions, RunOptions
from flair_engine.provenance import EngineFacts
from flair_engine.reading.frame import Frame, OwnGrid
from flair_engine.reading.pixel_grid import PixelGrid
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAN_FILE = "plan.json"
JOB_PLAN_SCHEMA = 1
"""Number of the plan's fields and their meaning; CONTRIBUTING.md says when it goes up."""
PLAN_BYTES = 2**30
"""More than any plan is: 200 bytes for each of a million files."""
STARTED = "started"
"""What may differ between two plans of the same job."""

Facts = dict[str, list[int]]
"""Size in bytes and time of change in ns by the path of a file; none of what is on no disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFile:
    """A file of a product, where it lies on the frame and what shows that it is still the same."""

    name: str
    window: Window
    warped_px: int | None
    """Pixels of the frame across one of its own, where it is warped."""
    facts: Facts
    """Of every file that it is made of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPart:
    """A block of cores that one process maps."""

    id: str
    window: Window
    """Its pixels on the frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedMap:
    """A map that flair-run would write of the whole."""

    name: str | None
    """Of `per_input` its file name, None for the one map of everything."""
    window: Window


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that parts of one map have to agree on."""

    folder: Path
    """Of the job."""
    digest: str
    """SHA-256 of the file."""
    started: str
    version: str
    model: Path
    model_facts: list[int]
    model_sha256: str
    run: RunOptions
    """With engine, device, precision, batch and threads settled."""
    engine: EngineFacts | None
    """What that is; None where the plan was made away from its GPU."""
    read: ReadOptions
    write: MapOptions
    aoi_facts: Facts
    frame: Frame
    files: Mapping[str, tuple[PlannedFile, ...]]
    """By product, the leading one first."""
    parts: tuple[JobPart, ...]
    maps: tuple[PlannedMap, ...]
    settings: Mapping[str, Any]
    """Of the whole run but for its engine, which make its id."""

    def part(self, name: str) -> JobPart:
        """Return the part of an id. Raises SourceError where there is none."""
        for part in self.parts:
            if part.id == name:
                return part
        raise SourceError(
            f"{name}: is no part of {self.folder}",
            f"name one of its {len(self.parts):,}, such as {self.parts[0].id}",
        )


def write_plan(plan: Plan, *, update: bool = False) -> Plan:
    """Put a plan into its folder and return it as it stands there: the same that was, if it was.

    With `update` it takes the place of another one; what is done of that counts where it would be
    made of the same again. Raises OutputError where another plan is there, WriteError where the
    disk refuses.
    """
    path = plan.folder / PLAN_FILE
    wanted = json.loads(json.dumps(_fields_of(plan)))
    if not path.exists() or (update and _differing(_content(plan.folder)[1], wanted)):
        _put(path, wanted)
    # What was there before, or what another process has put there at the same time.
    if differing := _differing(_content(plan.folder)[1], wanted):
        raise OutputError(
            f"{path}: is another plan, it differs in {', '.join(differing)}",
            "use --update, or give another folder",
        )
    return read_plan(plan.folder)


def read_plan(folder: Path) -> Plan:
    """Return the plan in a folder. Raises SourceError where there is none of this engine."""
    return _plan_of(folder, *_content(folder))


def _put(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a plan, whole before it gets its name. Raises WriteError."""
    try:
        write_whole(path, json.dumps(fields, separators=(",", ":")).encode())
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror})", "check the folder"
        ) from error


def _content(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the SHA-256 and the fields of the plan in a folder. Raises SourceError."""
    path = folder / PLAN_FILE
    try:
        content = path.read_bytes()
        found: dict[str, Any] = bounded_json.parse(content, largest_bytes=PLAN_BYTES)
        schema, version = found["schema"], found["version"]
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror})", "make it with flair-job plan"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{path}: is no plan of flair-job", "name the folder of a job") from error
    if schema != JOB_PLAN_SCHEMA or version != __version__:
        raise SourceError(
            f"{path}: is of flair-engine {version}, this is {__version__}",
            "use one version for all parts, or make a plan in another folder",
        )
    return hashlib.sha256(content).hexdigest(), found


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields in which two plans differ."""
    return [key for key in now if key != STARTED and before.get(key) != now[key]]


def _fields_of(plan: Plan) -> dict[str, Any]:
    return {
        "schema": JOB_PLAN_SCHEMA,
        "version": plan.version,
        STARTED: plan.started,
        "model": str(plan.model),
        "model_facts": plan.model_facts,
        "model_sha256": plan.model_sha256,
        "run": _plain(replace(plan.run, plan_cache=_within(plan))),
        "engine": asdict(plan.engine) if plan.engine else None,
        "read": _plain(plan.read),
        "write": _plain(plan.write),
        "aoi_facts": plan.aoi_facts,
        "frame": frame_fields(plan.frame),
        "files": {
            product: [[f.name, edges(f.window), f.warped_px, f.facts] for f in files]
            for product, files in plan.files.items()
        },
        "parts": [[part.id, edges(part.window)] for part in plan.parts],
        "maps": [[each.name, edges(each.window)] for each in plan.maps],
        "settings": plan.settings,
    }


def _plan_of(folder: Path, digest: str, fields: Mapping[str, Any]) -> Plan:
    return Plan(
        folder=folder,
        digest=digest,
        started=fields[STARTED],
        version=fields["version"],
        model=Path(fields["model"]),
        model_facts=fields["model_facts"],
        model_sha256=fields["model_sha256"],
        run=_run_of(folder, fields["run"]),
        engine=EngineFacts(**fields["engine"]) if fields["engine"] else None,
        read=ReadOptions(**_with_tuples(fields["read"])),
        write=MapOptions(**_with_tuples(fields["write"])),
        aoi_facts=fields["aoi_facts"],
        frame=_frame_of(fields["frame"]),
        files={
            product: tuple(
                PlannedFile(name=name, window=_window(window), warped_px=warped_px, facts=facts)
                for name, window, warped_px, facts in files
            )
            for product, files in fields["files"].items()
        },
        parts=tuple(JobPart(id=name, window=_window(w)) for name, w in fields["parts"]),
        maps=tuple(PlannedMap(name=name, window=_window(w)) for name, w in fields["maps"]),
        settings=fields["settings"],
    )


def _within(plan: Plan) -> Path | None:
    """Return the folder of TensorRT plans, from that of the job on where it lies there.

    Containers see a job under other names.
    """
    cache, folder = plan.run.plan_cache, plan.folder.absolute()
    return cache.relative_to(folder) if cache and cache.is_relative_to(folder) else cache


def _run_of(folder: Path, fields: Mapping[str, Any]) -> RunOptions:
    run = RunOptions(**fields)
    return replace(run, plan_cache=run.plan_cache and folder.absolute() / run.plan_cache)


def _plain(options: Any) -> dict[str, Any]:
    """Return options as JSON holds them."""
    found = asdict(options)
    return {name: str(v) if isinstance(v, Path) else v for name, v in found.items()}


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


def edges(window: Window) -> list[int]:
    """Return top, left, height and width of a window."""
    return [window.top, window.left, window.height, window.width]


def _window(numbers: list[int]) -> Window:
    top, left, height, width = numbers
    return Window(top=top, left=left, height=height, width=width)


def frame_fields(frame: Frame) -> dict[str, Any]:
    """Return a frame as JSON holds it."""
    return {
        "pixel_grid": _grid_fields(frame.pixel_grid),
        "own_grids": {
            product: [[_grid_fields(own.grid), edges(own.window), own.first] for own in grids]
            for product, grids in frame.own_grids.items()
        },
        "counts": frame.counts,
    }


def _frame_of(fields: Mapping[str, Any]) -> Frame:
    return Frame(
        pixel_grid=_grid_of(fields["pixel_grid"]),
        own_grids={
            product: tuple(
                OwnGrid(grid=_grid_of(grid), window=_window(window), first=first)
                for grid, window, first in grids
            )
            for product, grids in fields["own_grids"].items()
        },
        counts=fields["counts"],
    )


def _grid_fields(grid: PixelGrid) -> list[Any]:
    return [grid.height, grid.width, words_of(grid.crs), list(grid.transform)[:6]]


def _grid_of(fields: list[Any]) -> PixelGrid:
    height, width, words, numbers = fields
    return PixelGrid(height=height, width=width, crs=crs_of(words), transform=Affine(*numbers))
