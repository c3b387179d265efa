"""Plans built ahead, on a machine without a GPU: one file for some kinds of cards.

Beside `NAME.plan` lies `NAME.plan.json`, which says what it is of and for. It may be copied to
other machines; a plan can hold code, so both have to belong to the user or root there, and be
writable by nobody else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flair_engine.bounded_json import parse
from flair_engine.durable import write_whole
from flair_engine.errors import EngineError
from flair_engine.inference.gpu.library import LIBRARY_TITLES, MODULES, titled
from flair_engine.inference.gpu.plan import profile_text
from flair_engine.inference.gpu.plan_cache import PLAN_SCHEMA
from flair_engine.inference.kept import SIDECAR_BYTES, DistrustedError, not_used, read_own
from flair_engine.model_file import model_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from flair_engine.inference.base import Request
    from flair_engine.inference.gpu.cuda import Device

BUILD_AHEAD_AGAIN = "build it again with flair-export --engine trt --for, or leave out --plan"

NOT_JUDGED = "not judged"
"""Its agreement with FP32: that needs a GPU. What is found on one is kept in the plan folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AheadKey:
    """Everything a plan built ahead depends on."""

    onnx_sha256: str
    library: str
    """`tensorrt_rtx`, the one that builds without a GPU."""
    tensorrt: str
    """Version of the release that built it, and that reads it."""
    compute_capabilities: tuple[str, ...]
    """Of the cards it is for, such as `8.9`."""
    profile: str
    """The input's shape, the same as minimum, optimum and maximum."""
    flags: str
    """What the builder was told."""

    @property
    def batch(self) -> int:
        """Tiles per inference."""
        return int(self.profile.partition(" ")[2].partition("x")[0])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AheadKey:
        """Return the key in a sidecar. Raises KeyError, TypeError or ValueError for another."""
        texts = {name: str(value[name]) for name in cls.__dataclass_fields__}
        known = tuple(str(name) for name in value["compute_capabilities"])
        key = cls(**{**texts, "compute_capabilities": known})  # type: ignore[arg-type]
        if key.library not in MODULES or key.batch < 1 or not known:
            raise ValueError(key)
        return key


@dataclass(frozen=True, kw_only=True, slots=True)
class AheadPlan:
    """A plan built ahead, whose bytes have been checked."""

    path: Path
    plan: bytes
    key: AheadKey
    built_s: float
    """Seconds that building it took."""

    def check_place(self, trt: Any, device: Device) -> None:
        """Raise EngineError for another release than built it, and for a card it is not for."""
        key = self.key
        if str(trt.__version__) != key.tensorrt:
            raise EngineError(
                f"{self.path}: was built by {LIBRARY_TITLES[key.library]} {key.tensorrt}, "
                f"{titled(trt)} is installed",
                f"install that release, or {BUILD_AHEAD_AGAIN}",
            )
        if device.compute_capability not in key.compute_capabilities:
            raise EngineError(
                f"{self.path}: is for compute capability {', '.join(key.compute_capabilities)}, "
                f"{device.name} has {device.compute_capability}",
                BUILD_AHEAD_AGAIN,
            )


def sidecar_of(path: Path) -> Path:
    """Return where the sidecar of a plan built ahead lies."""
    return path.with_name(f"{path.name}.json")


def write_ahead(ahead: AheadPlan) -> None:
    """Write sidecar, then plan, each whole or not at all. Raises OSError."""
    description = {
        "schema": PLAN_SCHEMA,
        "key": asdict(ahead.key),
        "plan_sha256": hashlib.sha256(ahead.plan).hexdigest(),
        "facts": {"built_s": ahead.built_s, "agreement": NOT_JUDGED},
    }
    write_whole(sidecar_of(ahead.path), json.dumps(description, indent=2).encode(), mode=0o644)
    write_whole(ahead.path, ahead.plan, mode=0o644)


def read_ahead(path: Path, request: Request) -> AheadPlan:
    """Read a plan built ahead.

    Raises EngineError where it cannot be read or trusted, is damaged, or is of another model,
    shape or batch than is asked for.
    """
    if request.tactic_sources is not None:
        raise EngineError(
            f"tactic sources say how a plan is built, {path} is built", "leave one of them out"
        )
    content, description = _read(path), _read(sidecar_of(path))
    try:
        found = parse(description, largest_bytes=SIDECAR_BYTES)
        if found["schema"] != PLAN_SCHEMA:
            raise EngineError(
                f"{sidecar_of(path)}: is of schema {found['schema']}, this version of "
                f"flair-engine reads {PLAN_SCHEMA}",
                BUILD_AHEAD_AGAIN,
            )
        plan_sha256 = found["plan_sha256"]
        key = AheadKey.from_json(found["key"])
        ahead = AheadPlan(
            path=path, plan=content, key=key, built_s=float(found["facts"]["built_s"])
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"{sidecar_of(path)}: is not what flair-export writes beside a plan", BUILD_AHEAD_AGAIN
        ) from error
    if hashlib.sha256(content).hexdigest() != plan_sha256:
        raise EngineError(
            f"{path}: is truncated or changed (its SHA-256 is not what its sidecar says)",
            "copy both files again",
        )
    _check_request(ahead, request)
    return ahead


def _read(path: Path) -> bytes:
    try:
        return read_own(path)
    except FileNotFoundError as error:
        raise EngineError(
            f"{path}: does not exist",
            "give a .plan with its .plan.json beside it, as flair-export --engine trt --for "
            "writes them",
        ) from error
    except (DistrustedError, OSError) as error:
        raise EngineError(not_used(path, error), "copy it as a file of your own") from error


def _check_request(ahead: AheadPlan, request: Request) -> None:
    """Raise EngineError for a plan of another model, shape or batch."""
    sha256, key = model_sha256(request.model), ahead.key
    if sha256 != key.onnx_sha256:
        raise EngineError(
            f"{ahead.path}: is of a model file of SHA-256 {key.onnx_sha256[:12]}, that of "
            f"{request.model} is {sha256[:12]}",
            f"give that model with -m, or {BUILD_AHEAD_AGAIN}",
        )
    wanted = profile_text(request.spec, request.batch or key.batch)
    if key.profile != wanted:
        raise EngineError(
            f"{ahead.path}: is for batches of shape {key.profile}, not {wanted}",
            f"leave out --batch, or {BUILD_AHEAD_AGAIN}",
        )
