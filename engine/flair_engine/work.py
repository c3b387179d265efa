"""A job whose inputs and engine are open, and what it has cost so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flair_engine.overlap import Stopwatch
from flair_engine.reading.schedule import ReadCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from flair_engine.grid import Cores
    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.mapping.targets import Target
    from flair_engine.options import Job, Listener
    from flair_engine.reading.inputs import Opened


@dataclass(slots=True)
class Meters:
    """Costs of a run; each is counted by one thread."""

    reading: ReadCounter = field(default_factory=ReadCounter)
    read: Stopwatch = field(default_factory=Stopwatch)
    write: Stopwatch = field(default_factory=Stopwatch)
    assembled_s: float = 0.0
    """Seconds the maps took, without those of waiting for strips."""
    notices: list[str] = field(default_factory=list)
    """What the user was told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A job whose inputs and engine are open."""

    job: Job
    listener: Listener
    spec: ModelSpec
    opened: Opened
    backend: Backend
    area: Cores
    """All that is read, cut into `panels` by columns."""
    panels: Sequence[Cores]
    selected: np.ndarray | None
    """bool [rows, cols] of the cores of the grid that are labelled, None for all."""
    targets: Sequence[Target]
    threads: int
    """CPU threads that decode."""
    meters: Meters
