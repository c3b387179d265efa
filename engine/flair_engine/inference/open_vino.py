"""OpenVINO on the CPU, in FP32 or bf16, with one asynchronous request per slot.

Of an INT8 file that is what the rest computes in; bf16 is compared with FP32 in its place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import EngineError, InferenceError
from flair_engine.inference.base import available_cpus
from flair_engine.inference.clock import Clock
from flair_engine.manifest import INPUT_NAME, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flair_engine.options import Precision

DEVICE = "CPU"
HINTS = {"fp32": "f32", "bf16": "bf16"}
STREAMS = 2
"""Requests computed at once. Not tied to the slots: a stream's threads may decide near-ties, and
labels are not to depend on the number of slots."""
COMPARED_PX = 2**18
"""Labels at the start of a bf16 run that are computed in FP32 too, whole tiles: four at 512/128,
one of a larger tile. A count of tiles would cost a run of 2048 px tiles more than it saves."""


class OpenVinoSlot:
    """One batch of host memory that a request reads and writes in place."""

    def __init__(self, backend: OpenVinoBackend, request: Any, images_nchw: np.ndarray) -> None:
        self.images_nchw = images_nchw
        self._backend = backend
        self._request = request
        request.set_callback(lambda _: backend.clock.stop(), None)

    def submit(self) -> None:
        """Start inference, or queue it where every stream is busy."""
        self._backend.clock.start()
        self._request.start_async()

    def wait(self) -> Mapping[str, np.ndarray]:
        """Return the outputs of the last `submit`; see Slot."""
        spec = self._backend.spec
        try:
            self._request.wait()
        except Exception as error:  # the runtime raises nothing but RuntimeError, for everything
            raise InferenceError(
                f"OpenVINO failed on a batch of {len(self.images_nchw)} tiles of "
                f"{spec.tile_px} px: {_one_line(error)}. If memory ran out, use a smaller --batch"
            ) from error
        outputs = {name: self._request.get_tensor(name).data for name in spec.outputs}
        if self._backend.comparison:
            self._backend.comparison.add(self.images_nchw, outputs["labels"])
        return outputs


class OpenVinoBackend:
    """A model in OpenVINO with `slots` requests in flight.

    Raises EngineError where the runtime is missing, refuses the model, or the CPU lacks bf16.
    """

    engine = "openvino"
    device = "cpu"

    def __init__(
        self,
        model: Path,
        spec: ModelSpec,
        *,
        precision: Precision = "fp32",
        batch: int | None = None,
        slots: int = 2,
        threads: int | None = None,
    ) -> None:
        runtime = import_openvino()
        threads = threads or available_cpus()
        core = runtime.Core()
        if precision == "bf16":
            _check_bf16(core)
        self.spec = spec
        self.precision = named_precision(spec, precision)
        self.batch = batch or 1
        shape = (self.batch, len(spec.bands), spec.tile_px, spec.tile_px)
        streams = min(STREAMS, threads)
        compiled = _compiled(core, model, shape, precision, threads, streams)
        self.clock = Clock()
        self.comparison: Fp32Check | None = None
        if precision == "bf16":
            # Asked for one batch at a time: all threads for it.
            reference = _compiled(core, model, shape, "fp32", threads, streams=1)
            self.comparison = Fp32Check(reference)
        version = runtime.__version__.partition("-")[0]
        place = f"{threads} CPU thread{'s'[: threads != 1]}"
        self.description = f"OpenVINO {version} in {self.precision} on {place}"
        self._requests = [compiled.create_infer_request() for _ in range(slots)]
        self.slots: Sequence[OpenVinoSlot] = []
        for request in self._requests:
            images_nchw = np.zeros(shape, np.uint8)
            request.set_input_tensor(runtime.Tensor(images_nchw, shared_memory=True))
            self.slots = [*self.slots, OpenVinoSlot(self, request, images_nchw)]

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds with a request in flight, and for bf16 those of the FP32 labels."""
        busy = {"infer": self.clock.busy_s}
        return busy | {"compare": self.comparison.busy_s} if self.comparison else busy

    @property
    def agreement_fp32(self) -> float | None:
        """Share of labels equal to those of FP32; None where nothing was compared."""
        return self.comparison.share if self.comparison else None

    def close(self) -> None:
        """Wait for work in flight; see Backend."""
        for request in self._requests:
            request.wait()
        self._requests = []


def named_precision(spec: ModelSpec, precision: Precision) -> str:
    """Return what a model is computed in: FP32 beside INT8 goes without saying."""
    if spec.precision != "int8":
        return precision
    return "int8" if precision == "fp32" else f"int8 {precision}"


class Fp32Check:
    """The first COMPARED_PX labels, in whole batches, against those of the same model in FP32."""

    def __init__(self, reference: Any) -> None:
        self.busy_s = 0.0
        self._reference = reference
        self._pixels = 0
        self._equal = 0

    @property
    def share(self) -> float | None:
        """Share of equal labels, 0..1; None before the first tile."""
        return self._equal / self._pixels if self._pixels else None

    def add(self, images_nchw: np.ndarray, labels: np.ndarray) -> None:
        """Compare one batch, labels uint8 [N, C, C]; does nothing once there were enough."""
        if self._reference is None:
            return
        start = time.perf_counter()
        real = images_nchw.any(axis=(1, 2, 3))  # the last batch is filled up with zeros
        expected = self._reference({INPUT_NAME: images_nchw})["labels"]
        self._equal += int((labels == expected)[real].sum())
        self._pixels += labels[real].size
        if self._pixels >= COMPARED_PX:
            self._reference = None  # frees the second model
        self.busy_s += time.perf_counter() - start


def import_openvino() -> Any:
    """Import openvino. Raises EngineError where it is absent."""
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            f"OpenVINO is not usable ({error}). Run: pip install 'flair-engine[openvino]'"
        ) from error
    return openvino


def _check_bf16(core: Any) -> None:
    capabilities = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        raise EngineError(
            f"precision bf16 was asked for but {core.get_property(DEVICE, 'FULL_DEVICE_NAME')} "
            f"computes {', '.join(capabilities)} only, and imitating bf16 takes several times as "
            "long as FP32: use --precision fp32"
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
        return core.compile_model(network, DEVICE, options)
    except Exception as error:  # the runtime raises nothing but RuntimeError, for everything
        raise EngineError(
            f"{model}: OpenVINO refuses it ({_one_line(error)}). "
            "Export it again, or install a newer openvino"
        ) from error


def _one_line(error: Exception) -> str:
    """Return what went wrong without the lines that say where in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if ".cpp:" not in line]
    return " ".join(line for line in lines if line) or type(error).__name__
