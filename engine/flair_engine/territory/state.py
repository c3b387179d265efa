"""The state of a job, which is its folder: what is done, empty, failed, running or missing.

Beside the map of a part, `parts/ID.tif`, stands its record, `parts/ID.part.json`, written last: a
part counts once its record is there and of this plan. A failure leaves `parts/ID.failed.json`, a
process at work holds `parts/ID.claim`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from flair_engine import bounded_json
from flair_engine.durable import write_whole
from flair_engine.errors import WriteError
from flair_engine.territory.claim import is_held
from flair_engine.territory.seeing import Sight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from flair_engine.territory.plan_file import JobPart, Plan

PARTS = "parts"
RECORD_BYTES = 2**26
"""More than any record is."""

StateName = Literal["done", "empty", "failed", "running", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PartRecord:
    """What was done for one part."""

    key: str
    """Of what its map depends on."""
    plan: str
    """SHA-256 of the plan that it was made with."""
    state: Literal["done", "empty"]
    """Empty where no pixel is valid; it has no map then."""
    files: Mapping[str, tuple[int, str]]
    """Size and SHA-256 of its rasters by name."""
    inputs: Mapping[str, list[int]]
    """Fingerprints of the files that it saw, by path."""
    engine: str
    device: str
    precision: str
    batch: int
    pixels_by_class: Mapping[str, int]
    hectares_by_class: Mapping[str, float]
    nodata_pixels: int
    inferred_pixels: int
    """In the process that ended it."""
    skipped_blocks: int
    missing_height_pixels: int
    warnings: tuple[str, ...]
    started: str
    ended: str
    wall_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a part is not there."""

    reason: str
    exit_code: int
    tries: int
    at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PartState:
    """How far a part is."""

    part: JobPart
    name: StateName
    record: PartRecord | None = None
    failure: Failure | None = None


def map_of(plan: Plan, part: JobPart) -> Path:
    """Return where the map of a part stands."""
    return plan.folder / PARTS / f"{part.id}.tif"


def record_of(plan: Plan, part: JobPart) -> Path:
    """Return where the record of a part stands."""
    return plan.folder / PARTS / f"{part.id}.part.json"


def failure_of(plan: Plan, part: JobPart) -> Path:
    """Return where it stands why a part failed."""
    return plan.folder / PARTS / f"{part.id}.failed.json"


def claim_of(plan: Plan, part: JobPart) -> Path:
    """Return where the process at work on a part says so."""
    return plan.folder / PARTS / f"{part.id}.claim"


def states(plan: Plan) -> list[PartState]:
    """Return how far each part is, in the order of the plan."""
    sight = Sight(plan)
    return [state_of(plan, part, sight) for part in plan.parts]


def state_of(plan: Plan, part: JobPart, sight: Sight) -> PartState:
    """Return how far a part is."""
    record = read_record(plan, part, sight)
    if record:
        return PartState(part=part, name=record.state, record=record)
    if is_held(claim_of(plan, part)):
        return PartState(part=part, name="running")
    fields = _fields(failure_of(plan, part))
    if fields:
        return PartState(part=part, name="failed", failure=Failure(**fields))
    return PartState(part=part, name="missing")


def is_failed(plan: Plan, part: JobPart) -> bool:
    """Return whether a part has failed and not been made since."""
    return _fields(failure_of(plan, part)) is not None


def read_record(plan: Plan, part: JobPart, sight: Sight) -> PartRecord | None:
    """Return the record of a part, None where it is not done, or was with other files or options.

    Neither is it done where its rasters are not there, or not as large as they were.
    """
    fields = _fields(record_of(plan, part))
    if not fields or fields.get("key") != sight.key(part):
        return None
    rasters = {name: (size, digest) for name, (size, digest) in fields["files"].items()}
    folder = plan.folder / PARTS
    if any(_size_of(folder / name) != size for name, (size, _) in rasters.items()):
        return None
    warnings = tuple(fields["warnings"])
    return PartRecord(**{**fields, "files": rasters, "warnings": warnings})


def write_record(path: Path, record: PartRecord | Failure) -> None:
    """Put a record at its name. Raises WriteError."""
    try:
        write_whole(path, (json.dumps(asdict(record), indent=1) + "\n").encode())
    except OSError as error:
        raise WriteError(
            f"{path}: cannot be written ({error.strerror})", "check the job's folder"
        ) from error


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _fields(path: Path) -> dict[str, Any] | None:
    """Return what a record says, None where none is there or it is not whole."""
    try:
        fields = bounded_json.load(path, largest_bytes=RECORD_BYTES)
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None
