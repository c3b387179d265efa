"""The OpenVINO backend on the golden model, and what it refuses."""

import builtins
import json

import numpy as np
import onnx
import pytest

from flair_engine import Model, RunOptions, segment
from flair_engine.errors import EngineError, InferenceError, RefusedModelError
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
    monkeypatch.setattr(open_vino, "check_bf16", lambda core: None)


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


def test_what_is_refused_while_it_loads_is_told_by_the_first_batch(tiny_path, spec, tmp_path):
    model = onnx.load(tiny_path)
    model.graph.node[1].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "bad.onnx")
    request = Request(model=tmp_path / "bad.onnx", spec=spec, wait=False)
    backend = open_backend(request, "openvino")
    with pytest.raises(EngineError, match=r"bad.onnx: OpenVINO refuses it"):
        backend.slots[0].submit()
    backend.close()


def test_a_run_whose_model_is_refused_leaves_nothing(make_raster, tiny_path, tmp_path, monkeypatch):
    def refused(*_):
        raise RefusedModelError("model.onnx: OpenVINO refuses it (why)", "export it again")

    monkeypatch.setattr(open_vino, "_compiled", refused)
    path, _ = make_raster()
    before = set(tmp_path.iterdir())
    with pytest.raises(RefusedModelError, match="OpenVINO refuses it"):
        segment(tiny_path, [path], tmp_path / "map.tif", RunOptions(engine="openvino"))
    assert set(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("any_bf16")
def test_what_an_earlier_run_has_measured_is_told_with_its_date(
    make_raster, tiny_path, tmp_path, monkeypatch
):
    monkeypatch.setattr("flair_engine.inference.fp32_check.COMPARED_PIXELS", 512)
    path, _ = make_raster(height=90, width=90)
    options = RunOptions(engine="openvino", precision="bf16", plan_cache=tmp_path / "kept")
    first = segment(tiny_path, [path], tmp_path / "first.tif", options)
    assert first.measured_fp32 >= first.started
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text(file.read_text().replace(first.measured_fp32, "2020-02-20T20:20:20+00:00"))

    def never(*_):
        raise AssertionError("FP32 was computed again")

    monkeypatch.setattr("flair_engine.inference.fp32_check.Fp32Check.add", never)
    again = segment(tiny_path, [path], tmp_path / "again.tif", options)
    assert again.agreement_fp32 == first.agreement_fp32
    assert again.measured_fp32 == "2020-02-20T20:20:20+00:00"
    assert "the labels of FP32 on tiles of 2020-02-20" in again.closing_line
    assert (tmp_path / "first.tif").read_bytes() == (tmp_path / "again.tif").read_bytes()


@pytest.mark.usefixtures("any_bf16")
def test_a_run_goes_on_where_the_agreement_cannot_be_kept(
    make_raster, tiny_path, tmp_path, monkeypatch
):
    monkeypatch.setattr("flair_engine.inference.fp32_check.COMPARED_PIXELS", 512)
    path, _ = make_raster(height=90, width=90)
    (tmp_path / "kept").write_text("no folder")
    options = RunOptions(engine="openvino", precision="bf16", plan_cache=tmp_path / "kept")
    report = segment(tiny_path, [path], tmp_path / "map.tif", options)
    assert report.agreement_fp32 is not None
    (line,) = report.notices
    assert line.startswith("the agreement with FP32 is measured in every run: ")


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
        open_vino.check_bf16(Core())


def test_a_device_that_is_not_the_cpu(tiny_path, spec):
    with pytest.raises(EngineError, match="engine openvino does not run on cuda:0"):
        open_backend(Request(model=tiny_path, spec=spec, device="cuda:0"), "openvino")


@pytest.mark.parametrize("engine", ["trt", "ort"])
def test_bf16_is_for_openvino_alone(tiny_path, spec, engine):
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

    slot = backend.slots[0]
    really, slot._infer_request = slot._infer_request, Failing()
    with pytest.raises(InferenceError, match="failed on a batch of 1 tiles of 32 px: no memory"):
        slot.wait()
    slot._infer_request = really
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
