import builtins

import numpy as np
import onnx
import pytest

from flair_engine.backends import available_cpus, onnx_runtime, open_backend
from flair_engine.errors import EngineError, InferenceError
from flair_engine.manifest import read_model_spec


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


def test_auto_takes_the_cpu_where_there_is_no_cuda(tiny_path, spec, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "has_cuda", lambda: False)
    backend = open_backend(tiny_path, spec, threads=1)
    assert (backend.engine, backend.device, backend.batch) == ("ort", "cpu", 1)
    assert backend.description.endswith("on 1 CPU thread")
    backend.close()
    backend.close()


def test_auto_takes_the_cpu_where_cuda_does_not_start(tiny_path, spec, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "has_cuda", lambda: True)
    assert open_backend(tiny_path, spec).device in ("cpu", "cuda:0")


def test_cuda_that_was_asked_for_is_not_replaced(tiny_path, spec):
    if onnx_runtime.has_cuda():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(
        EngineError, match="device cuda:1 was asked for but this onnxruntime has no"
    ):
        open_backend(tiny_path, spec, device="cuda:1")


class SilentFallback:
    """An onnxruntime built with CUDA on a machine where CUDA does not start."""

    __version__ = "0"

    class SessionOptions:
        def add_session_config_entry(self, *_):
            pass

    class InferenceSession:
        def __init__(self, *_, **__):
            pass

        def get_providers(self):
            return ["CPUExecutionProvider"]

    @staticmethod
    def get_available_providers():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_silent_fallback_to_the_cpu_is_an_error(tiny_path, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "import_onnxruntime", lambda: SilentFallback)
    with pytest.raises(EngineError, match="could not start CUDA there"):
        onnx_runtime.open_session(tiny_path, device="cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device gpu is unknown: use cpu, cuda or cuda:N"),
        ({"batch": 0}, "batch 0 does nothing"),
        ({"slots": 0}, "slots 0 does nothing"),
        ({"threads": -1}, "threads -1 does nothing"),
    ],
)
def test_options_that_mean_nothing(tiny_path, spec, options, message):
    with pytest.raises(EngineError, match=message):
        open_backend(tiny_path, spec, **options)


def test_both_distributions_installed(monkeypatch):
    monkeypatch.setattr(onnx_runtime, "_version", lambda name: "1.26")
    with pytest.raises(EngineError, match="are both installed .* pip uninstall -y onnxruntime"):
        onnx_runtime.import_onnxruntime()


def test_no_onnxruntime_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match=r"pip install 'flair-engine\[cpu\]'"):
        onnx_runtime.import_onnxruntime()


def test_a_graph_the_runtime_refuses(tiny_path, tmp_path):
    model = onnx.load(tiny_path)
    model.graph.node[1].op_type = "NoSuchOperator"
    path = tmp_path / "bad.onnx"
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"bad.onnx: ONNX Runtime .* refuses it"):
        onnx_runtime.open_session(path)
    with pytest.raises(EngineError, match="the model: ONNX Runtime .* refuses it"):
        onnx_runtime.open_session(model.SerializeToString())


def test_a_failure_in_the_runtime_is_an_inference_error(tiny_path, spec):
    backend = open_backend(tiny_path, spec, device="cpu")
    slot = backend.slots[0]
    slot.images_nchw = np.zeros((1, 5, 32, 32), np.uint8)
    slot.submit()
    with pytest.raises(InferenceError, match="failed on a batch of 1 tiles of 32 px"):
        slot.wait()
    backend.close()


def test_the_cpus_of_the_process_are_counted(monkeypatch):
    assert available_cpus() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert available_cpus() == 1
