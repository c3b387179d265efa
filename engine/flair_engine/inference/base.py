"""The interface every inference runtime stands behind.

A backend owns a few slots. A slot owns the buffers of one batch: the caller fills `images_nchw`,
calls `submit`, does something else, and calls `wait`. Two slots are double buffering; one is the
reference.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Precision


def _silent(_line: str) -> None:
    """Say nothing."""


class Slot(Protocol):
    """The buffers of one batch and the work queued on them."""

    images_nchw: np.ndarray
    """uint8 [N, bands, T, T], filled by the caller while nothing is in flight."""

    def submit(self) -> None:
        """Queue inference of `images_nchw`, which must stay untouched until `wait` returns."""

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return the outputs by name, uint8 [N, ...], borrowed until the next `submit`.

        Raises InferenceError where the runtime failed.
        """


class Backend(Protocol):
    """A model loaded into a runtime on a device."""

    engine: str
    """Name of the runtime, as in `--engine`."""
    device: str
    """`cpu` or `cuda:N`."""
    description: str
    """Runtime, version and device for people, e.g. `ONNX Runtime 1.20.1 on 8 CPU threads`."""
    spec: ModelSpec
    precision: str
    """What it computes in: `fp32`, `fp16`, `bf16`, `int8` with the rest in FP32, or `int8 bf16`."""
    batch: int
    """Tiles per slot."""

    @property
    def slots(self) -> Sequence[Slot]:
        """The buffers to fill, all of them idle after opening."""

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds spent so far in each stage of inference, by the stage's name."""

    @property
    def agreement_fp32(self) -> float | None:
        """Share of labels equal to those of FP32 on the first tiles; None where not compared."""

    def close(self) -> None:
        """Wait for work in flight and free everything; a second call does nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What `open_backend` is asked for, as the engines see it."""

    model: Path
    spec: ModelSpec
    device: str | None = None
    """`cpu`, `cuda` or `cuda:N`; None where the engine chooses."""
    batch: int | None = None
    slots: int = 2
    threads: int | None = None
    precision: Precision | None = None
    """What engine `openvino` computes in, beside INT8; not for other engines."""
    plan_cache: Path | None = None
    """Folder of TensorRT plans; None is the one in the user's cache folder."""
    tactic_sources: str | None = None
    """TensorRT's sources of kernels, as trtexec spells them: `-CUBLAS,-CUDNN`."""
    samples: Callable[[], Sequence[np.ndarray]] | None = None
    """Gives tiles, uint8 [bands, T, T], to judge a new plan on; None where there is no image."""
    notify: Callable[[str], None] = _silent
    """Called with lines people should read: what was chosen and why, what takes minutes."""
    status: Callable[[str], None] = _silent
    """Called with lines that replace one another while something takes long."""


def available_cpus() -> int:
    """Return the number of CPUs this process may use, which a container can make few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
