"""Inference runtimes behind one small interface, and the function that chooses among them.

A backend owns a few slots. A slot owns the buffers of one batch: the caller fills `images_nchw`,
calls `submit`, does something else, and calls `wait`. Two slots are double buffering; one is the
reference.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from flair_engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec

EngineName = Literal["auto", "trt", "ort", "openvino"]
Precision = Literal["fp32", "bf16"]


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


def open_backend(request: Request, engine: EngineName = "auto") -> Backend:
    """Load the model into the engine asked for.

    `auto` takes TensorRT, then ONNX Runtime on CUDA, then on the CPU, and notifies which and why.
    What was named explicitly, engine or device, is used or refused, never replaced. Raises
    EngineError.
    """
    _check_options(request)
    if request.precision is not None and engine != "openvino":
        raise EngineError(
            f"precision {request.precision} was given, which engine {engine} does not choose: it "
            f"computes in the model's own {request.spec.precision}. Leave it out, or use --engine "
            "openvino"
        )
    choices = _choices(engine, request.device)
    if request.spec.precision == "int8":
        choices = [(name, device) for name, device in choices if device == "cpu"]
        if not choices:
            raise EngineError(
                f"{request.model}: is int8, which is for CPUs: give the FP16 or FP32 file to "
                f"{request.device or f'engine {engine}'}, or use --engine ort --device cpu"
            )
    if not choices:
        raise EngineError(
            f"engine {engine} does not run on {request.device}: leave out --device, or use "
            "--engine ort"
        )
    if len(choices) == 1:
        ((name, device),) = choices
        return _OPENERS[name](replace(request, device=device))
    return _open_first(request, choices)


def _choices(engine: EngineName, device: str | None) -> list[tuple[str, str]]:
    """Return the (engine, device) that were asked for, the fastest first."""
    return [
        (name, device or place)
        for name, place in _PLACES
        if engine == name or (engine == "auto" and name in _AUTO)
        if device is None or device[:4] == place[:4]
    ]


def _open_first(request: Request, choices: list[tuple[str, str]]) -> Backend:
    """Open the first choice that can be; where none can, raise what each is missing."""
    reasons = []
    for name, device in choices:
        backend = _opened(name, replace(request, device=device))
        if isinstance(backend, EngineError):
            reasons.append(f"{name} on {device}: {backend}")
            continue
        # The remedies are for those who ask for that engine.
        skipped = "".join(f"; not {reason.split('. ')[0]}" for reason in reasons)
        request.notify(f"engine {name}: {backend.description}{skipped}")
        return backend
    raise EngineError(f"no engine can run the model; {'; '.join(reasons)}")


def _opened(name: str, request: Request) -> Backend | EngineError:
    try:
        return _OPENERS[name](request)
    except EngineError as error:
        return error


def _open_tensorrt(request: Request) -> Backend:
    from flair_engine.backends.tensor_rt import open_tensorrt

    return open_tensorrt(request)


def _open_onnx_runtime(request: Request) -> Backend:
    from flair_engine.backends.onnx_runtime import open_onnx_runtime

    return open_onnx_runtime(request)


def _open_openvino(request: Request) -> Backend:
    from flair_engine.backends.open_vino import OpenVinoBackend

    return OpenVinoBackend(
        request.model,
        request.spec,
        precision=request.precision or "fp32",
        batch=request.batch,
        slots=request.slots,
        threads=request.threads,
    )


_OPENERS: Mapping[str, Callable[[Request], Backend]] = {
    "trt": _open_tensorrt,
    "ort": _open_onnx_runtime,
    "openvino": _open_openvino,
}
_PLACES = (("trt", "cuda:0"), ("ort", "cuda:0"), ("ort", "cpu"), ("openvino", "cpu"))
"""Engines and where they run, the fastest first."""
_AUTO = ("trt", "ort")


def available_cpus() -> int:
    """Return the number of CPUs this process may use, which a container can make few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_options(request: Request) -> None:
    device = request.device
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise EngineError(f"device {device} is unknown: use cpu, cuda or cuda:N")
    for name in ("batch", "slots", "threads"):
        number = getattr(request, name)
        if number is not None and number < 1:
            raise EngineError(f"{name} {number} does nothing: use 1 or more")
