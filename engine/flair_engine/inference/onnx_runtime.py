"""ONNX Runtime, on the CPU or a CUDA device."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import EngineError, RefusedModelError, first_line
from flair_engine.inference.base import (
    CPU_BATCH,
    CPU_INFERENCES,
    batch_shape,
    failed_batch,
    threads_text,
)
from flair_engine.inference.clock import Clock
from flair_engine.manifest import INPUT_NAME
from flair_engine.system import available_cpus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnxruntime as ort

    from flair_engine.agreement import LabelDifference
    from flair_engine.inference.base import Request

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
CUDA_PROVIDER = "CUDAExecutionProvider"
PAGEABLE_CUDA_BATCH = 8
"""Tiles per batch on CUDA, unless told otherwise, where ONNX Runtime copies from pageable memory
by itself; over page-locked memory, gpu/onnx_cuda.py has another."""


class OrtSlot:
    """One batch of host memory; inference runs in the backend's worker thread."""

    def __init__(self, backend: OrtBackend) -> None:
        self.images_nchw = np.zeros(batch_shape(backend.spec, backend.batch), np.uint8)
        self._backend = backend
        self._future: Future[Mapping[str, np.ndarray]] | None = None

    def submit(self) -> None:
        """Queue inference behind the slots submitted before."""
        self._future = self._backend.enqueue(self.images_nchw)

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return the outputs of the last `submit`; see Slot."""
        assert self._future is not None, "wait before submit"
        return self._future.result()


class OrtBackend:
    """A model in ONNX Runtime, whose batches are begun in the order of submission.

    Raises EngineError where the runtime or device is missing or refuses the model.
    """

    engine = "ort"
    difference_fp32: LabelDifference | None = None
    measured_fp32: str | None = None

    def __init__(self, request: Request) -> None:
        device = request.device or "cpu"
        on_cpu = device == "cpu"
        threads = request.threads or available_cpus()
        at_once = min(CPU_INFERENCES, threads) if on_cpu else 1
        # Inferences share the session's pool, and each brings the thread it was called from.
        self._session = open_session(request.model, device=device, threads=threads - at_once + 1)
        self._clock = Clock()
        self._workers = ThreadPoolExecutor(at_once, thread_name_prefix="infer")
        self.device = "cuda:0" if device == "cuda" else device
        self.spec = request.spec
        self.precision = request.spec.precision
        self.batch = request.batch or (CPU_BATCH if on_cpu else PAGEABLE_CUDA_BATCH)
        place = threads_text(threads) if on_cpu else self.device
        self.description = f"ONNX Runtime {onnxruntime_version()} on {place}"
        self.slots: Sequence[OrtSlot] = [OrtSlot(self) for _ in range(request.slots)]

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds with at least one batch inside the runtime."""
        return {"infer": self._clock.busy_s}

    def enqueue(self, images_nchw: np.ndarray) -> Future[Mapping[str, np.ndarray]]:
        """Infer uint8 [N, bands, T, T], once the batches before are begun and a worker is free."""
        return self._workers.submit(self._infer, images_nchw)

    def close(self) -> None:
        """Wait for work in flight; see Backend."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _infer(self, images_nchw: np.ndarray) -> Mapping[str, np.ndarray]:
        self._clock.start()
        try:
            outputs = self._session.run(list(self.spec.outputs), {INPUT_NAME: images_nchw})
        except Exception as error:  # the runtime's own classes have no other common base
            raise failed_batch("ONNX Runtime", self.spec, self.batch, first_line(error)) from error
        finally:
            self._clock.stop()
        return dict(zip(self.spec.outputs, outputs, strict=True))


def import_onnxruntime() -> Any:
    """Import onnxruntime. Raises EngineError where it is absent or installed twice over."""
    if all(_version(name) for name in DISTRIBUTIONS):
        raise EngineError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
            "run pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"ONNX Runtime is not usable ({error})",
            "run pip install 'flair-engine[cpu]', or 'flair-engine[cuda]' for an NVIDIA GPU",
        ) from error
    return onnxruntime


def open_session(
    model: Path | bytes,
    *,
    device: str = "cpu",
    threads: int | None = None,
    stream: int | None = None,
    arena: bool = True,
) -> ort.InferenceSession:
    """Open an ONNX file, or the bytes of one, on `cpu`, `cuda` or `cuda:N`.

    `threads` bounds the CPU threads of one inference; None takes every CPU of the process.
    `stream` is the handle of the CUDA stream to compute on; None lets the runtime make one.
    `arena` keeps the CPU memory of one inference for the next; without, it is given back.
    Raises EngineError where the device is not there or the runtime refuses the model.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3  # errors only: they come back as exceptions too
    # Spinning threads take the CPU from those that decode and compress.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(runtime, device, stream)
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = runtime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # the runtime's own classes have no other common base
        name = "the model" if isinstance(model, bytes) else model
        kind = RefusedModelError if device == "cpu" else EngineError
        raise kind(
            f"{name}: ONNX Runtime {runtime.__version__} refuses it ({first_line(error)})",
            "export it again, or install a newer onnxruntime",
        ) from error
    # ONNX Runtime falls back to the CPU without an error where CUDA does not start.
    if device != "cpu" and session.get_providers()[0] != CUDA_PROVIDER:
        raise EngineError(
            f"ONNX Runtime could not start CUDA on {device} (driver, CUDA or cuDNN missing or too "
            "old)",
            "check nvidia-smi, or use --device cpu",
        )
    return session


def onnxruntime_version() -> str:
    """Return the version of the installed onnxruntime distribution."""
    return next((v for v in map(_version, DISTRIBUTIONS) if v), "unknown")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _providers(runtime: Any, device: str, stream: int | None) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    check_cuda(runtime)
    index = device.partition(":")[2] or "0"
    # TF32 keeps 10 bits of mantissa: FP32 must mean FP32 for a run to serve as a reference.
    options = {"device_id": index, "use_tf32": "0"}
    if stream is not None:
        options["user_compute_stream"] = str(stream)
    return [(CUDA_PROVIDER, options), "CPUExecutionProvider"]


def check_cuda(runtime: Any) -> None:
    """Raise EngineError where an onnxruntime has no CUDA; whether a GPU is there no call says."""
    if CUDA_PROVIDER not in runtime.get_available_providers():
        raise EngineError(
            "this onnxruntime has no CUDA",
            "run pip uninstall -y onnxruntime && pip install 'flair-engine[cuda]', or use "
            "--device cpu",
        )
