"""The engine that is taken, and what is said of it."""

import importlib.util
import sys

import onnx
import pytest

from flair_engine.errors import EngineError, RefusedModelError
from flair_engine.inference import onnx_runtime
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec


@pytest.fixture
def ask(tmp_path):
    def ask(model, engine="auto", **changes):
        request = Request(
            model=model, spec=read_model_spec(model), plan_cache=tmp_path / "plans",
            notify=lines.append, **changes,
        )  # fmt: skip
        return open_backend(request, engine)

    ask.lines = lines = []
    return ask


@pytest.fixture
def no_cuda(monkeypatch):
    for name in ("tensorrt", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)


def test_auto_takes_tensorrt_where_it_can(machine, ask, fp16_path):
    backend = ask(fp16_path)
    assert (backend.engine, backend.device, backend.batch) == ("trt", "cuda:0", 16)
    start = f"engine trt: TensorRT {machine.release} on NVIDIA Stand-in (cuda:0), plan "
    assert ask.lines[-1].startswith(start)
    backend.close()


def test_auto_takes_the_cpu_where_there_is_nothing_else(no_cuda, ask, tiny_path):
    backend = ask(tiny_path, threads=1)
    assert (backend.engine, backend.device, backend.batch) == ("ort", "cpu", 1)
    (line,) = ask.lines
    assert line.startswith("engine ort: ONNX Runtime ")
    assert "on 1 CPU thread; not trt on cuda:0: TensorRT is not usable (" in line
    assert "; not ort on cuda:0: this onnxruntime has no CUDA" in line
    assert "pip install" not in line
    backend.close()


@pytest.fixture
def installed(monkeypatch):
    """Let some runtimes be installed, and no others."""

    def installed(*names):
        known = importlib.util.find_spec

        def find_spec(name):
            if name in ("onnxruntime", "openvino", "tensorrt"):
                return object() if name in names else None
            return known(name)

        monkeypatch.setattr("importlib.util.find_spec", find_spec)

    return installed


@pytest.mark.parametrize("device", [None, "cpu"])
def test_where_openvino_alone_is_installed_it_is_named(ask, tiny_path, installed, device):
    installed("openvino")
    with pytest.raises(EngineError, match=r"OpenVINO is installed and .*: use --engine openvino"):
        ask(tiny_path, device=device)


@pytest.mark.parametrize("others", [(), ("openvino", "onnxruntime")])
def test_openvino_is_not_named_otherwise(no_cuda, ask, tiny_path, installed, monkeypatch, others):
    installed(*others)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="no engine can run the model on this machine"):
        ask(tiny_path)


def test_openvino_is_named_for_no_gpu(no_cuda, ask, tiny_path, installed):
    installed("openvino")
    with pytest.raises(EngineError) as caught:
        ask(tiny_path, device="cuda:0")
    assert "openvino" not in str(caught.value)


def test_what_cannot_be_looked_for_is_not_there(no_cuda, ask, tiny_path, monkeypatch):
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="no engine can run the model on this machine"):
        ask(tiny_path)


def test_auto_skips_tensorrt_for_an_fp32_model_and_says_so(machine, ask, tiny_path):
    backend = ask(tiny_path)
    assert (backend.engine, backend.device) == ("ort", "cpu")
    assert "; not trt on cuda:0: " in ask.lines[-1]
    assert "tiny.onnx: is fp32, TensorRT is given FP16 graphs here;" in ask.lines[-1]
    assert machine.builds == 0
    backend.close()


def test_auto_skips_a_plan_that_is_refused(machine, ask, fp16_path):
    machine.fail.add("build")
    backend = ask(fp16_path)
    assert (backend.engine, backend.device) == ("ort", "cpu")
    assert "not trt on cuda:0: tiny: TensorRT" in ask.lines[-1]
    backend.close()


def test_auto_on_a_named_device_stays_there(one_machine, ask, fp16_path):
    with pytest.raises(
        EngineError,
        match=r"no engine can run the model on cuda:7: for trt on cuda:7, there is no cuda:7: .*; "
        r"for ort on cuda:7, ",
    ):
        ask(fp16_path, device="cuda:7")


def test_auto_on_the_cpu_needs_no_choice(ask, tiny_path):
    ask(tiny_path, device="cpu").close()
    assert ask.lines == []


def test_an_engine_that_was_named_is_not_replaced(no_cuda, ask, tiny_path):
    with pytest.raises(EngineError, match="^TensorRT is not usable"):
        ask(tiny_path, "trt")
    with pytest.raises(EngineError, match="engine trt does not run on cpu: leave out --device"):
        ask(tiny_path, "trt", device="cpu")


def test_int8_does_not_take_tensorrt_to_the_cpu(ask, int8_path):
    with pytest.raises(EngineError, match="^engine trt does not run on cpu: leave out --device"):
        ask(int8_path, "trt", device="cpu")


def test_onnx_runtime_by_name_takes_cuda_or_else_the_cpu(no_cuda, ask, tiny_path):
    ask(tiny_path, "ort").close()
    assert "engine ort: ONNX Runtime" in ask.lines[0]
    assert "not ort on cuda:0" in ask.lines[0]


def test_a_silent_request_says_nothing(tiny_path, capfd):
    open_backend(Request(model=tiny_path, spec=read_model_spec(tiny_path), device="cpu")).close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device gpu is unknown: use cpu, cuda or cuda:N"),
        ({"batch": 0}, "batch 0 does nothing"),
        ({"slots": 0}, "slots 0 does nothing"),
        ({"threads": -1}, "threads -1 does nothing"),
    ],
)
def test_options_that_mean_nothing(ask, tiny_path, options, message):
    with pytest.raises(EngineError, match=message):
        ask(tiny_path, **options)


def test_a_model_that_is_refused_is_told_alone(no_cuda, ask, tiny_path, tmp_path):
    """What other engines lack, and how to install them, is beside the point."""
    model = onnx.load(tiny_path)
    for node in model.graph.node:
        if node.op_type == "Slice":
            node.input[1] = "absent"
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(RefusedModelError, match="^.*bad.onnx: ONNX Runtime .* refuses it") as error:
        ask(tmp_path / "bad.onnx")
    assert "pip " not in str(error.value)


def test_memory_that_is_not_to_be_had(ask, tiny_path, monkeypatch):
    def no_memory(_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(onnx_runtime, "OrtSlot", no_memory)
    with pytest.raises(
        EngineError,
        match=r"^no memory for batch 7 x slots 2 on ort on cpu \(Unable to allocate 9 TiB\): use a",
    ):
        ask(tiny_path, "ort", device="cpu", batch=7)


def test_cuda_that_was_asked_for_is_not_replaced(no_cuda, ask, tiny_path):
    if onnx_runtime.CUDA_PROVIDER in onnx_runtime.import_onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(EngineError, match="^this onnxruntime has no CUDA: run pip uninstall"):
        ask(tiny_path, "ort", device="cuda:1")


@pytest.mark.parametrize("engine", ["auto", "ort"])
def test_int8_runs_on_the_cpu_though_there_is_a_gpu(one_machine, ask, int8_path, engine):
    backend = ask(int8_path, engine)
    assert (backend.engine, backend.device, backend.precision) == ("ort", "cpu", "int8")
    backend.close()


@pytest.mark.parametrize(
    ("engine", "options", "place"),
    [("trt", {}, "engine trt"), ("auto", {"device": "cuda:1"}, "cuda:1")],
)
def test_int8_is_refused_on_a_gpu(one_machine, ask, int8_path, engine, options, place):
    with pytest.raises(
        EngineError, match=rf"int8.onnx: is int8, which is for CPUs: give the .* to {place}, or use"
    ):
        ask(int8_path, engine, **options)
