"""ONNX Runtime, on the CPU or a CUDA device."""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

from flair_engine.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime as ort

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


def import_onnxruntime() -> Any:
    """Import onnxruntime. Raises EngineError where it is absent or installed twice over."""
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
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


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def available_cpus() -> int:
    """Return the number of CPUs this process may use, which a container can make few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(
    model: Path | bytes, *, device: str = "cpu", threads: int | None = None
) -> ort.InferenceSession:
    """Open an ONNX file, or the bytes of one, on `cpu`, `cuda` or `cuda:N`.

    `threads` bounds the CPU threads of one inference; None takes every CPU of the process.
    Raises EngineError where the device is not there or the runtime refuses the model.
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Denormals cost x86 CPUs a hundred times a normal number and never decide a label.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    providers = _providers(runtime, device)
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = runtime.InferenceSession(source, options, providers=providers)
    except Exception as error:  # the runtime's own classes have no other common base
        name = "the model" if isinstance(model, bytes) else model
        raise EngineError(f"{name}: ONNX Runtime refuses it: {_first_line(error)}") from error
    if device != "cpu" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise EngineError(
            f"device {device} was asked for but ONNX Runtime could not start CUDA there "
            "(driver, CUDA or cuDNN missing or too old). Check nvidia-smi, or use --device cpu"
        )
    return session


def _providers(runtime: Any, device: str) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        raise EngineError(
            f"device {device} was asked for but this onnxruntime has no CUDA. Run: "
            "pip uninstall -y onnxruntime && pip install 'flair-engine[cuda]', or use --device cpu"
        )
    index = device.partition(":")[2] or "0"
    # TF32 keeps 10 bits of mantissa: FP32 must mean FP32 for a run to serve as a reference.
    return [
        ("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"}),
        "CPUExecutionProvider",
    ]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
