"""The choice of a runtime: one that was named is used or refused, of several the first that can."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flair_engine.checking import check_counts, check_memory, check_run
from flair_engine.errors import EngineError, RefusedModelError, first_line
from flair_engine.inference.base import Request
from flair_engine.inference.onnx_runtime import OrtBackend
from flair_engine.inference.open_vino import OpenVinoBackend
from flair_engine.options import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import EngineName, RunOptions


def load(
    model: Path,
    spec: ModelSpec,
    options: RunOptions,
    *,
    samples: Callable[[], Sequence[np.ndarray]] | None = None,
    notify: Callable[[str], None] = silent,
    status: Callable[[str], None] = silent,
) -> Backend:
    """Load a model into the engine that `options` name; for the callables see Request.

    Raises EngineError.
    """
    check_run(options)
    check_memory(spec, options)
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
        samples=samples,
        notify=notify,
        status=status,
    )
    return open_backend(request, options.engine)


def open_backend(request: Request, engine: EngineName = "auto") -> Backend:
    """Load the model into `engine`.

    `auto` takes TensorRT, then ONNX Runtime on CUDA, then on the CPU, and notifies which and why.
    What was named, engine or device, is used or refused, never replaced. Raises EngineError.
    """
    _check_options(request, engine)
    places = _places(request, engine)
    if engine == "auto" and _openvino_alone(request):
        raise EngineError(
            "OpenVINO is installed and ONNX Runtime is not",
            "use --engine openvino, or run pip install 'flair-engine[cpu]'",
        )
    if len(places) == 1:
        return _opened(places[0], request)
    return _open_first(request, places)


def _check_options(request: Request, engine: EngineName) -> None:
    """Refuse values that mean nothing."""
    device = request.device
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise EngineError(f"device {device} is unknown", "use cpu, cuda or cuda:N")
    check_counts(batch=request.batch, slots=request.slots, threads=request.threads)
    if request.precision is not None and engine != "openvino":
        raise EngineError(
            f"precision {request.precision} is for engine openvino alone, engine {engine} computes "
            f"in the model's own {request.spec.precision}",
            "leave it out, or use --engine openvino",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """An engine on a kind of device."""

    engine: EngineName
    device: str
    """The device taken where none is named."""
    open: Callable[[Request], Backend]
    auto: bool = True
    """Whether engine `auto` considers it."""

    @property
    def name(self) -> str:
        return f"{self.engine} on {self.device}"


def _open_tensorrt(request: Request) -> Backend:
    # Imported only here, as it needs a Unix system.
    from flair_engine.inference.gpu.judged_plan import open_tensorrt

    return open_tensorrt(request)


def _open_ort_on_cuda(request: Request) -> Backend:
    """Load the model over page-locked memory where pycuda is installed, else without."""
    from flair_engine.inference.gpu.cuda import has_pycuda
    from flair_engine.inference.gpu.onnx_cuda import OrtCudaBackend

    return OrtCudaBackend(request) if has_pycuda() else OrtBackend(request)


_ALL_PLACES = (
    _Place(engine="trt", device="cuda:0", open=_open_tensorrt),
    _Place(engine="ort", device="cuda:0", open=_open_ort_on_cuda),
    _Place(engine="ort", device="cpu", open=OrtBackend),
    _Place(engine="openvino", device="cpu", open=OpenVinoBackend, auto=False),
)
"""Where models can be run, the fastest first."""


def _places(request: Request, engine: EngineName) -> list[_Place]:
    """Return the places that `engine` and the request's device leave, and that serve the model."""
    places = [
        replace(place, device=request.device or place.device)
        for place in _ALL_PLACES
        if (place.auto if engine == "auto" else place.engine == engine)
        if request.device is None or _kind(request.device) == _kind(place.device)
    ]
    if not places:
        raise EngineError(
            f"engine {engine} does not run on {request.device}",
            "leave out --device, or use --engine ort",
        )
    if request.spec.precision != "int8":
        return places
    on_cpu = [place for place in places if place.device == "cpu"]
    if not on_cpu:
        raise EngineError(
            f"{request.model}: is int8, which is for CPUs",
            f"give the FP16 or FP32 file to {request.device or f'engine {engine}'}, or use "
            "--engine ort --device cpu",
        )
    return on_cpu


def _kind(device: str) -> str:
    """Return `cpu` or `cuda`."""
    return device.partition(":")[0]


def _open_first(request: Request, places: Sequence[_Place]) -> Backend:
    """Open the first place that can be; where none can, raise what each is missing."""
    failed: dict[str, EngineError] = {}
    for place in places:
        backend = _tried(place, request)
        if isinstance(backend, RefusedModelError):
            raise backend  # what other engines lack is beside the point
        if isinstance(backend, EngineError):
            failed[place.name] = backend
            continue
        # The remedies are for those who ask for that engine.
        skipped = "".join(f"; not {name}: {error.what}" for name, error in failed.items())
        request.notify(f"engine {place.engine}: {backend.description}{skipped}")
        return backend
    raise EngineError(
        f"no engine can run the model on {request.device or 'this machine'}",
        "; ".join(f"for {name}, {error}" for name, error in failed.items()),
    )


def _openvino_alone(request: Request) -> bool:
    """Return whether OpenVINO, which runs by name only, is all there is for the device."""
    on_cpu = request.device is None or _kind(request.device) == "cpu"
    return on_cpu and _is_there("openvino") and not any(map(_is_there, ("onnxruntime", "tensorrt")))


def _is_there(package: str) -> bool:
    """Return whether a package is installed; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _tried(place: _Place, request: Request) -> Backend | EngineError:
    try:
        return _opened(place, request)
    except EngineError as error:
        return error


def _opened(place: _Place, request: Request) -> Backend:
    """Open a place. Raises EngineError, of memory that is not to be had too."""
    try:
        return place.open(replace(request, device=place.device))
    except MemoryError as error:
        raise EngineError(
            f"no memory for batch {request.batch or 'of the engine'} x slots {request.slots} on "
            f"{place.name} ({first_line(error)})",
            "use a smaller --batch",
        ) from error
