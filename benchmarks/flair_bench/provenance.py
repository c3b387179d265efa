"""The origin of figures: when they were measured, by which command, commit and versions."""

from __future__ import annotations

import datetime as dt
import platform
import sys
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from flair_bench.processes import said

VERSIONED_PACKAGES = (
    "flair-engine",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "rasterio",
    "segmentation_models_pytorch",
    "tensorrt",
    "tensorrt_rtx_cu12_bindings",
    "torch",
)
"""Whose versions can change a figure."""


def now() -> str:
    """Return the time as ISO 8601, UTC, to the second."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def command_line() -> str:
    """Return the command of this process, without the folders of this machine alone."""
    return " ".join(map(_without_folder, sys.argv))


@lru_cache(maxsize=1)
def commit_at_start() -> str:
    """Return the commit when this was first called, which is before anything is measured."""
    return commit_now()


def commit_since_start() -> str:
    """Return the commit, as `A to B` where it changed while measuring.

    Measured processes may then have run either version.
    """
    before, after = commit_at_start(), commit_now()
    return before if before == after else f"{before} to {after}"


def commit_now() -> str:
    """Return the commit of the repository, with a `+` where the working tree differs from it."""
    folder = str(Path(__file__).parent)
    commit = said("git", "-C", folder, "rev-parse", "--short", "HEAD")
    changed = said("git", "-C", folder, "status", "--porcelain", "-uno")
    return f"{commit}{'+' if changed else ''}" if commit else "unknown"


def versions() -> dict[str, str]:
    """Return the versions of Python and of those VERSIONED_PACKAGES that are installed."""
    installed = {entry.name.lower(): entry.version for entry in metadata.distributions()}
    found = {package: installed[package] for package in VERSIONED_PACKAGES if package in installed}
    return {"python": platform.python_version(), **found}


def _without_folder(word: str) -> str:
    return Path(word).name if Path(word).is_absolute() else word
