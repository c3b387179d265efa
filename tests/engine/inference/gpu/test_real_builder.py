"""The builder of the real TensorRT for RTX, which needs neither a GPU nor a driver."""

import warnings
from dataclasses import replace

import onnx
import pytest
from doubles import fake_tensorrt

from flair_engine.errors import EngineError
from flair_engine.inference.gpu import plan as plan_module
from flair_engine.inference.gpu.library import capabilities, library_name, newer_driver, titled
from flair_engine.inference.gpu.plan import PlanOptions, build_plan, logged, logger_of
from flair_engine.manifest import read_model_spec
from flair_engine.system import has_nvidia_driver

trt = pytest.importorskip(
    "tensorrt_rtx_bindings",
    reason="TensorRT for RTX cannot be imported here: pip install 'flair-engine[rtx]'",
    exc_type=ImportError,
)
MALFORMED = 32


def build(path, spec=None, **changes):
    spec = spec or read_model_spec(path)
    status = changes.pop("status", lambda _: None)
    told = PlanOptions(**{"batch": 3, "precision": spec.precision, **changes})
    return build_plan(trt, path.read_bytes(), spec, told, status=status)


def test_the_names_of_the_stand_in_are_those_of_the_bindings():
    if trt.__version__ != fake_tensorrt.RTX:
        pytest.skip(f"the names are of {fake_tensorrt.RTX}, {trt.__version__} is installed")
    for name, members in fake_tensorrt.NAMES[fake_tensorrt.RTX].items():
        real = {member for member in dir(getattr(trt, name)) if not member.startswith("_")}
        assert set(members) - {"__init__"} == real, name
    played = fake_tensorrt.Machine(fake_tensorrt.RTX).tensorrt
    for name in fake_tensorrt.RTX_ENUMS:
        for member in getattr(played, name):
            assert int(getattr(getattr(trt, name), member.name)) == member


@pytest.mark.parametrize("model", ["tiny_path", "fp16_path"])
def test_a_plan_is_built_for_one_card_for_several_and_for_all(model, request):
    path = request.getfixturevalue(model)
    assert (library_name(trt), titled(trt)) == (
        "tensorrt_rtx", f"TensorRT for RTX {trt.__version__}",
    )  # fmt: skip
    assert newer_driver(trt) in [f"install NVIDIA driver {n} or newer" for n in (525, 580)]
    known = capabilities(trt)
    assert {"7.5", "8.0", "8.6", "8.9", "12.0"} <= set(known)
    runtime = trt.Runtime(logger_of(trt))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing that is deprecated is called
        plans = [build(path, capabilities=cards) for cards in ((), known[:1], known)]
    assert len({built.plan for built in plans}) == 3
    for built in plans:
        assert built.timings == b"", "it measures nothing"
        assert runtime.get_engine_validity(built.plan)[1] & MALFORMED == 0
    assert runtime.get_engine_validity(path.read_bytes())[1] & MALFORMED
    if not has_nvidia_driver():
        assert runtime.deserialize_cuda_engine(plans[0].plan) is None
        assert "Cuda Runtime" in logged(trt)
    logged(trt)
    build(path)
    assert logger_of(trt).errors == [], "of what it logs only errors are kept"


def broken(path, tmp_path, change):
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, tmp_path / "broken.onnx")
    return tmp_path / "broken.onnx"


def an_operator_nobody_knows(graph):
    graph.node[2].op_type = "NoSuchOperator"


def an_operator_of_other_inputs(graph):
    graph.node[2].op_type = "MatMul"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (an_operator_nobody_knows, r'node 2: creator && "Plugin not found, are the plugin name, '),
        (an_operator_of_other_inputs, r"node 2: Invalid Node - node_of_logits; .* has type Int64 "),
    ],
)
def test_a_broken_graph_is_refused_in_one_line(tiny_path, tmp_path, change, words):
    path = broken(tiny_path, tmp_path, change)
    with pytest.raises(
        EngineError, match=r"^tiny: TensorRT for RTX .* refuses the ONNX graph"
    ) as e:
        build(path, read_model_spec(tiny_path))
    assert len(str(e.value).splitlines()) == 1
    assert "cudaError" not in str(e.value)
    assert e.match(words)
    assert e.match(r"\): export it again, or use --engine ort$")


def test_what_is_no_graph_is_refused(tiny_path, tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"garbage")
    with pytest.raises(EngineError, match=r"node -1: .* Failed to parse the ONNX model"):
        build(tmp_path / "noise.onnx", read_model_spec(tiny_path))


def test_a_shape_the_network_does_not_take(tiny_path):
    spec = read_model_spec(tiny_path)
    other = replace(spec, bands=(*spec.bands, "red"), normalization=replace(
        spec.normalization, mean=(0.0,) * 3, std=(1.0,) * 3))  # fmt: skip
    with pytest.raises(
        EngineError,
        match=r"could not build a plan for batches of 3 \(.*Dimension mismatch for tensor image "
        r"and profile 0\. At dimension axis 1, profile has min=3, opt=3, max=3 but tensor has 2",
    ) as caught:
        build(tiny_path, other)
    assert len(str(caught.value).splitlines()) == 1


def test_a_source_of_tactics_it_lacks_and_one_it_has(tiny_path):
    build(tiny_path, tactic_sources="-JIT_CONVOLUTIONS")
    with pytest.raises(
        EngineError, match=r"CUDNN does not exist in TensorRT for RTX .*: leave out"
    ):
        build(tiny_path, tactic_sources="+CUDNN")


def test_what_is_raised_while_waiting_cancels_a_build(tiny_path, monkeypatch):
    class StopError(BaseException):
        pass

    def stop(_line):
        raise StopError

    really, ended = plan_module._built, []

    def noted(*arguments):
        try:
            return really(*arguments)
        except EngineError as error:
            ended.append(str(error))
            raise

    monkeypatch.setattr(plan_module, "_built", noted)
    with pytest.raises(StopError):
        build(tiny_path, status=stop)
    (line,) = ended
    assert "BuildCanceled (Build canceled by user" in line


def test_progress_is_told_with_its_phase(tiny_path, monkeypatch):
    told = []
    monkeypatch.setattr(plan_module, "TICK_S", 0.001)
    build(tiny_path, status=told.append)
    assert told[0].startswith("building the TensorRT plan: 0 s")
    assert any(" of " in line for line in told), told
