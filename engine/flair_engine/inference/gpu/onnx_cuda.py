"""ONNX Runtime on CUDA over the engine's own buffers: no copy and no wait but its own.

Inputs and outputs are bound by pointer and computed on the slots' stream, so the copies of one
batch run beside the computation of another, as with TensorRT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flair_engine.errors import EngineError, InferenceError, first_line
from flair_engine.inference.base import failed_batch
from flair_engine.inference.gpu.cuda import Device, device_index
from flair_engine.inference.gpu.slots import CUDA_BATCH, CudaSlot, CudaSlots
from flair_engine.inference.onnx_runtime import (
    import_onnxruntime,
    onnxruntime_version,
    open_session,
)
from flair_engine.manifest import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flair_engine.agreement import LabelDifference
    from flair_engine.inference.base import Request
    from flair_engine.inference.gpu.cuda import Stream


class OrtCudaBackend:
    """A model in ONNX Runtime's CUDA provider, TF32 off. Raises EngineError."""

    engine = "ort"
    difference_fp32: LabelDifference | None = None
    measured_fp32: str | None = None

    def __init__(self, request: Request) -> None:
        self._device = Device(device_index(request.device or "cuda:0"))
        self._session: Any = None
        self._bindings: dict[CudaSlot, Any] = {}
        self.spec = request.spec
        self.precision = request.spec.precision
        self.batch = request.batch or CUDA_BATCH
        self.device = f"cuda:{self._device.index}"
        self.description = (
            f"ONNX Runtime {onnxruntime_version()} on {self._device.name} ({self.device})"
        )
        self._cuda: CudaSlots | None = None
        try:
            self._run_options = import_onnxruntime().RunOptions()
            # Without it each run would wait for the device before it returns.
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self._cuda = CudaSlots(
                self._device,
                request.spec,
                batch=self.batch,
                count=request.slots,
                launch=self._launch,
            )
            self._session = open_session(
                request.model,
                device=self.device,
                threads=request.threads,
                stream=self._cuda.streams["compute"].handle,
            )
            self._cuda.warm_up()
        except (EngineError, InferenceError):
            self.close()
            raise

    @property
    def slots(self) -> Sequence[CudaSlot]:
        """The slots; see Backend."""
        assert self._cuda is not None, "opened in the constructor"
        return self._cuda.slots

    @property
    def busy_s(self) -> Mapping[str, float]:
        """The device's seconds of copy-in, compute and copy-out."""
        assert self._cuda is not None, "opened in the constructor"
        return self._cuda.busy_s

    def close(self) -> None:
        """Wait for work in flight and free everything; see Backend."""
        self._bindings.clear()
        # The session computes on the slots' stream, so it goes first, but after all work is done.
        if self._cuda is not None:
            self._cuda.synchronize()
            self._session = None
            self._cuda.close()
        self._device.close()

    def _launch(self, slot: CudaSlot, _stream: Stream) -> None:
        if slot not in self._bindings:
            self._bindings[slot] = self._binding(slot)
        try:
            self._session.run_with_iobinding(self._bindings[slot], self._run_options)
        except Exception as error:  # the runtime's own classes have no other common base
            raise failed_batch("ONNX Runtime", self.spec, self.batch, first_line(error)) from error

    def _binding(self, slot: CudaSlot) -> Any:
        """Bind the slot's device buffers by address."""
        binding = self._session.io_binding()
        for name, array in slot.host.items():
            bind = binding.bind_input if name == INPUT_NAME else binding.bind_output
            bind(
                name,
                device_type="cuda",
                device_id=self._device.index,
                element_type=np.uint8,
                shape=array.shape,
                buffer_ptr=slot.buffers[name].address,
            )
        return binding
