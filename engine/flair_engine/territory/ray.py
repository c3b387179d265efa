"""Parts of a territory on Ray: a task for each, on one machine or on many, and tried again.

Only here is ray imported. Names of parts and their records go through it, never pixels: these lie
in the job's folder, which all machines see. Tasks and no actors, as a node that goes away takes
tries of all calls of an actor; Ray itself retries nothing, so that each death is told, is followed
by a pause and counts for the one part that it befell.
"""

from __future__ import annotations

import heapq
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flair_engine.errors import FAILED, BusyError, EngineError, FlairError, first_line
from flair_engine.options import Listener
from flair_engine.report import now
from flair_engine.system import available_cpus
from flair_engine.territory.part import Worker, unforeseen
from flair_engine.territory.plan_file import read_plan
from flair_engine.territory.state import Failure, PartRecord, failure_of, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from flair_engine.options import OnError
    from flair_engine.territory.plan_file import JobPart, Plan

DEATH_PAUSES_S = (1.0, 5.0, 30.0)
"""Seconds before a part is tried again whose process or machine has died."""
BUSY_S = 5.0
"""Seconds before a look at a part that a process elsewhere is at work on."""
WAIT_S = 0.5
"""Seconds between looks at what is due; signals are heard meanwhile."""
ANSWER_S = 10.0
"""Seconds in which something has to listen where a head is to be."""
HEALTHY_S = 20.0
"""Seconds in which a head says that it is one; it takes two."""
IN_FLIGHT = 1000
"""Tasks that Ray has at a time: more than any cluster runs, and it looks through all of them."""
OBJECT_STORE_BYTES = 80 * 2**20
"""The least that Ray takes: records need none."""
OWN_NUMBERS = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}
"""Has Ray say which GPU a task has and hide none: a process that has begun on one sees no other,
and keeps its model from task to task."""
SEE_MEMORY = "see whether it runs out of memory, then run it again"


class ClusterError(FlairError):
    """A cluster that is not there, or has not what parts need."""


class ProcessDiedError(FlairError):
    """A part whose process or machine has died at every try."""

    exit_code = FAILED


def run_parts_on_ray(
    plan: Plan,
    parts: Sequence[JobPart],
    *,
    address: str | None = None,
    gpus_per_worker: float | None = None,
    on_error: OnError | None = None,
    listener: Listener | None = None,
) -> Iterator[tuple[JobPart, PartRecord | FlairError]]:
    """Map parts in tasks of Ray; yield each as it ends, with its record or its error.

    `address` is that of a running cluster; without one Ray is started on this machine, and stopped
    at the end. Each task takes the CPUs that the plan says, and so much of GPUs. Raises
    ClusterError for what cannot be had, EngineError where a machine has not the plan's engine.
    """
    listener = listener or Listener()
    gpus = _gpus(plan, gpus_per_worker)
    with Worker(plan) as here:
        done = {part: record for part in parts if (record := here.done(part))}
    yield from done.items()
    left = [part for part in parts if part not in done]
    if not left:
        return
    with _connected(plan, address, gpus, listener) as ray:
        tasks = _Tasks(left, _submit(ray, plan, gpus, on_error), ray.wait)
        for part, reference in tasks.ended():
            found = _result(ray, reference)
            if isinstance(found, EngineError):
                raise found
            if found is None:
                tasks.again(part, BUSY_S)
                continue
            if isinstance(found, ProcessDiedError):
                found = _charged(plan, part, found, tasks, listener)
            if found is not None:
                _warn(part, found, listener)
                yield part, found


def _submit(
    ray: Any, plan: Plan, gpus: float, on_error: OnError | None
) -> Callable[[JobPart], Any]:
    """Return what starts a task for a part, and returns its reference."""
    task = ray.remote(
        num_cpus=plan.run.threads,
        num_gpus=gpus,
        max_retries=0,
        max_calls=0,  # with a GPU it is 1 by itself, and each part would load the model
        scheduling_strategy="SPREAD",
        **({"runtime_env": OWN_NUMBERS} if gpus else {}),
    )(_outcome)
    folder = str(plan.folder.absolute())
    return lambda part: task.remote(folder, plan.digest, on_error, part.id)


def _warn(part: JobPart, found: PartRecord | FlairError, listener: Listener) -> None:
    """Tell what makes the map of a part wrong: its process has told nobody."""
    for warning in found.warnings if isinstance(found, PartRecord) else ():
        listener.warn(f"{part.id}: {warning}")


class _Tasks:
    """Parts that are due, and tasks under way for others.

    `submit` starts a task for a part, `wait` says which of some have ended, as `ray.wait` does.
    """

    def __init__(
        self, parts: Sequence[JobPart], submit: Callable[[JobPart], Any], wait: Callable[..., Any]
    ) -> None:
        self.deaths: Counter[str] = Counter()
        self._due = [(0.0, number, part) for number, part in enumerate(parts)]  # a heap
        self._number = len(self._due)
        self._flying: dict[Any, JobPart] = {}
        self._submit, self._wait = submit, wait

    def again(self, part: JobPart, pause_s: float) -> None:
        """Have a part be due once more, after a pause."""
        heapq.heappush(self._due, (time.monotonic() + pause_s, self._number, part))
        self._number += 1

    def ended(self) -> Iterator[tuple[JobPart, Any]]:
        """Yield part and reference of each task that has ended, until nothing is left."""
        while self._due or self._flying:
            while (
                self._due and len(self._flying) < IN_FLIGHT and self._due[0][0] <= time.monotonic()
            ):
                part = heapq.heappop(self._due)[-1]
                self._flying[self._submit(part)] = part
            if not self._flying:
                time.sleep(WAIT_S)
                continue
            ended, _ = self._wait(list(self._flying), num_returns=1, timeout=WAIT_S)
            for reference in ended:
                yield self._flying.pop(reference), reference

    def _is_one_due(self) -> bool:
        due = bool(self._due) and self._due[0][0] <= time.monotonic()
        return due and len(self._flying) < IN_FLIGHT


def _result(ray: Any, reference: Any) -> PartRecord | FlairError | None:
    """Return what a task came to."""
    try:
        found: PartRecord | FlairError | None = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return unforeseen(error.cause)
    except ray.exceptions.RayError as error:
        return ProcessDiedError(f"its process died ({type(error).__name__})", SEE_MEMORY)
    return found


def _charged(
    plan: Plan, part: JobPart, death: FlairError, tasks: _Tasks, listener: Listener
) -> FlairError | None:
    """Have a part tried again whose process has died; where that was often, return the error."""
    tasks.deaths[part.id] += 1
    tries = tasks.deaths[part.id]
    if tries <= len(DEATH_PAUSES_S):
        pause_s = DEATH_PAUSES_S[tries - 1]
        listener.notify(f"{part.id}: {death.what}, try {tries}; tried again in {pause_s:g} s")
        tasks.again(part, pause_s)
        return None
    error = ProcessDiedError(f"{death.what} in {tries} tries", death.remedy)
    failure = Failure(reason=str(error), exit_code=error.exit_code, tries=tries, at=now())
    write_record(failure_of(plan, part), failure)
    return error


def _gpus(plan: Plan, asked: float | None) -> float:
    """Return how much of GPUs a task takes. Raises ClusterError for what means nothing."""
    on_gpu = plan.run.engine == "trt" or (plan.run.device or "").startswith("cuda")
    if not on_gpu and asked:
        raise ClusterError(
            f"{asked:g} GPUs per worker, and the job is planned for CPUs", "leave that out"
        )
    gpus = float(on_gpu) if asked is None else asked
    if on_gpu and not (0 < gpus < 1 or gpus == 1):
        raise ClusterError(
            f"{gpus:g} GPUs per worker, expected 1, or less where some share one",
            "a part uses one GPU",
        )
    return gpus


@contextmanager
def _connected(plan: Plan, address: str | None, gpus: float, listener: Listener) -> Iterator[Any]:
    """Yield ray, connected to a cluster. Raises ClusterError where it cannot be."""
    if address is not None:
        _check_address(address)
    import ray

    threads = plan.run.threads or available_cpus()
    own = address is None
    with _environment(_of_own() if own else {}):
        try:
            _init(address, threads)
            _check_room(ray.nodes(), threads, gpus, listener.notify, own=own)
            yield ray
        finally:
            ray.shutdown()


def _init(address: str | None, threads: int) -> None:
    """Connect to Ray, or start it. Raises ClusterError where that cannot be."""
    import ray

    where = _own(threads) if address is None else {"address": address}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, include_dashboard=False, log_to_driver=False, logging_level="error")
    except Exception as error:
        raise ClusterError(
            f"Ray at {address or 'this machine'} cannot be used ({first_line(error)})",
            "give the HOST:PORT of a running head, or no address to start one here",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's exits without a word


def _check_address(address: str) -> None:
    """Raise ClusterError where nothing listens: Ray itself looks for many minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdecimal():
        raise ClusterError(
            f"address {address or 'of nothing'} is not that of a head of Ray",
            "give auto, or its HOST:PORT, such as 10.0.0.1:6379",
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"address {address}: nothing answers there ({error})",
            "start it with ray start --head, or give no address to start one here",
        ) from error
    _check_head(address)


def _check_head(address: str) -> None:
    """Raise ClusterError where it is no head of Ray that answers, or one of another token."""
    asked = ["-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(
            [sys.executable, *asked], capture_output=True, timeout=HEALTHY_S, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        raise ClusterError(
            f"address {address}: what answers there is no head of Ray that lets this user in",
            "give the port of ray start (6379), not that of its dashboard, and the same "
            "RAY_AUTH_TOKEN",
        )


def _own(threads: int) -> dict[str, Any]:
    """Return what Ray is started with on this machine: a part at least has room there."""
    return {
        "address": "local",
        "num_cpus": max(threads, available_cpus()),
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def _of_own() -> dict[str, str]:
    """Return what has a Ray of our own open to this run alone, leave no token and call nowhere."""
    found = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not any(name.startswith("RAY_AUTH_") for name in os.environ):
        found["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return found


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have variables of the environment, where they are not set already."""
    absent = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(absent)
    try:
        yield
    finally:
        for name in absent:
            os.environ.pop(name, None)


def _check_room(
    nodes: Sequence[Mapping[str, Any]],
    threads: int,
    gpus: float,
    notify: Callable[[str], None],
    *,
    own: bool,
) -> None:
    """Say where no machine has what a part needs yet; raise ClusterError where none ever will."""
    for node in nodes:
        resources = node["Resources"] if node["Alive"] else {}
        if resources.get("CPU", 0) >= threads and resources.get("GPU", 0) >= gpus:
            return
    lacking = f"no machine has {threads} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    if own:
        raise ClusterError(f"{lacking} that Ray sees", "see nvidia-smi, or plan for the CPU")
    notify(f"{lacking} that Ray sees: waiting for one")


_kept: dict[tuple[Any, ...], Worker] = {}
"""The worker of this process, by what it is for: its model lasts from task to task."""


def _outcome(
    folder: str, digest: str, on_error: OnError | None, name: str
) -> PartRecord | FlairError | None:
    """Map a part in a process of Ray; return its record or error, None where others are at it."""
    try:
        worker = _worker(folder, digest, on_error)
        return worker.run_now(worker.plan.part(name))
    except BusyError:
        return None
    except EngineError as error:
        return EngineError(f"{socket.gethostname()}: {error.what}", error.remedy)
    except FlairError as error:
        return error


def _worker(folder: str, digest: str, on_error: OnError | None) -> Worker:
    """Return the worker of this process. Raises EngineError where it does not see the plan."""
    plan = _plan(folder, digest)
    device = _device(plan.run.device)
    key = (folder, digest, on_error, device)
    if key not in _kept:
        while _kept:
            _kept.popitem()[1].close()
        _kept[key] = Worker(plan, on_error=on_error, device=device)
    return _kept[key]


@lru_cache(maxsize=1)
def _plan(folder: str, digest: str) -> Plan:
    try:
        plan = read_plan(Path(folder))
    except FlairError as error:
        raise EngineError(error.what, error.remedy) from error
    if plan.digest != digest:
        raise EngineError(f"{folder}: another plan is there by now", "run flair-job part again")
    return plan


def _device(planned: str | None) -> str | None:
    """Return the device of this task: of several GPUs that which Ray has given it."""
    import ray

    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return numbered(planned, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


def numbered(planned: str | None, gpus: Sequence[str], visible: str | None) -> str | None:
    """Return a planned device with the number that CUDA has for the first of Ray's `gpus`.

    `visible` is CUDA_VISIBLE_DEVICES, whose entries Ray's names are where it is set.
    """
    if planned == "cpu" or not gpus:
        return planned
    number = visible.split(",").index(gpus[0]) if visible else int(gpus[0])
    return f"cuda:{number}"
