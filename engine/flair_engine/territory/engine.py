"""The engine of a territory: chosen and judged once, at the plan, and the same in every part.

What `auto` takes depends on the machine, and on the images that bf16 or a TensorRT plan is judged
on: left to the parts it could differ between them, and with it labels.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from flair_engine import bounded_json
from flair_engine.durable import write_whole
from flair_engine.errors import EngineError, WriteError
from flair_engine.inference.choose import load
from flair_engine.provenance import EngineFacts
from flair_engine.reading.strips import sample_tiles
from flair_engine.system import available_cpus, has_nvidia_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Job, Precision, RunOptions
    from flair_engine.territory.plan_file import Plan
    from flair_engine.work import Panel


@runtime_checkable
class Planned(Protocol):
    """A backend that runs a plan that was built."""

    plan_sha256: str


ENGINE_FILE = "engine.json"
"""In the folder of a job that was planned away from its GPU: the engine of its first part."""


def settled_engine(
    job: Job, spec: ModelSpec, panels: Sequence[Panel], notify: Callable[[str], None]
) -> tuple[RunOptions, EngineFacts | None]:
    """Return how all parts are run, nothing left to choose, and what engine that is.

    The engine is opened here and judged on tiles of what is mapped. One for a GPU that is not on
    this machine has to be named with all that would else be found out; what it is, is None then,
    and the first part settles it. Raises EngineError where it cannot be had.
    """
    if _is_elsewhere(job.run):
        if job.run.batch is None:
            raise EngineError(
                "no GPU is on this machine to settle the batch of all parts",
                "give --batch, or plan where the GPU is",
            )
        notify(f"engine {job.run.engine}: no GPU is here, the first part says what it is")
        return job.run, None
    threads = job.run.threads or available_cpus()
    mapped = [(panel.sheet.raster, panel.cores) for panel in panels]
    backend = load(
        job.model,
        spec,
        job.run,
        samples=lambda count: sample_tiles(mapped, count, threads),
        notify=notify,
    )
    with closing(backend):
        return _as_opened(job.run, backend), EngineFacts.of(backend)


def check_engine(plan: Plan, backend: Backend) -> None:
    """Raise EngineError unless an engine is that of the plan, or of the parts before."""
    facts = EngineFacts.of(backend)
    settled = plan.engine or _of_first_part(plan, facts)
    if settled != facts:
        raise EngineError(
            f"all parts are for {_said(settled)}, this process has {_said(facts)}",
            "use machines and packages of one kind, or plan with other options in another folder",
        )


def _is_elsewhere(run: RunOptions) -> bool:
    """Return whether a named engine is for a GPU that this machine has not."""
    of_gpu = run.engine == "trt" or (run.device or "").startswith("cuda")
    return run.engine != "auto" and of_gpu and not has_nvidia_driver()


def _as_opened(run: RunOptions, backend: Backend) -> RunOptions:
    """Return options that open the same engine wherever that is to be had, and no other.

    A GPU keeps the number that was asked for: on another machine it may have another.
    """
    return replace(
        run,
        engine=backend.engine,  # type: ignore[arg-type]
        device=run.device or backend.device.partition(":")[0],
        precision=_asked_precision(backend),
        batch=backend.batch,
        plan_sha256=backend.plan_sha256 if isinstance(backend, Planned) else None,
    )


def _asked_precision(backend: Backend) -> Precision | None:
    """Return what to ask for to get the precision of a backend; None for FP16, which none can."""
    if "bf16" in backend.precision:
        return "bf16"
    return "fp32" if backend.precision in ("fp32", "int8") else None


def _of_first_part(plan: Plan, facts: EngineFacts) -> EngineFacts:
    """Return the engine of the parts before; the first part says what it is."""
    path = plan.folder / ENGINE_FILE
    try:
        if not path.exists():
            write_whole(path, json.dumps(asdict(facts)).encode())
        return EngineFacts(**bounded_json.load(path))
    except (OSError, ValueError, TypeError) as error:
        raise WriteError(f"{path}: cannot be used ({error})", "delete it") from error


def _said(facts: EngineFacts) -> str:
    return f"{facts.identity} ({facts.precision}, batch {facts.batch})"
