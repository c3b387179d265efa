"""ONNX Runtime, on the CPU or a CUDA device."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import EngineError, InferenceError
from flair_engine.inference.base import available_cpus
from flair_engine.inference.clock import Clock
from flair_engine.manifest import INPUT_NAME, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnxruntime as ort

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
CUDA_PROVIDER = "CUDAExecutionProvider"
DEFAULT_BATCH = {"cpu": 1, "cuda": 8}
CPU_RUNS = 2
"""Batches inferred at once on the CPU: threads that seldom wait for each other do more. Not tied
to the slots, because the threads of one inference may decide near-ties."""


class OrtSlot:
    """One batch of host memory; inference runs in the backend's worker thread."""

    def __init__(self, backend: OrtBackend) -> None:
        spec = backend.spec
        shape = (backend.batch, len(spec.bands), spec.tile_px, spec.tile_px)
        self.images_nchw = np.zeros(shape, np.uint8)
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
    """A model in ONNX Runtime with `slots` batches that are begun in the order of submission.

    Raises EngineError where the runtime or device is missing or refuses the model.
    """

    engine = "ort"
    agreement_fp32 = None

    def __init__(
        self,
        model: Path,
        spec: ModelSpec,
        *,
        device: str = "cpu",
        batch: int | None = None,
        slots: int = 2,
        threads: int | None = None,
    ) -> None:
        threads = threads or available_cpus()
        runs = min(CPU_RUNS, threads) if device == "cpu" else 1
        # The runs share the session's pool, and each brings the thread it was called from.
        self._session = open_session(model, device=device, threads=threads - runs + 1)
        self._clock = Clock()
        self._workers = ThreadPoolExecutor(runs, thread_name_prefix="infer")
        self.device = "cuda:0" if device == "cuda" else device
        self.spec = spec
        self.precision = spec.precision
        self.batch = batch or DEFAULT_BATCH[device.partition(":")[0]]
        place = f"{threads} CPU thread{'s'[: threads != 1]}" if device == "cpu" else self.device
        self.description = f"ONNX Runtime {metadata_version()} on {place}"
        self.slots: Sequence[OrtSlot] = [OrtSlot(self) for _ in range(slots)]

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds with at least one batch inside the runtime."""
        return {"infer": self._clock.busy_s}

    def enqueue(self, images_nchw: np.ndarray) -> Future[Mapping[str, np.ndarray]]:
        """Run uint8 [N, bands, T, T], or queue it where CPU_RUNS are running."""
        return self._workers.submit(self._run, images_nchw)

    def close(self) -> None:
        """Wait for work in flight; see Backend."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _run(self, images_nchw: np.ndarray) -> Mapping[str, np.ndarray]:
        self._clock.start()
        try:
            outputs = self._session.run(list(self.spec.outputs), {INPUT_NAME: images_nchw})
        except Exception as error:  # the runtime's own classes have no other common base
            raise InferenceError(
                f"ONNX Runtime failed on a batch of {self.batch} tiles of {self.spec.tile_px} px: "
                f"{first_line(error)}. If memory ran out, use a smaller --batch"
            ) from error
        finally:
            self._clock.stop()
        return dict(zip(self.spec.outputs, outputs, strict=True))


def import_onnxruntime() -> Any:
    """Import onnxruntime. Raises EngineError where it is absent or installed twice over."""
    if all(_version(name) for name in DISTRIBUTIONS):
        raise EngineError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. "
            "Run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"ONNX Runtime is not usable ({error}). "
            "Run: pip install 'flair-engine[cpu]', or 'flair-engine[cuda]' for an NVIDIA GPU"
        ) from error
    return onnxruntime


def open_session(
    model: Path | bytes,
    *,
    device: str = "cpu",
    threads: int | None = None,
    stream: int | None = None,
) -> ort.InferenceSession:
    """Open an ONNX file, or the bytes of one, on `cpu`, `cuda` or `cuda:N`.

    `threads` bounds the CPU threads of one inference; None takes every CPU of the process.
    `stream` is the handle of the CUDA stream to compute on; None lets the runtime make one.
    Raises EngineError where the device is not there or the runtime refuses the model.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: they come back as exceptions too
    # Spinning threads take the CPU from those that decode and compress.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(runtime, device, stream)
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = runtime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # the runtime's own classes have no other common base
        name = "the model" if isinstance(model, bytes) else model
        raise EngineError(
            f"{name}: ONNX Runtime {runtime.__version__} refuses it ({first_line(error)}). "
            "Export it again, or install a newer onnxruntime"
        ) from error
    # ONNX Runtime falls back to the CPU without an error where CUDA does not start.
    if device != "cpu" and session.get_providers()[0] != CUDA_PROVIDER:
        raise EngineError(
            f"device {device} was asked for but ONNX Runtime could not start CUDA there (driver, "
            "CUDA or cuDNN missing or too old). Check nvidia-smi, or use --device cpu"
        )
    return session


def metadata_version() -> str:
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
    if CUDA_PROVIDER not in runtime.get_available_providers():
        raise EngineError(
            f"device {device} was asked for but this onnxruntime has no CUDA. Run: "
            "pip uninstall -y onnxruntime && pip install 'flair-engine[cuda]', or use --device cpu"
        )
    index = device.partition(":")[2] or "0"
    # TF32 keeps 10 bits of mantissa: FP32 must mean FP32 for a run to serve as a reference.
    options = {"device_id": index, "use_tf32": "0"}
    if stream is not None:
        options["user_compute_stream"] = str(stream)
    return [(CUDA_PROVIDER, options), "CPUExecutionProvider"]


def first_line(error: Exception) -> str:
    """Return the first line of what the runtime says, which can be a page."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
