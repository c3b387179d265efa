"""The OpenVINO backend on the golden model, and what it refuses."""

import builtins
import json

import numpy as np
import onnx
import pytest

from flair_engine import Model, RunOptions, segment
from flair_engine.agreement import LabelDifference
from flair_engine.errors import EngineError, InferenceError
from flair_engine.inference import open_vino
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec

try:
    import openvino  # noqa: F401
except ImportError:
    pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


@pytest.fixture
def any_bf16(monkeypatch):
    """Let bf16 through where the CPU has none: OpenVINO then imitates it, slowly."""
    monkeypatch.setattr(open_vino, "_check_bf16", lambda core: None)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize(("height", "width", "batch"), [(1, 1, 1), (65, 40, 2), (33, 129, 3)])
def test_labels_equal_the_whole_array_computation(
    tiny_path, expected_labels, slots, height, width, batch
):
    image = np.random.default_rng(width).integers(0, 256, (2, height, width), dtype=np.uint8)
    options = RunOptions(engine="openvino", slots=slots, batch=batch)
    with Model(tiny_path, options) as model:
        assert (model.predict(image) == expected_labels(image)).all()


def test_a_run_in_fp32(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    options = RunOptions(engine="openvino", threads=1)
    report = segment(tiny_path, [path], tmp_path / "map.tif", options)
    assert (report.engine, report.device, report.precision) == ("openvino", "cpu", "fp32")
    assert report.description.endswith("in fp32 on 1 CPU thread")
    assert report.agreement_fp32 is None
    assert "FP32" not in report.closing_line
    assert 0 < report.busy_s["infer"] < report.wall_s


@pytest.mark.usefixtures("any_bf16")
def test_bf16_states_its_agreement_with_fp32(make_raster, tiny_path, tmp_path):
    path, _ = make_raster(height=90, width=90)
    options = RunOptions(engine="openvino", precision="bf16", batch=5)
    report = segment(tiny_path, [path], tmp_path / "map.tif", options)
    assert report.precision == "bf16"
    assert 0.5 < report.agreement_fp32 <= 1
    assert f"{report.agreement_fp32:.2%} the labels of FP32 on" in report.closing_line
    assert json.loads(report.to_json())["agreement_fp32"] == report.agreement_fp32
    assert set(report.busy_s) == {"read", "infer", "compare", "write", "assemble"}


def test_only_real_tiles_at_the_start_are_compared(monkeypatch):
    monkeypatch.setattr(open_vino, "COMPARED_PIXELS", 48)
    asked = []

    def reference(inputs):
        asked.append(len(inputs["image"]))
        return {"labels": np.ones((2, 4, 4), np.uint8)}

    comparison = open_vino.Fp32Check(reference)
    assert comparison.found.pixels == 0
    labels = np.ones((2, 4, 4), np.uint8)
    labels[0, 0, 0] = 2
    labels[1] = 7
    images = np.ones((2, 1, 8, 8), np.uint8)
    images[1] = 0  # what fills up a last batch
    comparison.add(images, labels)
    assert comparison.found == LabelDifference(pixels=16, different=1, lower=0)
    for _ in range(3):
        comparison.add(np.ones_like(images), np.ones_like(labels))
    assert asked == [2, 2]
    assert comparison.found == LabelDifference(pixels=48, different=1, lower=0)


def test_close_waits_and_may_be_called_twice(tiny_path, spec):
    backend = open_backend(Request(model=tiny_path, spec=spec), "openvino")
    backend.slots[0].submit()
    backend.close()
    assert backend.busy_s["infer"] > 0
    backend.close()


class Core:
    """A CPU without bf16."""

    def get_property(self, _, name):
        return {"FULL_DEVICE_NAME": "Some CPU", "OPTIMIZATION_CAPABILITIES": ["FP32", "INT8"]}[name]


def test_bf16_on_a_cpu_without_it_is_refused():
    with pytest.raises(EngineError, match=r"^Some CPU computes FP32, INT8 only, and .* bf16"):
        open_vino._check_bf16(Core())


def test_a_device_that_is_not_the_cpu(tiny_path, spec):
    with pytest.raises(EngineError, match="engine openvino does not run on cuda:0"):
        open_backend(Request(model=tiny_path, spec=spec, device="cuda:0"), "openvino")


@pytest.mark.parametrize("engine", ["auto", "ort"])
def test_precision_is_for_openvino_alone(tiny_path, spec, engine):
    with pytest.raises(
        EngineError, match=f"precision bf16 is for engine openvino alone, engine {engine} comp"
    ):
        open_backend(Request(model=tiny_path, spec=spec, precision="bf16"), engine)


def test_no_openvino_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "openvino":
            raise ImportError("No module named 'openvino'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match=r"pip install 'flair-engine\[openvino\]'"):
        open_vino.import_openvino()


def test_a_graph_openvino_refuses(tiny_path, spec, tmp_path):
    model = onnx.load(tiny_path)
    model.graph.node[1].op_type = "NoSuchOperator"
    path = tmp_path / "bad.onnx"
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"bad.onnx: OpenVINO refuses it \(.*NoSuchOperator"):
        open_backend(Request(model=path, spec=spec), "openvino")


def test_a_failure_in_the_runtime_is_an_inference_error(tiny_path, spec):
    backend = open_backend(Request(model=tiny_path, spec=spec), "openvino")

    class Failing:
        def wait(self):
            raise RuntimeError("Exception from somewhere.cpp:1:\nno memory")

    backend.slots[0]._infer_request = Failing()
    with pytest.raises(InferenceError, match="failed on a batch of 1 tiles of 32 px: no memory"):
        backend.slots[0].wait()
    backend.close()


@pytest.mark.usefixtures("any_bf16")
@pytest.mark.parametrize(
    ("precision", "said"), [(None, "int8"), ("fp32", "int8"), ("bf16", "int8 bf16")]
)
def test_what_is_computed_beside_int8_is_said(make_raster, int8_path, tmp_path, precision, said):
    path, _ = make_raster(height=90, width=90)
    options = RunOptions(engine="openvino", precision=precision)
    report = segment(int8_path, [path], tmp_path / "map.tif", options)
    assert report.precision == said
    assert f" in {said} on " in report.description
    assert report.exported_agreement_fp32 == 0.9876
    assert "; INT8 gave 98.76% the labels of FP32 at export" in report.closing_line
    assert ("the labels of the same file in FP32 on" in report.closing_line) == (said != "int8")
