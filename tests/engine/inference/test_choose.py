"""The engine that is taken, and what is said of it."""

import re
import sys

import onnx
import pytest

from flair_engine.errors import EngineError, RefusedModelError
from flair_engine.inference import choose, onnx_runtime
from flair_engine.inference.base import Request
from flair_engine.inference.choose import engines, open_backend
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


@pytest.fixture(autouse=True)
def no_bf16(monkeypatch):
    """A CPU without bf16, whatever the machine has: that has tests of its own."""

    def refuse(core):
        raise EngineError("Some CPU computes FP32 only", "use --precision fp32")

    for module in ("choose", "judged_bf16", "open_vino"):
        monkeypatch.setattr(f"flair_engine.inference.{module}.check_bf16", refuse)


@pytest.fixture(autouse=True)
def no_driver(monkeypatch):
    """No NVIDIA driver, whatever the machine has."""
    monkeypatch.setattr(choose, "has_nvidia_driver", lambda: False)


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setattr(choose, "has_nvidia_driver", lambda: True)


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


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


def test_auto_takes_openvino_on_a_cpu_and_says_so_in_a_few_words(no_cuda, ask, tiny_path):
    pytest.importorskip("openvino")
    backend = ask(tiny_path, threads=1)
    assert (backend.engine, backend.device, backend.batch) == ("openvino", "cpu", 1)
    assert ask.lines == [f"engine openvino: {backend.description}"]
    assert backend.description.endswith(" in fp32 on 1 CPU thread")
    backend.close()


def test_without_openvino_auto_takes_onnx_runtime(no_cuda, no_openvino, ask, tiny_path):
    backend = ask(tiny_path, threads=1)
    assert (backend.engine, backend.device, backend.batch) == ("ort", "cpu", 1)
    assert ask.lines == [f"engine ort: {backend.description}"]
    backend.close()


def test_where_there_is_a_gpu_it_is_told_why_it_is_not_used(
    no_cuda, no_openvino, driver, ask, tiny_path
):
    ask(tiny_path, threads=1).close()
    (line,) = ask.lines
    assert "on 1 CPU thread; not trt on cuda:0: TensorRT is not usable (" in line
    assert "; not ort on cuda:0: this onnxruntime has no CUDA" in line
    assert "pip install" not in line
    assert "openvino" not in line


def test_where_nothing_is_installed_all_are_told(no_cuda, no_openvino, ask, tiny_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="no engine can run the model on this machine: for trt"):
        ask(tiny_path)


def test_the_engines_are_listed(no_cuda, no_openvino):
    trt, cuda, bf16, openvino, ort = engines()
    assert re.match(r"trt on cuda:0 +no: TensorRT is not usable", trt)
    assert re.match(r"ort on cuda:0 +(no: this onnxruntime has no CUDA|ONNX Runtime)", cuda)
    assert re.match(r"openvino on cpu in bf16 +no: OpenVINO is not usable", bf16)
    assert re.match(r"openvino on cpu +no: OpenVINO is not usable .*pip install", openvino)
    assert re.match(r"ort on cpu +ONNX Runtime \d", ort)


def test_what_is_there_is_listed_as_it_is(one_machine):
    pytest.importorskip("openvino")
    trt, _, bf16, openvino, _ = engines()
    assert re.match(r"trt on cuda:0 +TensorRT 10.4.0 on NVIDIA Stand-in, for FP16 files$", trt)
    assert re.match(r"openvino on cpu in bf16 +no: Some CPU computes FP32 only: use --prec", bf16)
    assert re.match(r"openvino on cpu +OpenVINO \d", openvino)


@pytest.mark.parametrize("engine", ["auto", "ort", "openvino"])
def test_fp32_can_be_asked_for(no_cuda, ask, tiny_path, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    backend = ask(tiny_path, engine, precision="fp32")
    assert (backend.device, backend.precision) == ("cpu", "fp32")
    backend.close()


def test_fp32_of_an_fp16_file_is_for_a_cpu(machine, ask, fp16_path):
    backend = ask(fp16_path, precision="fp32")
    assert backend.device == "cpu"
    assert machine.builds == 0
    backend.close()


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("trt", {"precision": "fp32"}, "engine trt computes in fp16, not in fp32: leave out"),
        ("auto", {"precision": "bf16", "device": "cuda:0"}, "auto does not run on cuda:0 in bf16"),
        ("ort", {"precision": "fp32", "device": "cuda:0"}, "ort does not run on cuda:0 in fp32"),
    ],
)
def test_precisions_that_cannot_be_had(ask, fp16_path, engine, options, message):
    with pytest.raises(EngineError, match=message):
        ask(fp16_path, engine, **options)


def test_auto_skips_tensorrt_for_an_fp32_model(machine, no_openvino, driver, ask, tiny_path):
    backend = ask(tiny_path)
    assert (backend.engine, backend.device) == ("ort", "cpu")
    assert "; not trt on cuda:0: " in ask.lines[-1]
    assert "tiny.onnx: is fp32, TensorRT is given FP16 graphs here;" in ask.lines[-1]
    assert machine.builds == 0
    backend.close()


def test_auto_skips_a_plan_that_is_refused(machine, no_openvino, driver, ask, fp16_path):
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


def test_auto_on_the_cpu_says_which(ask, tiny_path):
    backend = ask(tiny_path, device="cpu")
    assert ask.lines == [f"engine {backend.engine}: {backend.description}"]
    backend.close()


def test_an_engine_that_was_named_is_not_replaced(no_cuda, ask, tiny_path):
    with pytest.raises(EngineError, match="^TensorRT is not usable"):
        ask(tiny_path, "trt")
    with pytest.raises(EngineError, match="engine trt does not run on cpu: leave out --device"):
        ask(tiny_path, "trt", device="cpu")


def test_int8_does_not_take_tensorrt_to_the_cpu(ask, int8_path):
    with pytest.raises(EngineError, match="^engine trt does not run on cpu: leave out --device"):
        ask(int8_path, "trt", device="cpu")


def test_onnx_runtime_by_name_takes_cuda_or_else_the_cpu(no_cuda, driver, ask, tiny_path):
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


def test_a_model_that_is_refused_is_told_alone(no_cuda, no_openvino, ask, tiny_path, tmp_path):
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
    assert (backend.device, backend.precision) == ("cpu", "int8")
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
