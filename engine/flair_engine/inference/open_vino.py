"""OpenVINO on the CPU, in FP32 or bf16, with one asynchronous infer request per slot.

Of an INT8 file that is what the rest computes in. bf16 is compared with FP32 in its place once for
a model and a CPU (`kept_agreement.py`), on the first tiles of a run, or before it where it was not
asked for (`judged_bf16.py`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import EngineError, FlairError, RefusedModelError
from flair_engine.inference import kept_agreement
from flair_engine.inference.base import (
    CPU_BATCH,
    CPU_INFERENCES,
    batch_shape,
    failed_batch,
    threads_text,
)
from flair_engine.inference.clock import Clock
from flair_engine.inference.fp32_check import Fp32Check
from flair_engine.inference.kept_agreement import AgreementKey
from flair_engine.inference.open_vino_bf16 import (
    check_head_fp32,
    keep_head_fp32,
    round_weights,
)
from flair_engine.manifest import INPUT_NAME, ModelSpec
from flair_engine.model_file import model_sha256
from flair_engine.system import available_cpus, cpu_name
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flair_engine.agreement import LabelDifference
    from flair_engine.inference.base import Request
    from flair_engine.inference.kept_agreement import MeasuredAgreement
    from flair_engine.options import Precision

DEVICE = "CPU"
HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoSlot:
    """One batch of host memory that an infer request reads and writes in place."""

    def __init__(self, backend: OpenVinoBackend) -> None:
        self.images_nchw = np.zeros(batch_shape(backend.spec, backend.batch), np.uint8)
        self._backend = backend
        self._infer_request: Any = None

    def load(self, infer_request: Any) -> None:
        """Take the infer request that computes this slot's batches."""
        shared = import_openvino().Tensor(self.images_nchw, shared_memory=True)
        infer_request.set_input_tensor(shared)
        infer_request.set_callback(lambda _: self._backend.clock.stop(), None)
        self._infer_request = infer_request

    def submit(self) -> None:
        """Start inference, or queue it where CPU_INFERENCES are running.

        Raises EngineError where the model turns out to be refused.
        """
        self._backend.ready()
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

    def drain(self) -> None:
        """Wait for work in flight, if any."""
        if self._infer_request is not None:
            self._infer_request.wait()


class OpenVinoBackend:
    """A model in OpenVINO, computed in FP32 unless the request says bf16.

    It is compiled in a thread of its own: where the request does not wait, what the model is
    refused for is raised by the first `submit`. Raises EngineError where the runtime is missing,
    refuses the model, or the CPU lacks bf16.
    """

    engine = "openvino"
    device = "cpu"

    def __init__(self, request: Request) -> None:
        self._core = import_openvino().Core()
        self._request = request
        self._precision: Precision = request.precision or "fp32"
        if self._precision == "bf16":
            check_bf16(self._core)
        self._threads = request.threads or available_cpus()
        self.spec = request.spec
        self.precision = named_precision(request.spec, self._precision)
        self.batch = request.batch or CPU_BATCH
        place = threads_text(self._threads)
        self.description = f"OpenVINO {openvino_version()} in {self.precision} on {place}"
        self.clock = Clock()
        self.known: MeasuredAgreement | None = None
        """What an earlier run has measured."""
        self.comparison: Fp32Check | None = None
        self.slots: Sequence[OpenVinoSlot] = [OpenVinoSlot(self) for _ in range(request.slots)]
        loader = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._loaded = loader.submit(self._load)
        loader.shutdown(wait=False)
        if self._precision == "bf16":
            self._look_up()
        if request.wait:
            self.ready()

    @property
    def busy_s(self) -> Mapping[str, float]:
        """Seconds with a batch in flight, and those of FP32 labels where some are compared."""
        busy = {"infer": self.clock.busy_s}
        if self.comparison is not None:
            busy["compare"] = self.comparison.busy_s
        return busy

    @property
    def agreement(self) -> MeasuredAgreement | None:
        """How labels differ from FP32's; None where nothing was compared."""
        return self.known or (self.comparison.agreement if self.comparison else None)

    @property
    def difference_fp32(self) -> LabelDifference | None:
        """Labels that differ from FP32's; None where nothing was compared."""
        return self.agreement.difference if self.agreement else None

    @property
    def measured_fp32(self) -> str | None:
        """When they were compared, ISO 8601."""
        return self.agreement.measured if self.agreement else None

    def ready(self) -> None:
        """Wait until the model is compiled. Raises EngineError where it is refused."""
        self._loaded.result()

    def forget_busy(self) -> None:
        """Count the busy seconds from here."""
        self.clock = Clock()
        if self.comparison is not None:
            self.comparison.busy_s = 0.0

    def close(self) -> None:
        """Wait for work in flight; see Backend."""
        with suppress(FlairError):
            self.ready()
        for slot in self.slots:
            slot.drain()

    def _load(self) -> None:
        """Compile the model and give each slot an infer request."""
        streams = min(CPU_INFERENCES, self._threads)
        compiled = self._compiled(self._precision, streams)
        if self._precision == "bf16":
            check_head_fp32(compiled, openvino_version())
        for slot in self.slots:
            slot.load(compiled.create_infer_request())

    def _look_up(self) -> None:
        """Look for the agreement with FP32; where there is none, compare the first labels."""
        folder, notify = self._request.plan_cache, self._request.notify
        key = agreement_key(self._request, self._core)

        def keep(found: MeasuredAgreement) -> None:
            try:
                kept_agreement.keep(folder, key, found)
            except EngineError as error:
                notify(f"the agreement with FP32 is measured in every run: {error}")

        self.known = kept_agreement.find(folder, key)
        if self.known is None:
            # Asked for one batch at a time: all threads for it.
            self.comparison = Fp32Check(lambda: self._compiled("fp32", streams=1), keep)

    def _compiled(self, precision: Precision, streams: int) -> Any:
        shape = batch_shape(self.spec, self.batch)
        model = self._request.model
        return _compiled(self._core, model, shape, precision, self._threads, streams)


def agreement_key(request: Request, core: Any) -> AgreementKey:
    """Return what the agreement of bf16 with FP32 depends on. Raises OSError without the model."""
    return AgreementKey(
        onnx_sha256=model_sha256(request.model),
        version=__version__,
        runtime=f"OpenVINO {openvino_version()}",
        cpu=cpu_name(),
        capabilities=" ".join(sorted(capabilities_of(core))),
        precision=named_precision(request.spec, "bf16"),
        batch=request.batch or CPU_BATCH,
        threads=request.threads or available_cpus(),
    )


def named_precision(spec: ModelSpec, precision: Precision) -> str:
    """Return what a model is computed in: FP32 beside INT8 goes without saying."""
    if spec.precision != "int8":
        return precision
    return "int8" if precision == "fp32" else f"int8 {precision}"


def import_openvino() -> Any:
    """Import openvino. Raises EngineError where it is absent."""
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            f"OpenVINO is not usable ({error})", "run pip install 'flair-engine[openvino]'"
        ) from error
    return openvino


def capabilities_of(core: Any) -> list[str]:
    """Return what OpenVINO says that the CPU computes in, e.g. FP32, BF16, INT8."""
    return list(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))


def openvino_version() -> str:
    """Return the version of the installed openvino, e.g. 2026.4.1."""
    version: str = import_openvino().__version__
    return version.partition("-")[0]


def check_bf16(core: Any) -> None:
    """Raise EngineError where the CPU has no bf16: avx512_bf16 or AMX."""
    capabilities = capabilities_of(core)
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
