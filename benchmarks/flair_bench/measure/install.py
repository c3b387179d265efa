"""Installation into fresh environments: how large they are, and how long the demo takes in one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flair_bench import processes
from flair_bench.figures import Environment, InstallFigures

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
"""The clone that this package is used from."""
EXTRAS = ("cpu", "cpu,export", "cpu,export,dev")
"""What maps, what exports too, what `make` installs."""
CUDA_FOLDERS = ("nvidia", "triton", "cuda")
"""What packages of libraries for GPUs are called in site-packages."""
MIB = 2**20


def measure(folder: Path, status: Callable[[str], None] = lambda _: None) -> InstallFigures:
    """Install the clone with each of EXTRAS below `folder`, and run the demo in the last.

    Raises RunnerError where pip or the demo fails.
    """
    environments = {}
    for extras in EXTRAS:
        status(f"installing .[{extras}]")
        environments[extras] = _installed(folder / extras.replace(",", "-"), extras)
    status("the demo")
    python = folder / EXTRAS[-1].replace(",", "-") / "bin" / "python"
    demo = processes.run_measured([str(python), "-m", "flair_export.demo", str(folder / "demo")])
    return InstallFigures(environments=environments, demo_s=demo.wall_s)


def _installed(environment: Path, extras: str) -> Environment:
    made = processes.run_measured([sys.executable, "-m", "venv", str(environment)])
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    installed = processes.run_measured([*pip, "--no-cache-dir", f"{ROOT}[{extras}]"])
    (packages,) = environment.glob("lib/python*/site-packages")
    cuda = (path for name in CUDA_FOLDERS for path in packages.glob(f"{name}*"))
    return Environment(
        mib=_bytes(environment) / MIB,
        cuda_mib=sum(map(_bytes, cuda)) / MIB,
        install_s=made.wall_s + installed.wall_s,
    )


def _bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
