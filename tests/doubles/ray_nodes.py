"""Machines of Ray on this one, and processes at work on parts, that are ended as they run."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flair_engine.system import is_running

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

OBJECT_STORE_BYTES = 80 * 2**20


@contextmanager
def nodes(monkeypatch: Any, number: int) -> Iterator[Any]:
    """Yield a cluster of so many machines of one CPU; nothing is kept of it, nobody called."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster()
    try:
        for _ in range(number):
            add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any) -> Any:
    """Add a machine of one CPU."""
    return cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)


def job_process(*words: Any) -> subprocess.Popen[str]:
    """Start flair-job."""
    command = [sys.executable, "-m", "flair_engine.territory", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def at_work(folder: Path) -> list[tuple[str, int]]:
    """Return parts of a job that are being made, and the processes that do."""
    found = []
    for path in sorted((folder / "parts").glob("*.claim")):
        with suppress(OSError, ValueError, KeyError):
            pid = int(json.loads(path.read_text())["pid"])
            if is_running(pid):
                found.append((path.stem, pid))
    return found


def stop_one(folder: Path, number: int) -> tuple[str, int]:
    """Stop a process while it is at work on a part; return the part, and the process's number.

    A process that stands still cannot end the part before it is killed.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for part, pid in (found := at_work(folder))[number % max(1, len(found)) :]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                if (part, pid) in at_work(folder):
                    return part, pid
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError("no process is at work on a part")


def end(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    while is_running(pid):
        time.sleep(0.01)


def remove_node_at_work(cluster: Any, folder: Path, killed: Counter[str]) -> None:
    """Take away a machine that is not the head, with what it is at work on, which is counted."""
    others = {pid_of(node): node for node in cluster.worker_nodes}
    for number in count():
        part, pid = stop_one(folder, number)
        if parent_of(pid) in others:
            break
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    killed[part] += 1
    cluster.remove_node(others[parent_of(pid)], allow_graceful=False)
    end(pid)


def parent_of(pid: int) -> int:
    """Return the process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pid_of(node: Any) -> int:
    """Return the process that starts the workers of a machine."""
    return int(node.all_processes["raylet"][0].process.pid)
