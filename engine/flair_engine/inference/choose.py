"""The function that chooses among the runtimes; the only module that imports them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flair_engine.errors import EngineError
from flair_engine.inference.base import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import EngineName, RunOptions


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
    from flair_engine.inference.gpu.tensor_rt import open_tensorrt

    return open_tensorrt(request)


def _open_onnx_runtime(request: Request) -> Backend:
    """Load the model on the CPU, or on CUDA: over page-locked memory where pycuda is installed.

    Raises EngineError where the runtime or device is missing or refuses the model.
    """
    from flair_engine.inference.gpu.cuda import has_pycuda

    device = request.device or "cpu"
    if device != "cpu" and has_pycuda():
        from flair_engine.inference.gpu.onnx_cuda import OrtCudaBackend

        return OrtCudaBackend(request)
    from flair_engine.inference.onnx_runtime import OrtBackend

    return OrtBackend(
        request.model,
        request.spec,
        device=device,
        batch=request.batch,
        slots=request.slots,
        threads=request.threads,
    )


def _open_openvino(request: Request) -> Backend:
    from flair_engine.inference.open_vino import OpenVinoBackend

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


def _check_options(request: Request) -> None:
    device = request.device
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise EngineError(f"device {device} is unknown: use cpu, cuda or cuda:N")
    for name in ("batch", "slots", "threads"):
        number = getattr(request, name)
        if number is not None and number < 1:
            raise EngineError(f"{name} {number} does nothing: use 1 or more")


def load(model: Path, spec: ModelSpec, options: RunOptions, **hooks: Any) -> Backend:
    """Load a model into the engine that `options` name; `hooks` are the callables of a Request.

    Raises EngineError.
    """
    request = Request(
        model=model,
        spec=spec,
        device=options.device,
        batch=options.batch,
        slots=options.slots,
        threads=options.threads,
        precision=options.precision,
        plan_cache=options.plan_cache,
        tactic_sources=options.tactic_sources,
        **hooks,
    )
    return open_backend(request, options.engine)
