"""Processes of this machine: whole ones measured from outside, and small ones that are asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_bench.errors import RunnerError
from flair_engine import system

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One process, from start to end."""

    wall_s: float
    cpu_s: float
    """User and system, of the process and the children it waited for."""
    peak_mib: float
    """Largest resident set of the process, MiB."""
    printed: str


LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    json.dump([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
process.returncode = code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""
"""Stands between us and what is measured: Linux starts a child's peak memory at its parent's."""


def run_measured(command: Sequence[str]) -> Outcome:
    """Run a command to its end.

    Raises RunnerError with its last words where it fails, and on Windows, which counts otherwise.
    """
    if not hasattr(os, "wait4"):
        raise RunnerError(f"{sys.platform} does not say what a process took", "measure on Linux")
    with tempfile.NamedTemporaryFile() as usage:
        launch = [sys.executable, "-S", "-E", "-c", LAUNCHER, usage.name, *command]
        process = subprocess.run(launch, capture_output=True, check=False)
        if process.returncode:
            words = process.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise RunnerError(
                f"{' '.join(command)} ended with {process.returncode}: {words[-1]}", "run it alone"
            )
        wall_s, cpu_s, maxrss = json.loads(usage.read())
    peak_mib = system.peak_bytes(maxrss) / 2**20
    return Outcome(wall_s=wall_s, cpu_s=cpu_s, peak_mib=peak_mib, printed=process.stdout.decode())


def said(*command: str) -> str:
    """Return what a command prints, nothing where it is absent or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
