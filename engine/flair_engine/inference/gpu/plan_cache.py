"""The cache of TensorRT plans: a folder the user owns, with a readable sidecar for each plan.

A plan runs only on the TensorRT release and the kind of GPU it was built with, and can hold code
that is executed: so it is found by everything it depends on, its bytes are checked against the
sidecar before use, a folder that somebody else could write to or replace is refused, and so is
each file: it has to be a file, no link, of this user or root, that nobody else may write to.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import filelock

from flair_engine.agreement import Agreement
from flair_engine.bounded_json import parse
from flair_engine.durable import write_whole
from flair_engine.errors import EngineError
from flair_engine.system import (
    cache_folder,
    open_no_follow,
    others_may_replace,
    others_may_write,
    owner_is_trusted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PLAN_SCHEMA = 2
"""Raised with any change of a sidecar's fields or their meaning; a plan with a sidecar of another
schema, or of none, is built again."""
SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanKey:
    """Everything a plan depends on; plans are interchangeable exactly where keys are equal."""

    onnx_sha256: str
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
class NoPlan:
    """The answer where no plan serves."""

    why: str
    """For people, as the end of a sentence."""


class DistrustedError(Exception):
    """A file in the cache that somebody else may have made; said for people."""


class PlanCache:
    """Plans in `folder`, which is made if need be.

    Raises EngineError where the folder is not the user's own.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = _own_folder(folder)

    def find(self, key: PlanKey) -> CachedPlan | NoPlan:
        """Return the plan for `key`, or why there is none."""
        sidecar, path = self._path(key, ".json"), self._path(key, ".plan")
        try:
            description = parse(_read(sidecar), largest_bytes=SIDECAR_BYTES)
            if description.get("schema") != PLAN_SCHEMA:
                return NoPlan(why=f"{sidecar} was made by another version of flair-engine")
            difference = key.difference(description["key"])
            plan_sha256 = description["plan_sha256"]
            facts = PlanFacts.from_json(description["facts"])
        except FileNotFoundError:
            return NoPlan(why=self._nearest(key))
        except (DistrustedError, OSError) as error:
            return NoPlan(why=_not_used(sidecar, error))
        except (ValueError, KeyError, TypeError, AttributeError):
            return NoPlan(why=f"{sidecar} is damaged")
        if difference:
            return NoPlan(why=f"{sidecar} is of another plan ({difference})")
        try:
            plan = _read(path)
        except FileNotFoundError:
            return NoPlan(why=f"{sidecar} has no plan beside it")
        except (DistrustedError, OSError) as error:
            return NoPlan(why=_not_used(path, error))
        if _sha256(plan) != plan_sha256:
            return NoPlan(why=f"{path} is truncated or changed (SHA-256 differs)")
        return CachedPlan(plan=plan, facts=facts)

    def store(self, key: PlanKey, plan: bytes, facts: PlanFacts) -> Path:
        """Write a plan and its sidecar, each atomically, and return the plan's path.

        A reader in between finds a pair that does not match, and waits for the lock.
        """
        description = {
            "schema": PLAN_SCHEMA,
            "key": asdict(key),
            "plan_sha256": _sha256(plan),
            "facts": facts.to_json(),
        }
        self._write(self._path(key, ".plan"), plan)
        self._write(self._path(key, ".json"), json.dumps(description, indent=2).encode())
        return self._path(key, ".plan")

    def timings(self, key: PlanKey) -> bytes:
        """Return the timing cache of the key's release and GPU; empty where none is to be used."""
        try:
            return _read(self._timings(key))
        except (DistrustedError, OSError):
            return b""

    def store_timings(self, key: PlanKey, timings: bytes) -> None:
        """Keep the timing cache for the next build on this GPU."""
        self._write(self._timings(key), timings)

    @contextmanager
    def locked(self, key: PlanKey, waiting: Callable[[], None]) -> Iterator[None]:
        """Let one process at a time build the plan of `key`; call `waiting` before waiting."""
        lock = filelock.FileLock(self._path(key, ".lock"), mode=0o600)
        with self._writing():
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                waiting()
                lock.acquire(timeout=-1)
        try:
            yield  # the lock also goes with the process, should it die here
        finally:
            lock.release()

    def _path(self, key: PlanKey, suffix: str) -> Path:
        return self.folder / f"{key.digest}{suffix}"

    def _timings(self, key: PlanKey) -> Path:
        build = f"{key.tensorrt} {key.gpu} {key.compute_capability} {key.multiprocessors}"
        return self.folder / f"{_sha256(build.encode())[:16]}.timing"

    def _nearest(self, key: PlanKey) -> str:
        """Say that there is no plan, and how one of the same model differs where there is one."""
        for sidecar in sorted(self.folder.glob("*.json")):
            other = _key_in(sidecar)
            if other.get("onnx_sha256") == key.onnx_sha256:
                return f"there is one with {key.difference(other)}, which does not serve here"
        return "there is none yet"

    def _write(self, path: Path, content: bytes) -> None:
        """Put `content` at `path` whole or not at all, also where the machine stops."""
        with self._writing():
            write_whole(path, content, mode=0o600)  # a plan can hold code

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EngineError(
                f"{self.folder}: a plan cannot be kept there ({error.strerror or error})",
                "give a writable folder with --plan-cache",
            ) from error


def default_folder() -> Path:
    """Return `flair-engine/plans` in the user's cache folder. Raises OSError without a home."""
    return cache_folder() / "flair-engine" / "plans"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return _sha256(path.read_bytes())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _key_in(sidecar: Path) -> dict[str, Any]:
    """Return the key in a sidecar, empty where it cannot be read."""
    try:
        return dict(parse(_read(sidecar), largest_bytes=SIDECAR_BYTES)["key"])
    except (DistrustedError, OSError, ValueError, KeyError, TypeError):
        return {}


def _read(path: Path) -> bytes:
    """Return the bytes of a file that nobody but this user and root can have made.

    What is checked is the file that is read, whatever its name stands for meanwhile. Raises
    DistrustedError, FileNotFoundError, OSError.
    """
    try:
        descriptor = open_no_follow(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DistrustedError("is a symbolic link") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DistrustedError("is no regular file")
        if not owner_is_trusted(status):
            raise DistrustedError(f"belongs to user {status.st_uid}")
        if others_may_write(status):
            raise DistrustedError(f"can be written by others (mode {_mode(status)})")
        return file.read()


def _not_used(path: Path, error: DistrustedError | OSError) -> str:
    """Say why a file is not used, as the end of a sentence."""
    if isinstance(error, OSError):
        return f"{path} cannot be read ({error.strerror or error})"
    return f"{path} {error}, and plans can hold code"


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):o}"


def _own_folder(given: Path | None) -> Path:
    """Make a folder where it is absent, and refuse one in which others could place a plan."""
    try:
        folder = given or default_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        above = dict.fromkeys((*folder.absolute().parents, *folder.resolve().parents))
        parents = {parent: parent.stat() for parent in above}
    except OSError as error:
        raise EngineError(
            f"{given or 'plans'}: the folder for plans cannot be made ({error.strerror})",
            "give a writable folder with --plan-cache",
        ) from error
    if not owner_is_trusted(status):
        raise EngineError(
            f"{folder}: belongs to user {status.st_uid}, not to you, and plans can hold code",
            "give a folder of your own with --plan-cache",
        )
    if others_may_write(status):
        raise EngineError(
            f"{folder}: others can write to it (mode {_mode(status)}), and plans can hold code",
            f"run chmod go-w {folder}, or give another folder with --plan-cache",
        )
    for parent, status in parents.items():
        if others_may_replace(status):
            raise EngineError(
                f"{folder}: lies in {parent}, where everybody can put another in its place "
                f"(mode {_mode(status)}), and plans can hold code",
                "give a folder elsewhere with --plan-cache",
            )
    return folder
