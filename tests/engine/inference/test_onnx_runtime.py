import builtins

import numpy as np
import onnx
import pytest

from flair_engine.errors import EngineError, InferenceError
from flair_engine.inference import onnx_runtime
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


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
    with pytest.raises(EngineError, match="could not start CUDA on cuda .*: check nvidia-smi"):
        onnx_runtime.open_session(tiny_path, device="cuda")


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
    backend = open_backend(Request(model=tiny_path, spec=spec, device="cpu"), "ort")
    slot = backend.slots[0]
    slot.images_nchw = np.zeros((1, 5, 32, 32), np.uint8)
    slot.submit()
    with pytest.raises(InferenceError, match="failed on a batch of 1 tiles of 32 px"):
        slot.wait()
    backend.close()
