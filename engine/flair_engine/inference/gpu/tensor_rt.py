"""TensorRT: a plan at work on a CUDA device.

Not named tensorrt.py, which would hide the library from scripts run in this folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flair_engine.errors import EngineError, InferenceError, PlanError
from flair_engine.inference.base import batch_shape, failed_batch
from flair_engine.inference.gpu.library import newer_driver, titled
from flair_engine.inference.gpu.plan import logged, made
from flair_engine.inference.gpu.slots import CudaSlot, CudaSlots, out_of_memory
from flair_engine.manifest import INPUT_NAME, expected_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flair_engine.agreement import LabelDifference
    from flair_engine.inference.base import DeviceUse
    from flair_engine.inference.gpu.cuda import Device, Stream
    from flair_engine.manifest import ModelSpec

BUILD_AGAIN = "build the plan again in another --plan-cache, or use --engine ort"


OF_DRIVER = ("OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "CUDA_ERROR")
"""Diagnostics of TensorRT for RTX that no other plan would mend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loadable:
    """A plan and what its library needs to load it."""

    trt: Any
    """The library that built it."""
    plan: bytes
    compiled: bytes = b""
    """What TensorRT for RTX compiled of it on this GPU before; it looks whether that serves."""


class TrtBackend:
    """A plan deserialised on `device`, with slots around one execution context.

    One context on one stream: batches compute in the order of submission, each from its own slot's
    buffers. `close` closes the device too where the backend owns it. Raises EngineError where
    TensorRT refuses the plan or memory runs out.
    """

    engine = "trt"

    def __init__(
        self,
        loadable: Loadable,
        spec: ModelSpec,
        device: Device,
        *,
        batch: int,
        slots: int,
        owns_device: bool = True,
    ) -> None:
        self._trt = trt = loadable.trt
        self._device, self._owns_device = device, owns_device
        self._runtime: Any = None
        self._plan_engine: Any = None
        self._context: Any = None
        self._runtime_cache: Any = None
        self._cuda: CudaSlots | None = None
        self.spec = spec
        self.precision = spec.precision
        self.difference_fp32: LabelDifference | None = None
        self.measured_fp32: str | None = None
        """Of the images the plan was judged on."""
        self.batch = batch
        self.device = f"cuda:{device.index}"
        # Another plan may flip near-ties, so a run is continued, and a map signed, with this one.
        self.plan_sha256 = hashlib.sha256(loadable.plan).hexdigest()
        name = self.plan_sha256[:8]
        runtime = f"{titled(trt)} on {device.name}"
        self.description = f"{runtime} ({self.device}), plan {name}"
        self.identity = f"{runtime}, plan {name}"
        try:
            with device.current():
                self._runtime = made(trt, "runtime", trt.Runtime)
                self._check_header(loadable.plan, slots)
                self._plan_engine = self._deserialized(loadable.plan)
                self._check_memory(slots)
                self._context = self._new_context(slots, loadable.compiled)
            self._cuda = CudaSlots(device, spec, batch=batch, count=slots, launch=self._launch)
            self._cuda.warm_up()
        except (EngineError, InferenceError):
            self._release()
            raise

    @property
    def slots(self) -> Sequence[CudaSlot]:
        """The slots; see Backend."""
        return self._open_slots.slots

    @property
    def busy_s(self) -> Mapping[str, float]:
        """The device's seconds of copy-in, compute and copy-out."""
        return self._open_slots.busy_s

    @property
    def devices(self) -> Sequence[DeviceUse]:
        """What the GPU has done so far."""
        return (self._open_slots.use(self.difference_fp32),)

    def forget_busy(self) -> None:
        """Count the busy seconds from here."""
        self._open_slots.forget_busy()

    @property
    def compiled(self) -> bytes:
        """What the runtime has compiled of the plan; empty where it compiles nothing."""
        if self._runtime_cache is None:
            return b""
        with self._device.current():
            content = self._runtime_cache.serialize()
        return b"" if content is None else bytes(content)

    def close(self) -> None:
        """Wait for work in flight and free everything; see Backend."""
        self._release()
        if self._owns_device:
            self._device.close()

    @property
    def _open_slots(self) -> CudaSlots:
        assert self._cuda is not None, "opened in the constructor"
        return self._cuda

    def _release(self) -> None:
        """Free slots, context, engine and runtime in this order; a second call does nothing."""
        if self._cuda is not None:
            self._cuda.close()
        if self._runtime is not None:
            with self._device.current():
                self._context = self._runtime_cache = self._plan_engine = self._runtime = None

    def _deserialized(self, plan: bytes) -> Any:
        plan_engine = self._runtime.deserialize_cuda_engine(plan)
        if plan_engine is None:
            raise self._refused(logged(self._trt))
        _check_tensors(self._trt, plan_engine, self.spec)
        return plan_engine

    def _check_header(self, plan: bytes, slots: int) -> None:
        """Raise what TensorRT for RTX says of release, card, driver and memory; others cannot."""
        if not hasattr(self._runtime, "get_engine_validity"):
            return
        known = self._trt.EngineInvalidityDiagnostics
        validity, bits = self._runtime.get_engine_validity(plan)
        if validity != self._trt.EngineValidity.INVALID or not bits:
            return  # without a reason it is better told by loading it
        why = ", ".join(
            name.lower().replace("_", " ")
            for name in dir(known)
            if name.isupper() and bits & int(getattr(known, name))
        )
        if bits & sum(int(getattr(known, name)) for name in OF_DRIVER):
            raise EngineError(
                f"{titled(self._trt)} cannot use the driver of {self._device.name} ({why})",
                f"{newer_driver(self._trt)}, or use --engine ort",
            )
        if bits == int(known.INSUFFICIENT_GPU_MEMORY):
            raise out_of_memory(f"{self.device}: {why}", batch=self.batch, slots=slots)
        raise self._refused(why)

    def _refused(self, why: str) -> PlanError:
        return PlanError(f"{titled(self._trt)} refuses it ({why})", BUILD_AGAIN)

    def _check_memory(self, slots: int) -> None:
        """Raise DeviceMemoryError where activations alone are more than the device has."""
        engine, there = self._plan_engine, self._device.memory_bytes
        newer = hasattr(engine, "device_memory_size_v2")
        wanted = int(engine.device_memory_size_v2 if newer else engine.device_memory_size)
        if wanted > there:
            raise out_of_memory(
                f"the plan takes {wanted / 2**30:.1f} GiB for what is between its layers, "
                f"{self.device} ({self._device.name}) has {there / 2**30:.1f} GiB",
                batch=self.batch,
                slots=slots,
            )

    def _new_context(self, slots: int, compiled: bytes) -> Any:
        """Return an execution context for the one shape of the plan."""
        context = self._context_with(compiled)
        if context is None:  # it holds the memory of all activations
            raise out_of_memory(logged(self._trt), batch=self.batch, slots=slots)
        if not context.set_input_shape(INPUT_NAME, batch_shape(self.spec, self.batch)):
            raise PlanError(
                f"it does not serve batches of {self.batch} ({logged(self._trt)})", BUILD_AGAIN
            )
        return context

    def _context_with(self, compiled: bytes) -> Any:
        """Return a new execution context, with a cache of compiled kernels where there is one."""
        if not hasattr(self._trt, "IRuntimeCache"):
            return self._plan_engine.create_execution_context()
        config = self._plan_engine.create_runtime_config()
        self._runtime_cache = config.create_runtime_cache()
        if compiled:
            self._runtime_cache.deserialize(compiled)  # False: of another driver, compiled again
        config.set_runtime_cache(self._runtime_cache)
        return self._plan_engine.create_execution_context(config)

    def _launch(self, slot: CudaSlot, stream: Stream) -> None:
        bound = all(
            self._context.set_tensor_address(name, buffer.address)
            for name, buffer in slot.buffers.items()
        )
        if not (bound and self._context.execute_async_v3(stream.handle)):
            name = f"{titled(self._trt)} on {self.device} ({self._device.name})"
            raise failed_batch(name, self.spec, self.batch, logged(self._trt))


def _check_tensors(trt: Any, plan_engine: Any, spec: ModelSpec) -> None:
    """Raise PlanError unless the plan has exactly the model's uint8 tensors."""
    names = [plan_engine.get_tensor_name(index) for index in range(plan_engine.num_io_tensors)]
    types = {plan_engine.get_tensor_dtype(name) for name in names}
    expected = expected_tensors(spec)
    if set(names) != set(expected) or types != {trt.DataType.UINT8}:
        raise PlanError(
            f"its tensors are {', '.join(sorted(names))}, the model's are {', '.join(expected)}, "
            "all uint8",
            BUILD_AGAIN,
        )
