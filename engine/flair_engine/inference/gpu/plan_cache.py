"""The cache of TensorRT plans: a folder the user owns, with a readable sidecar for each plan.

A plan runs only on the TensorRT release and the kind of GPU it was built with, and can hold code
that is executed: so it is found by everything it depends on, its bytes are checked against the
sidecar before use, a folder that somebody else could write to or replace is refused, and so is
each file: it has to be a file, no link, of this user or root, that nobody else may write to. Only
the plan of a job, whose SHA-256 stands in the job, is taken from wherever it lies.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flair_engine.agreement import Agreement
from flair_engine.bounded_json import parse
from flair_engine.durable import write_whole
from flair_engine.errors import EngineError
from flair_engine.inference.kept import (
    SIDECAR_BYTES,
    DistrustedError,
    not_used,
    own_folder,
    read_any,
    read_own,
    usual_folder,
)
from flair_engine.locking import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PLAN_SCHEMA = 3
"""Raised with any change of a sidecar's fields or their meaning; a plan with a sidecar of another
schema, or of none, is built again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanKey:
    """Everything a plan depends on; plans are interchangeable exactly where keys are equal."""

    onnx_sha256: str
    library: str
    """`tensorrt` or `tensorrt_rtx`: neither reads the other's plans."""
    tensorrt: str
    """Version of the release that built it."""
    gpu: str
    compute_capability: str
    multiprocessors: int
    """Tells apart parts of one name with different numbers of them."""
    profile: str
    """The input's shape, the same as minimum, optimum and maximum."""
    flags: str
    """What the builder was told."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all fields."""
        return _sha256(json.dumps(asdict(self), sort_keys=True).encode())[:16]

    def difference(self, other: Mapping[str, Any]) -> str:
        """Say which fields of a sidecar's key differ, for people; empty where none does."""
        return ", ".join(
            f"{name} {other.get(name)} instead of {value}"
            for name, value in asdict(self).items()
            if other.get(name) != value
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanFacts:
    """What was found out about a plan."""

    built_s: float
    """Seconds that building it took."""
    agreement: Agreement
    """Of its labels with those of FP32."""

    def to_json(self) -> dict[str, Any]:
        """Return all facts in one object, those of the agreement beside the others."""
        return {"built_s": self.built_s, **asdict(self.agreement)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlanFacts:
        """Return what `to_json` was called on. Raises KeyError or TypeError for another object."""
        of_agreement = {name: value[name] for name in value if name != "built_s"}
        return cls(built_s=value["built_s"], agreement=Agreement(**of_agreement))


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedPlan:
    """A plan whose bytes and key have been checked."""

    plan: bytes
    facts: PlanFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class _Described:
    """What a sidecar says of a plan whose key it is."""

    plan_sha256: str
    facts: PlanFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class NoPlan:
    """The answer where no plan serves."""

    why: str
    """For people, as the end of a sentence."""


class PlanCache:
    """Plans in `folder`, which is made if need be.

    Of a plan whose SHA-256 is known beforehand, `plan_sha256`, the bytes are trusted and not the
    folder, which may be a group's or another user's then; nothing is written to it. Raises
    EngineError where a folder that has to be the user's own is not.
    """

    def __init__(self, folder: Path | None = None, plan_sha256: str | None = None) -> None:
        self.folder = usual_folder(folder) if plan_sha256 else own_folder(folder)
        self._plan_sha256 = plan_sha256
        self._read = read_any if plan_sha256 else read_own

    def find(self, key: PlanKey) -> CachedPlan | NoPlan:
        """Return the plan for `key`, or why there is none."""
        described = self._described(key)
        if isinstance(described, NoPlan):
            return described
        path = self._path(key, ".plan")
        try:
            plan = self._read(path)
        except FileNotFoundError:
            return NoPlan(why=f"{self._path(key, '.json')} has no plan beside it")
        except (DistrustedError, OSError) as error:
            return NoPlan(why=not_used(path, error))
        found_sha256 = _sha256(plan)
        if self._plan_sha256 not in (None, found_sha256):
            return NoPlan(why=f"{path} is another plan than that of the job (SHA-256 differs)")
        if found_sha256 != described.plan_sha256:
            return NoPlan(why=f"{path} is truncated or changed (SHA-256 differs)")
        return CachedPlan(plan=plan, facts=described.facts)

    def facts(self, key: PlanKey, plan: bytes) -> PlanFacts | None:
        """Return what was found out about a plan that lies elsewhere; None where nothing was."""
        described = self._described(key)
        if isinstance(described, NoPlan) or described.plan_sha256 != _sha256(plan):
            return None
        return described.facts

    def _described(self, key: PlanKey) -> _Described | NoPlan:
        sidecar = self._path(key, ".json")
        try:
            description = parse(self._read(sidecar), largest_bytes=SIDECAR_BYTES)
            if description.get("schema") != PLAN_SCHEMA:
                return NoPlan(why=f"{sidecar} was made by another version of flair-engine")
            difference = key.difference(description["key"])
            described = _Described(
                plan_sha256=description["plan_sha256"],
                facts=PlanFacts.from_json(description["facts"]),
            )
        except FileNotFoundError:
            return NoPlan(why=self._nearest(key))
        except (DistrustedError, OSError) as error:
            return NoPlan(why=not_used(sidecar, error))
        except (ValueError, KeyError, TypeError, AttributeError):
            return NoPlan(why=f"{sidecar} is damaged")
        if difference:
            return NoPlan(why=f"{sidecar} is of another plan ({difference})")
        return described

    def store(self, key: PlanKey, plan: bytes, facts: PlanFacts) -> Path:
        """Write a plan and its sidecar, each atomically, and return the plan's path.

        A reader in between finds a pair that does not match, and waits for the lock.
        """
        self._write(self._path(key, ".plan"), plan)
        self.store_facts(key, plan, facts)
        return self._path(key, ".plan")

    def store_facts(self, key: PlanKey, plan: bytes, facts: PlanFacts) -> Path:
        """Write the sidecar alone, of a plan that lies elsewhere, and return its path."""
        sidecar = self._path(key, ".json")
        description = {
            "schema": PLAN_SCHEMA,
            "key": asdict(key),
            "plan_sha256": _sha256(plan),
            "facts": facts.to_json(),
        }
        self._write(sidecar, json.dumps(description, indent=2).encode())
        return sidecar

    def compiled(self, key: PlanKey) -> bytes:
        """Return what the runtime compiled of the key's plan; empty where none is to be used."""
        try:
            return read_own(self._path(key, ".compiled"))
        except (DistrustedError, OSError):
            return b""

    def store_compiled(self, key: PlanKey, compiled: bytes) -> None:
        """Keep what the runtime has compiled, so that the next start does not."""
        self._write(self._path(key, ".compiled"), compiled)

    def timings(self, key: PlanKey) -> bytes:
        """Return the timing cache of the key's release and GPU; empty where none is to be used."""
        try:
            return read_own(self._timings(key))
        except (DistrustedError, OSError):
            return b""

    def store_timings(self, key: PlanKey, timings: bytes) -> None:
        """Keep the timing cache for the next build on this GPU."""
        self._write(self._timings(key), timings)

    @contextmanager
    def locked(self, key: PlanKey, waiting: Callable[[], None]) -> Iterator[None]:
        """Let one process at a time build the plan of `key`; call `waiting` before waiting."""
        with ExitStack() as held:
            with self._writing():
                held.enter_context(locked(self._path(key, ".lock"), waiting=waiting, mode=0o600))
            yield  # the lock also goes with the process, should it die here

    def _path(self, key: PlanKey, suffix: str) -> Path:
        return self.folder / f"{key.digest}{suffix}"

    def _timings(self, key: PlanKey) -> Path:
        build = f"{key.tensorrt} {key.gpu} {key.compute_capability} {key.multiprocessors}"
        return self.folder / f"{_sha256(build.encode())[:16]}.timing"

    def _nearest(self, key: PlanKey) -> str:
        """Say that there is no plan, and how one of the same model differs where there is one."""
        for sidecar in sorted(self.folder.glob("*.json")):
            other = self._key_in(sidecar)
            if other.get("onnx_sha256") == key.onnx_sha256:
                return f"there is one with {key.difference(other)}, which does not serve here"
        return "there is none yet"

    def _key_in(self, sidecar: Path) -> dict[str, Any]:
        """Return the key in a sidecar, empty where it cannot be read."""
        try:
            return dict(parse(self._read(sidecar), largest_bytes=SIDECAR_BYTES)["key"])
        except (DistrustedError, OSError, ValueError, KeyError, TypeError):
            return {}

    def _write(self, path: Path, content: bytes) -> None:
        """Put `content` at `path` whole or not at all, also where the machine stops."""
        with self._writing():
            # Who may list the folder may read what is in it, and nobody else may write.
            readers = self.folder.stat().st_mode & 0o044
            write_whole(path, content, mode=0o600 | readers)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EngineError(
                f"{self.folder}: a plan cannot be kept there ({error.strerror or error})",
                "give a writable folder with --plan-cache",
            ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
