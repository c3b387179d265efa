"""What a measurement leaves behind: one JSON file per machine, a section per kind of measurement.

A section says when, at which commit, with which versions and by which command it was made. Figures
are plain JSON. A section measured again replaces the one that is there; a file never mixes
machines.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flair_bench.errors import ResultError
from flair_engine.inference.base import available_cpus

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 1
PACKAGES = (
    "flair-engine",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "rasterio",
    "segmentation_models_pytorch",
    "tensorrt",
    "torch",
)
"""Whose versions can change a figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where figures were measured; they compare only with others of the same place."""

    cpu: str
    cores: int
    """CPUs this process may use."""
    ram_gib: float
    gpu: str | None
    """Name of the first NVIDIA GPU and its driver."""

    @property
    def title(self) -> str:
        """One line for people."""
        gpu = f", {self.gpu}" if self.gpu else ", no GPU"
        return f"{self.cpu}, {self.cores} cores, {self.ram_gib:.0f} GiB{gpu}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One measurement."""

    date: str
    """ISO 8601, UTC."""
    command: str
    commit: str
    """Of the repository; ends in `+` where the working tree differs from it, and is `A to B` where
    it changed while measuring."""
    versions: Mapping[str, str]
    figures: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A result file."""

    machine: Machine
    sections: dict[str, Section] = field(default_factory=dict)
    """By kind: `accuracy`, `parity`, `geometry`, `io`, `throughput`."""
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        partial.replace(path)


def load(path: Path) -> Result:
    """Read a result file. Raises ResultError where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise ResultError(
                f"{path}: result schema {value['schema']}, this flair-bench reads {SCHEMA}: "
                "measure again"
            )
        return Result(
            machine=Machine(**value["machine"]),
            sections={kind: Section(**section) for kind, section in value["sections"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path}: is no result of flair-bench ({type(error).__name__}: {error}). Give a file "
            "that --json wrote"
        ) from error


def record(path: Path, kind: str, figures: Mapping[str, Any]) -> Result:
    """Put a section measured now on this machine into the file `path`, which may be new.

    Raises ResultError where the file holds figures of another machine.
    """
    machine = this_machine()
    result = load(path) if path.exists() else Result(machine=machine)
    if result.machine != machine:
        raise ResultError(
            f"{path}: holds results of {result.machine.title}; this is {machine.title}: "
            "give another name"
        )
    result.sections[kind] = section(figures)
    result.save(path)
    return result


@lru_cache(maxsize=1)
def started_at() -> str:
    """Return the commit when this was first called, which is before anything is measured."""
    return _commit()


def section(figures: Mapping[str, Any]) -> Section:
    """Return figures with when, how and by what they were measured: now, by this process.

    A tree that changed in the meantime shows: measured processes may have run either version.
    """
    before, after = started_at(), _commit()
    return Section(
        date=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        command=" ".join(map(_without_folder, sys.argv)),
        commit=before if before == after else f"{before} to {after}",
        versions=_versions(),
        figures=figures,
    )


def this_machine() -> Machine:
    """Describe the machine this process runs on."""
    return Machine(
        cpu=_cpu_name(),
        cores=available_cpus(),
        ram_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpu=_gpu_name(),
    )


def at(result: Result, path: str) -> Any:
    """Return a figure by `kind.key.key…`; numbers index lists. Raises ResultError."""
    kind, *keys = path.split(".")
    if kind not in result.sections:
        raise ResultError(f"{path}: no section {kind}, only {', '.join(result.sections)}")
    value: Any = result.sections[kind].figures
    try:
        for key in keys:
            value = value[int(key)] if isinstance(value, list) else value[key]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ResultError(f"{path}: the result has no {key} there") from error
    return value


def _without_folder(word: str) -> str:
    """Return an argument without the folders of this machine alone."""
    return Path(word).name if Path(word).is_absolute() else word


def _versions() -> dict[str, str]:
    installed = {entry.name.lower(): entry.version for entry in metadata.distributions()}
    found = {package: installed[package] for package in PACKAGES if package in installed}
    return {"python": platform.python_version(), **found}


def _commit() -> str:
    commit = _said("git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD")
    changed = _said("git", "-C", str(Path(__file__).parent), "status", "--porcelain", "-uno")
    return f"{commit}{'+' if changed else ''}" if commit else "unknown"


def _gpu_name() -> str | None:
    query = ("--query-gpu=name,driver_version", "--format=csv,noheader")
    said = _said("nvidia-smi", *query)
    return said.splitlines()[0].replace(", ", ", driver ") if said else None


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _said(*command: str) -> str:
    """Return what a command prints, nothing where it is absent or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
