"""OpenVINO on the CPU, in FP32 or bf16, with one asynchronous infer request per slot.

Of an INT8 file that is what the rest computes in; bf16 is compared with FP32 in its place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.agreement import LabelDifference, difference_of
from flair_engine.errors import EngineError, RefusedModelError
from flair_engine.inference.base import (
    CPU_BATCH,
    CPU_INFERENCES,
    batch_shape,
    failed_batch,
    threads_text,
)
from flair_engine.inference.clock import Clock
from flair_engine.inference.open_vino_bf16 import (
    check_head_fp32,
    keep_head_fp32,
    round_weights,
)
from flair_engine.manifest import INPUT_NAME, ModelSpec
from flair_engine.system import available_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from flair_engine.inference.base import Request
    from flair_engine.options import Precision

DEVICE = "CPU"
HINTS = {"fp32": "f32", "bf16": "bf16"}
COMPARED_PIXELS = 2**18
"""Labels at the start of a bf16 run that are computed in FP32 too, whole tiles: four at 512/128,
one of a larger tile. A count of tiles would cost a run of 2048 px tiles more than it saves."""


class OpenVinoSlot:
    """One batch of host memory that an infer request reads and writes in place."""

    def __init__(self, backend: OpenVinoBackend, infer_request: Any) -> None:
        self.images_nchw = np.zeros(batch_shape(backend.spec, backend.batch), np.uint8)
        self._backend = backend
        self._infer_request = infer_request
        shared = import_openvino().Tensor(self.images_nchw, shared_memory=True)
        infer_request.set_input_tensor(shared)
        infer_request.set_callback(lambda _: backend.clock.stop(), None)

    def submit(self) -> None:
        """Start inference, or queue it where CPU_INFERENCES are running."""
        self._backend.clock.start()
        self._infer_request.start_async()

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return the outputs of the last `submit`; see Slot."""
        spec, comparison = self._backend.spec, self._backend.comparison
        try:
            self._infer_request.wait()
        except Exception as error:  # the runtime raises nothing but RuntimeError, for everything
            raise failed_batch("OpenVINO", spec, len(self.images_nchw), _one_line(error)) from error
        outputs = {name: self._infer_request.get_tensor(name).data for name in spec.outputs}
        if comparison is not None:
            comparison.add(self.images_nchw, outputs["labels"])
        return outputs


class OpenVinoBackend:
    """A model in OpenVINO, computed in FP32 unless the request says bf16.

    Raises EngineError where the runtime is missing, refuses the model, or the CPU lacks bf16.
    """

    engine = "openvino"
    device = "cpu"

    def __init__(self, request: Request) -> None:
        runtime = import_openvino()
        core = runtime.Core()
        precision = request.precision or "fp32"
        if precision == "bf16":
            _check_bf16(core)
        threads = request.threads or available_cpus()
        self.spec = request.spec
        self.precision = named_precision(request.spec, precision)
        self.batch = request.batch or CPU_BATCH
        shape = batch_shape(request.spec, self.batch)
        streams = min(CPU_INFERENCES, threads)
        version = runtime.__version__.partition("-")[0]
        compiled = _compiled(core, request.model, shape, precision, threads, streams)
        self.clock = Clock()
        self.comparison: Fp32Check | None = None
        if precision == "bf16":
            check_head_fp32(compiled, version)
            # Asked for one batch at a time: all threads for it.
            reference = _compiled(core, request.model, shape, "fp32", threads, streams=1)
            self.comparison = Fp32Check(reference)
        self.description = f"OpenVINO {version} in {self.precision} on {threads_text(threads)}"
        self._infer_requests = [compiled.create_infer_request() for _ in range(request.slots)]
        self.slots: Sequence[OpenVinoSlot] = [
            OpenVinoSlot(self, infer_request) for infer_request in self._infer_requests
        ]

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds with a batch in flight, and for bf16 those of the FP32 labels."""
        busy = {"infer": self.clock.busy_s}
        if self.comparison is not None:
            busy["compare"] = self.comparison.busy_s
        return busy

    @property
    def difference_fp32(self) -> LabelDifference | None:
        """Labels that differ from FP32's; None where nothing was compared."""
        if self.comparison is None or not self.comparison.found.pixels:
            return None
        return self.comparison.found

    def close(self) -> None:
        """Wait for work in flight; see Backend."""
        for infer_request in self._infer_requests:
            infer_request.wait()
        self._infer_requests = []


def named_precision(spec: ModelSpec, precision: Precision) -> str:
    """Return what a model is computed in: FP32 beside INT8 goes without saying."""
    if spec.precision != "int8":
        return precision
    return "int8" if precision == "fp32" else f"int8 {precision}"


class Fp32Check:
    """The first labels of a run, in whole batches, against those of the same model in FP32.

    `reference` is that model: called with {image: uint8 [N, bands, T, T]} it returns the outputs
    by name. It is let go after COMPARED_PIXELS labels, which frees its memory.
    """

    def __init__(
        self, reference: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
    ) -> None:
        self.busy_s = 0.0
        self._reference: Callable[..., Mapping[str, np.ndarray]] | None = reference
        self.found = LabelDifference()
        """Of no pixels before the first tile."""

    def add(self, images_nchw: np.ndarray, labels: np.ndarray) -> None:
        """Compare one batch, labels uint8 [N, C, C]; does nothing once there were enough."""
        if self._reference is None:
            return
        start = time.perf_counter()
        expected = self._reference({INPUT_NAME: images_nchw})["labels"]
        is_tile = images_nchw.any(axis=(1, 2, 3))  # the last batch is filled up with zeros
        self.found += difference_of(expected[is_tile], labels[is_tile])
        if self.found.pixels >= COMPARED_PIXELS:
            self._reference = None
        self.busy_s += time.perf_counter() - start


def import_openvino() -> Any:
    """Import openvino. Raises EngineError where it is absent."""
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            f"OpenVINO is not usable ({error})", "run pip install 'flair-engine[openvino]'"
        ) from error
    return openvino


def _check_bf16(core: Any) -> None:
    capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        raise EngineError(
            f"{core.get_property(DEVICE, 'FULL_DEVICE_NAME')} "
            f"computes {', '.join(capabilities)} only, and imitating bf16 takes several times as "
            "long as FP32",
            "use --precision fp32",
        )


def _compiled(
    core: Any,
    model: Path,
    shape: tuple[int, ...],
    precision: Precision,
    threads: int,
    streams: int,
) -> Any:
    """Compile `model` for batches of `shape`. Raises EngineError where OpenVINO refuses it."""
    options = {
        # Without the hint OpenVINO takes bf16 by itself where the CPU has it.
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        # Decoding threads share the CPUs: a pinned thread would wait for its own to be free.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        network = core.read_model(str(model))
        network.reshape({INPUT_NAME: list(shape)})
        if precision == "bf16":
            keep_head_fp32(network)
            round_weights(network)
        return core.compile_model(network, DEVICE, options)
    except Exception as error:  # the runtime raises nothing but RuntimeError, for everything
        raise RefusedModelError(
            f"{model}: OpenVINO refuses it ({_one_line(error)})",
            "export it again, or install a newer openvino",
        ) from error


def _one_line(error: Exception) -> str:
    """Return what went wrong without the lines that say where in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if ".cpp:" not in line]
    return " ".join(line for line in lines if line) or type(error).__name__
