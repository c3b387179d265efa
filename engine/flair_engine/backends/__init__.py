"""Inference runtimes behind one small interface, and the function that chooses among them.

A backend owns a few slots. A slot owns the buffers of one batch: the caller fills `images_nchw`,
calls `submit`, does something else, and calls `wait`. Two slots are double buffering; one is the
reference.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Literal, Protocol

from flair_engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec

EngineName = Literal["auto", "ort", "openvino"]
Precision = Literal["fp32", "bf16"]


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
    """What it computes in: `fp32`, `fp16` or `bf16`."""
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


def open_backend(
    model: Path,
    spec: ModelSpec,
    *,
    engine: EngineName = "auto",
    device: str | None = None,
    batch: int | None = None,
    slots: int = 2,
    threads: int | None = None,
    precision: Precision | None = None,
) -> Backend:
    """Load `model` into the engine asked for; None lets the engine choose.

    `auto` takes a CUDA device where the installed runtime can start one, else the CPU. What was
    named explicitly is used or refused, never replaced. Raises EngineError.
    """
    from flair_engine.backends.onnx_runtime import OrtBackend, has_cuda

    _check_options(device=device, batch=batch, slots=slots, threads=threads)
    if engine == "openvino":
        if device not in (None, "cpu"):
            raise EngineError(f"engine openvino runs on the CPU, not on {device}: use --engine ort")
        from flair_engine.backends.open_vino import OpenVinoBackend

        return OpenVinoBackend(
            model,
            spec,
            precision=precision or "fp32",
            batch=batch,
            slots=slots,
            threads=threads,
        )
    if precision is not None:
        raise EngineError(
            f"precision {precision} was given, which engine {engine} does not choose: it computes "
            f"in the model's own {spec.precision}. Leave it out, or use --engine openvino"
        )

    def on(device: str) -> Backend:
        return OrtBackend(model, spec, device=device, batch=batch, slots=slots, threads=threads)

    if engine == "auto" and device is None and has_cuda():
        with contextlib.suppress(EngineError):
            return on("cuda:0")
    return on(device or "cpu")


def available_cpus() -> int:
    """Return the number of CPUs this process may use, which a container can make few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_options(
    *, device: str | None, batch: int | None, slots: int, threads: int | None
) -> None:
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise EngineError(f"device {device} is unknown: use cpu, cuda or cuda:N")
    for name, number in (("batch", batch), ("slots", slots), ("threads", threads)):
        if number is not None and number < 1:
            raise EngineError(f"{name} {number} does nothing: use 1 or more")
