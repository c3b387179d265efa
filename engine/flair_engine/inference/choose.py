"""The choice of a runtime: one that was named is used or refused, of several the first that can.

On a CPU that is OpenVINO in bf16 where the CPU has it and its labels are nearly FP32's, then FP32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flair_engine.checking import check_counts, check_memory, check_run
from flair_engine.errors import DisagreementError, EngineError, RefusedModelError, first_line
from flair_engine.inference.base import Request
from flair_engine.inference.devices import check_device, devices_of, kind_of
from flair_engine.inference.judged_bf16 import open_judged_bf16
from flair_engine.inference.onnx_runtime import (
    OrtBackend,
    check_cuda,
    import_onnxruntime,
    onnxruntime_version,
)
from flair_engine.inference.open_vino import (
    OpenVinoBackend,
    check_bf16,
    import_openvino,
    openvino_version,
)
from flair_engine.inference.several import open_several
from flair_engine.options import silent
from flair_engine.system import has_nvidia_driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.options import EngineName, Precision, RunOptions


def load(
    model: Path,
    spec: ModelSpec,
    options: RunOptions,
    *,
    samples: Callable[[int], Sequence[np.ndarray]] | None = None,
    wait: bool = True,
    notify: Callable[[str], None] = silent,
    status: Callable[[str], None] = silent,
) -> Backend:
    """Load a model into the engine that `options` name; for `samples` to `status` see Request.

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
        plan=options.plan,
        plan_sha256=options.plan_sha256,
        tactic_sources=options.tactic_sources,
        samples=samples,
        wait=wait,
        notify=notify,
        status=status,
    )
    return open_backend(request, options.engine)


def open_backend(request: Request, engine: EngineName = "auto") -> Backend:
    """Load the model into `engine`.

    `auto` takes the first of TensorRT, ONNX Runtime on CUDA, OpenVINO in bf16 and in FP32, and ONNX
    Runtime on the CPU that can, and notifies which. What was named, engine, device or precision, is
    used or refused, never replaced. Raises EngineError.
    """
    if request.plan is not None and engine == "auto":
        engine = "trt"  # which the plan names
    _check_options(request, engine)
    places = _places(request, engine)
    if len(places) == 1 and engine != "auto":
        return _opened(places[0], request)
    return _open_first(request, places)


def engines() -> Iterator[str]:
    """Yield a line for each engine: what it is, or why it does not run on this machine."""
    width = max(len(place.name) for place in _ALL_PLACES)
    for place in _ALL_PLACES:
        try:
            found = place.probe()
        except EngineError as error:
            found = f"no: {error}"
        yield f"{place.name:{width}}  {found}"


def _check_options(request: Request, engine: EngineName) -> None:
    """Refuse values that mean nothing."""
    device, precision = request.device, request.precision
    if device is not None:
        check_device(device)
    check_counts(batch=request.batch, slots=request.slots, threads=request.threads)
    if precision == "bf16" and engine not in ("auto", "openvino"):
        raise EngineError(
            f"precision bf16 is for engine openvino alone, engine {engine} computes "
            f"in the model's own {request.spec.precision}",
            "leave it out, or use --engine openvino",
        )
    if request.plan is not None and engine != "trt":
        raise EngineError(
            f"plan {request.plan} is for engine trt, not {engine}", "leave out one of the two"
        )
    if precision == "fp32" and engine == "trt":
        raise EngineError(
            "engine trt computes in fp16, not in fp32", "leave out --precision, or use --engine ort"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """An engine on a kind of device."""

    engine: EngineName
    device: str
    """The device taken where none is named."""
    precision: Precision | None = None
    """What it computes in whatever the file holds, beside INT8; None where the file says it."""
    open: Callable[[Request], Backend]
    probe: Callable[[], str]
    """Says what there is for it on this machine; raises EngineError where something is missing."""

    @property
    def name(self) -> str:
        return f"{self.engine} on {self.device}" + (" in bf16" if self.precision == "bf16" else "")

    def serves(self, request: Request, engine: EngineName) -> bool:
        """Return whether what was asked for leaves this place."""
        if engine not in ("auto", self.engine):
            return False
        if request.device is not None and kind_of(request.device) != kind_of(self.device):
            return False
        if self.precision == "bf16":
            unasked = engine == "auto" and request.precision is None
            return unasked or request.precision == "bf16"
        if self.device == "cpu":
            return request.precision != "bf16"
        return request.precision is None or (
            request.precision == request.spec.precision and self.engine == "ort"
        )


def _open_tensorrt(request: Request) -> Backend:
    # Imported only here, as it needs a Unix system.
    from flair_engine.inference.gpu.judged_plan import open_tensorrt

    return open_tensorrt(request)


def _open_ort_on_cuda(request: Request) -> Backend:
    """Load the model over page-locked memory where pycuda is installed, else without."""
    from flair_engine.inference.gpu.cuda import has_pycuda
    from flair_engine.inference.gpu.onnx_cuda import OrtCudaBackend

    return OrtCudaBackend(request) if has_pycuda() else OrtBackend(request)


def _open_bf16(request: Request) -> Backend:
    """Load the model in bf16: as it is for who asks for it, else where it is nearly FP32."""
    return OpenVinoBackend(request) if request.precision == "bf16" else open_judged_bf16(request)


def _probe_tensorrt() -> str:
    from flair_engine.inference.gpu.cuda import Device
    from flair_engine.inference.gpu.library import installed_libraries, library_for, titled

    installed_libraries()  # said to be missing before the GPU is
    device = Device(0)
    try:
        trt = library_for(device, silent)
    finally:
        device.close()
    return f"{titled(trt)} on {device.name}, for FP16 files"


def _probe_ort_on_cuda() -> str:
    check_cuda(import_onnxruntime())
    return f"ONNX Runtime {onnxruntime_version()} with CUDA, for FP32 and FP16 files"


def _probe_bf16() -> str:
    check_bf16(import_openvino().Core())
    return f"{_probe_openvino()}; by itself only where labels are nearly FP32's"


def _probe_openvino() -> str:
    return f"OpenVINO {openvino_version()}"


def _probe_ort() -> str:
    import_onnxruntime()
    return f"ONNX Runtime {onnxruntime_version()}"


_ALL_PLACES = (
    _Place(engine="trt", device="cuda:0", open=_open_tensorrt, probe=_probe_tensorrt),
    _Place(engine="ort", device="cuda:0", open=_open_ort_on_cuda, probe=_probe_ort_on_cuda),
    _Place(engine="openvino", device="cpu", precision="bf16", open=_open_bf16, probe=_probe_bf16),
    _Place(engine="openvino", device="cpu", open=OpenVinoBackend, probe=_probe_openvino),
    _Place(engine="ort", device="cpu", open=OrtBackend, probe=_probe_ort),
)
"""Where models can be run, the fastest first; in FP32 OpenVINO and ONNX Runtime are nearly equal
(benchmarks/LOG.md)."""


def _places(request: Request, engine: EngineName) -> list[_Place]:
    """Return the places that are left by what was asked for, and that serve the model."""
    places = [
        replace(place, device=request.device or place.device)
        for place in _ALL_PLACES
        if place.serves(request, engine)
    ]
    if not places:
        wanted = f" in {request.precision}" if request.precision else ""
        raise EngineError(
            f"engine {engine} does not run on {request.device or 'this file'}{wanted}",
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


def _open_first(request: Request, places: Sequence[_Place]) -> Backend:
    """Open the first place that can be; where none can, raise what each is missing."""
    failed: dict[_Place, EngineError] = {}
    for place in places:
        backend = _tried(place, request)
        if isinstance(backend, RefusedModelError):
            raise backend  # what other engines lack is beside the point
        if isinstance(backend, EngineError):
            failed[place] = backend
            continue
        # The remedies are for those who ask for that engine.
        skipped = "".join(
            f"; not {other.name}: {error.what}"
            for other, error in failed.items()
            if _is_told(other, error)
        )
        request.notify(f"engine {place.engine}: {backend.description}{skipped}")
        return backend
    raise EngineError(
        f"no engine can run the model on {request.device or 'this machine'}",
        "; ".join(f"for {place.name}, {error}" for place, error in failed.items()),
    )


def _is_told(place: _Place, error: EngineError) -> bool:
    """Return whether it is the user's business why a place was passed over.

    What a machine never had is not: `engines` lists that.
    """
    return isinstance(error, DisagreementError) or (
        kind_of(place.device) == "cuda" and has_nvidia_driver()
    )


def _tried(place: _Place, request: Request) -> Backend | EngineError:
    try:
        return _opened(place, request)
    except EngineError as error:
        return error


def _opened(place: _Place, request: Request) -> Backend:
    """Open a place on each of its devices.

    Raises EngineError, of memory that is not to be had too.
    """
    try:
        return open_several(place.open, request, devices_of(place.device))
    except MemoryError as error:
        raise EngineError(
            f"no memory for batch {request.batch or 'of the engine'} x slots {request.slots} on "
            f"{place.name} ({first_line(error)})",
            "use a smaller --batch",
        ) from error
