"""ONNX Runtime over the engine's buffers, on a stand-in for its CUDA provider."""

import numpy as np
import onnx
import onnxruntime
import pytest
from doubles import fake_cuda

from flair_engine.errors import EngineError, InferenceError
from flair_engine.inference import onnx_runtime
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.inference.gpu import onnx_cuda
from flair_engine.manifest import INPUT_NAME, read_model_spec


class CudaRuntime:
    """An onnxruntime with CUDA that queues its work on the stream it is given."""

    __version__ = "0"
    CUDA = "CUDAExecutionProvider"

    def __init__(self, machine):
        self.machine, self.providers, self.refuse = machine, None, False
        self.SessionOptions = onnxruntime.SessionOptions
        self.RunOptions = onnxruntime.RunOptions

    def get_available_providers(self):
        return [self.CUDA, "CPUExecutionProvider"]

    def InferenceSession(self, source, _options, providers):  # noqa: N802
        self.providers = providers
        return Session(self, onnx.load(source).SerializeToString(), providers)


class Session:
    def __init__(self, runtime, model, providers):
        self.runtime, self.model, self.options = runtime, model, providers[0][1]

    def get_providers(self):
        return [self.runtime.CUDA]

    def io_binding(self):
        return Binding()

    def run_with_iobinding(self, binding, run_options):
        if self.runtime.refuse:
            raise RuntimeError("CUDNN_STATUS_ALLOC_FAILED\nat some line")
        assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        machine = self.runtime.machine
        stream = int(self.options["user_compute_stream"])
        shapes = {INPUT_NAME: binding.shapes[INPUT_NAME]}
        fake_cuda.queue_inference(
            machine, stream, self, self.model, dict(binding.addresses), shapes
        )


class Binding:
    def __init__(self):
        self.addresses, self.shapes = {}, {}

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        assert (device_type, device_id, element_type) == ("cuda", 0, np.uint8)
        self.addresses[name], self.shapes[name] = buffer_ptr, shape

    bind_output = bind_input


@pytest.fixture
def runtime(one_machine, monkeypatch):
    runtime = CudaRuntime(one_machine)
    monkeypatch.setattr(onnx_runtime, "import_onnxruntime", lambda: runtime)
    monkeypatch.setattr(onnx_cuda, "import_onnxruntime", lambda: runtime)
    yield runtime
    assert not one_machine.memory, "device memory was left allocated"
    assert not one_machine.stack


def opened(path, **changes):
    spec = read_model_spec(path)
    return open_backend(Request(model=path, spec=spec, device="cuda", batch=2, **changes), "ort")


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_labels_come_out_of_the_bound_buffers(runtime, tiny_path, expected_labels, slots):
    backend = opened(tiny_path, slots=slots)
    images = np.random.default_rng(2).integers(0, 256, (2 * slots, 2, 32, 32), dtype=np.uint8)
    for number, slot in enumerate(backend.slots):
        slot.images_nchw[...] = images[2 * number :][:2]
        slot.submit()
    for number, slot in enumerate(backend.slots):
        labels = slot.wait()["labels"]
        for image, found in zip(images[2 * number :][:2], labels, strict=True):
            assert (found == expected_labels(image)[8:24, 8:24]).all()
    assert backend.busy_s["compute"] == pytest.approx(0.005 * slots)
    assert backend.description.endswith("on NVIDIA Stand-in (cuda:0)")
    backend.close()
    backend.close()


def test_full_fp32_on_the_given_stream(runtime, tiny_path):
    backend = opened(tiny_path)
    (name, options), cpu = runtime.providers
    assert (name, options["device_id"], options["use_tf32"]) == (runtime.CUDA, "0", "0")
    assert int(options["user_compute_stream"]) in runtime.machine.streams
    assert cpu == "CPUExecutionProvider"
    backend.close()


def test_a_failure_in_the_runtime(runtime, tiny_path):
    backend = opened(tiny_path)
    runtime.refuse = True
    with pytest.raises(
        InferenceError,
        match=r"failed on a batch of 2 tiles of 32 px: CUDNN_STATUS_ALLOC_FAILED: if",
    ):
        backend.slots[0].submit()
    backend.close()
    with pytest.raises(EngineError, match="CUDNN_STATUS_ALLOC_FAILED"):
        opened(tiny_path)


def test_without_pycuda_the_runtime_copies_itself(runtime, tiny_path, monkeypatch):
    monkeypatch.setattr("flair_engine.inference.gpu.cuda.has_pycuda", lambda: False)
    backend = opened(tiny_path)
    assert isinstance(backend, onnx_runtime.OrtBackend)
    assert (backend.device, backend.batch) == ("cuda:0", 2)
    backend.close()
