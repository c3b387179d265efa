"""TensorRT on the stand-in for each release: every call that can fail, and the order of events."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import rasterio
from click.testing import CliRunner
from doubles import fake_cuda, fake_tensorrt
from doubles.paths import SHARED

from flair_engine import Model, RunOptions, segment
from flair_engine.cli import command
from flair_engine.errors import EngineError, InferenceError
from flair_engine.inference import onnx_runtime
from flair_engine.inference.base import Request
from flair_engine.inference.choose import open_backend
from flair_engine.manifest import read_model_spec


@pytest.fixture
def options(tmp_path):
    return RunOptions(engine="trt", batch=3, plan_cache=tmp_path / "plans")


@pytest.fixture
def ask(fp16_path, tmp_path):
    """Return a function that opens the FP16 model with TensorRT and says what was notified."""

    def ask(model=fp16_path, engine="trt", **changes):
        request = Request(
            model=model, spec=read_model_spec(model), device="cuda:0", batch=3, slots=2,
            plan_cache=tmp_path / "plans", notify=lines.append, status=states.append,
        )  # fmt: skip
        return open_backend(replace(request, **changes), engine)

    lines, states = [], []
    ask.lines, ask.states, ask.folder = lines, states, tmp_path / "plans"
    return ask


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_map_is_the_same_with_any_number_of_slots(
    machine, make_raster, fp16_path, tmp_path, expected_cross, options, slots
):
    path, image = make_raster(height=100, width=93)
    report = segment(fp16_path, [path], tmp_path / "map.tif", replace(options, slots=slots))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == expected_cross(image)).all()
    assert (report.engine, report.device, report.slots) == ("trt", "cuda:0", slots)
    assert report.description.startswith(f"TensorRT {machine.release} on NVIDIA Stand-in (cuda:0)")
    assert len(report.description.rpartition(", plan ")[2]) == 8
    batches = -(-report.tiles // 3)
    assert report.busy_s["copy-in"] == pytest.approx(0.001 * batches)
    assert report.busy_s["compute"] == pytest.approx(0.005 * batches)
    assert report.busy_s["copy-out"] == pytest.approx(0.002 * batches)


def test_the_builder_is_told_what_each_release_needs(machine, ask):
    ask(tactic_sources="-EDGE_MASK_CONVOLUTIONS,-CUBLAS").close()
    (config,) = machine.configs
    assert config._pools == {"WORKSPACE": 4 << 30}
    weakly_typed = {"FP16", "PREFER_PRECISION_CONSTRAINTS"}
    assert config._flags == (weakly_typed if machine.release.startswith("8.") else set())
    sources = machine.tensorrt.TacticSource
    left = {s.name for s in sources if config._sources & 1 << s}
    assert left == {s.name for s in sources} - {"EDGE_MASK_CONVOLUTIONS", "CUBLAS"}
    assert ask.states[0] == "building the TensorRT plan: 0 s"
    monitor = getattr(config, "progress_monitor", None)
    assert (monitor is None) == machine.release.startswith("8.")


def test_the_normalisation_is_held_in_fp32_where_the_flag_could_lower_it(ask, monkeypatch):
    machine = fake_tensorrt.Machine("8.5.3.1").install(monkeypatch)
    held = []
    kind = machine.tensorrt._classes["ILayer"]
    monkeypatch.setattr(kind, "precision", property(None, lambda s, v: held.append((s._op, v))),
                        raising=False)  # fmt: skip
    ask().close()
    assert held == [
        ("Mul", machine.tensorrt.DataType.FLOAT),
        ("Add", machine.tensorrt.DataType.FLOAT),
    ]


def test_a_plan_is_built_once_and_described(machine, ask):
    ask().close()
    ask().close()
    assert machine.builds == 1
    (sidecar,) = ask.folder.glob("*.json")
    description = json.loads(sidecar.read_text())
    key, facts = description["key"], description["facts"]
    assert key["tensorrt"] == machine.release
    assert key["profile"] == "image 3x2x32x32"
    assert (key["gpu"], key["compute_capability"], key["multiprocessors"]) == (
        "NVIDIA Stand-in", "9.0", 132,
    )  # fmt: skip
    assert facts["origin"] == "noise"
    assert facts["share"] == 1.0
    assert set(facts["share_by_class"]) == {"first", "third"}
    assert "there is none yet" in ask.lines[0]
    assert "100.000% of labels agree with FP32 on 4 tiles of noise" in ask.lines[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 4}, "profile image 3x2x32x32 instead of image 4x2x32x32"),
        ({"tactic_sources": "-JIT_CONVOLUTIONS"}, "tactic sources default instead of"),
    ],
)
def test_what_differs_from_a_plan_at_hand_is_said(machine, ask, changes, message):
    ask().close()
    ask(**changes).close()
    assert machine.builds == 2
    assert message in ask.lines[2]


def test_a_plan_of_another_gpu_or_release_is_not_used(ask, monkeypatch):
    fake_tensorrt.Machine("10.4.0").install(monkeypatch)
    ask().close()
    fake_tensorrt.Machine("10.13.3.9", name="NVIDIA Other").install(monkeypatch)
    ask().close()
    assert "tensorrt 10.4.0 instead of 10.13.3.9" in ask.lines[2]
    assert "gpu NVIDIA Stand-in instead of NVIDIA Other" in ask.lines[2]


def test_a_plan_that_is_sound_but_refused_is_rebuilt(machine, ask, monkeypatch):
    ask().close()
    kind = machine.tensorrt._classes["Runtime"]
    real, answers = kind.deserialize_cuda_engine, [None, None]

    def twice_none(self, plan):
        return answers.pop() if answers else real(self, plan)

    monkeypatch.setattr(kind, "deserialize_cuda_engine", twice_none)
    ask().close()
    assert machine.builds == 2
    assert "the plan kept there does not serve: TensorRT" in ask.lines[2]


def test_timings_are_kept_for_the_next_build(machine, ask):
    ask().close()
    ask(batch=4).close()
    assert [config._timing for config in machine.configs] == [b"", b"+"]


@pytest.mark.parametrize("refusal", ["timing_cache", "old_timings", "serialize"])
def test_timings_that_are_refused_do_not_stop_a_build(machine, ask, refusal):
    ask().close()
    machine.fail.add(refusal)
    ask(batch=4).close()
    assert machine.builds == 2


SILENT = "it does not say why"
FAILURES = {
    "builder": rf"could not make a builder \({SILENT}\)",
    "network": r"could not make a network",
    "config": r"could not make a builder configuration",
    "profile": r"could not make a profile",
    "add_profile": r"refuses the shape image 3x2x32x32 .*smaller --batch",
    "tactic_sources": r"refuses the tactic sources -JIT_CONVOLUTIONS",
    "build": r"could not build a plan for batches of 3 \(Could not find any implementation for "
    r"node \{Conv_0\}\.\)\. If memory ran out, try --batch 1",
    "runtime": r"could not make a runtime",
    "deserialize": r"refuses it \(Serialization assertion failed: version tag does not match\)",
    "tensors": r"its tensors are labels, picture, the model's are image, labels, all uint8",
    "execution_context": r"out of memory for 2 slots of 3 tiles: Requested amount .*try --batch 1$",
    "set_input_shape": r"it does not serve batches of 3",
    "set_tensor_address": r"failed on a batch of 3 tiles of 32 px",
    "execute": r"failed on a batch of 3 tiles of 32 px: Cuda Runtime \(out of memory\)\. If memory",
    "page-locked": r"out of memory for 2 slots of 3 tiles: .*page-locked .*: try --batch 1$",
    "synchronize": r"cuda:0 \(NVIDIA Stand-in\) failed: .*illegal memory access",
}


@pytest.mark.parametrize("call", FAILURES)
def test_every_failing_call_is_one_line_and_keeps_no_plan(machine, ask, call):
    machine.fail.add(call)
    with pytest.raises(EngineError, match=FAILURES[call]) as caught:
        ask(tactic_sources="-JIT_CONVOLUTIONS")
    assert len(str(caught.value).splitlines()) == 1
    assert not list(ask.folder.glob("*.plan"))


def test_device_memory_that_runs_out_names_a_batch(ask, monkeypatch):
    machine = fake_tensorrt.Machine("10.4.0", memory=40_000).install(monkeypatch)
    with pytest.raises(EngineError, match=r"out of memory for 2 slots of 10 tiles.*try --batch 5$"):
        ask(batch=10)
    assert not machine.memory
    machine.memory_bytes = 1000
    with pytest.raises(EngineError, match=r"1 slots of 1 tiles.*try --slots 1, or another device"):
        ask(batch=1, slots=1)


def test_a_failure_on_the_way_is_an_inference_error(machine, ask):
    backend = ask()
    machine.fail.add("execute")
    with pytest.raises(InferenceError, match="TensorRT .* failed on a batch of 3 tiles"):
        backend.slots[0].submit()
    backend.close()
    backend.close()


def test_a_graph_the_parser_refuses(machine, ask, fp16_path):
    model = onnx.load(fp16_path)
    model.graph.node[2].op_type = "NoSuchOperator"
    onnx.save(model, fp16_path)
    with pytest.raises(EngineError, match="refuses the ONNX graph .node 1: No importer registered"):
        ask()


def test_a_plan_that_answers_otherwise_is_refused(machine, ask, make_raster, fp16_path, tmp_path):
    machine.spoil = lambda labels: np.where(
        np.arange(labels.size).reshape(labels.shape) % 99, labels, 2
    )
    path, _ = make_raster(height=100, width=93)
    options = RunOptions(engine="trt", batch=3, plan_cache=ask.folder)
    with pytest.raises(
        EngineError,
        match=r"plan of tiny: 9[89]\.\d+% of labels agree with FP32 on 16 tiles of images, least "
        r"for \w+ .*; at least 99\.5% must, so it is refused",
    ):
        segment(fp16_path, [path], tmp_path / "map.tif", options)
    assert not list(ask.folder.glob("*.plan"))
    ask().close()  # on noise it passes, provisionally
    with pytest.raises(EngineError, match="tiles of images.*refused"):
        segment(fp16_path, [path], tmp_path / "map.tif", options)


def test_a_provisional_plan_is_judged_again_on_images(
    machine, ask, make_raster, fp16_path, tmp_path
):
    ask().close()
    path, _ = make_raster(height=100, width=93)
    options = RunOptions(engine="trt", batch=3, plan_cache=ask.folder)
    for name in ("one.tif", "two.tif"):
        segment(fp16_path, [path], tmp_path / name, options)
    assert machine.builds == 1
    (sidecar,) = ask.folder.glob("*.json")
    facts = json.loads(sidecar.read_text())["facts"]
    assert (facts["origin"], facts["tiles"], facts["share"]) == ("images", 16, 1.0)


def test_without_onnx_runtime_the_reference_is_an_fp32_plan(machine, ask, monkeypatch):
    def absent():
        raise EngineError("ONNX Runtime is not usable")

    monkeypatch.setattr(onnx_runtime, "import_onnxruntime", absent)
    machine.spoil = lambda labels: np.where(labels == 3, 2, labels)
    with pytest.raises(EngineError, match="least for third .0.00%.*refused"):
        ask()
    assert machine.builds == 2
    assert [("FP16" in config._flags) for config in machine.configs] == [
        machine.release.startswith("8."), False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("CUBLAS", r"tactic source 'CUBLAS' is unknown: write \+ or - before one of CUBLAS, "),
        ("-CUFFT", r"tactic source '-CUFFT' is unknown"),
        ("", r"tactic source '' is unknown"),
    ],
)
def test_tactic_sources_are_spelt_as_in_trtexec(one_machine, ask, sources, message):
    with pytest.raises(EngineError, match=message):
        ask(tactic_sources=sources)


def test_a_source_that_a_release_lacks_cannot_be_added(machine, ask):
    if hasattr(machine.tensorrt.TacticSource, "CUDNN"):
        ask(tactic_sources="+CUDNN").close()
        return
    with pytest.raises(EngineError, match=r"CUDNN does not exist in TensorRT .*leave out \+CUDNN"):
        ask(tactic_sources="+CUDNN")


def test_an_fp32_model_names_the_command(machine, ask, tiny_path):
    with pytest.raises(
        EngineError,
        match=r"is fp32, .* flair-export \S+tiny.onnx --precision fp16 -o \S+tiny.fp16.onnx",
    ):
        ask(model=tiny_path)
    assert machine.builds == 0


def test_without_tensorrt_the_extra_and_the_index_are_named(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"'flair-engine\[trt\]' .*https://pypi.nvidia.com"):
        ask()


def test_arrays_go_through_tensorrt_too(machine, fp16_path, options, expected_cross):
    image = np.random.default_rng(5).integers(0, 256, (2, 70, 41), dtype=np.uint8)
    with Model(fp16_path, options) as model:
        assert (model.predict(image) == expected_cross(image)).all()
        assert (model.predict(image) == expected_cross(image)).all()


def test_the_order_of_tiles_does_not_matter(machine, ask):
    backend = ask()
    tiles = np.random.default_rng(1).integers(0, 256, (6, 2, 32, 32), dtype=np.uint8)

    def labels(order):
        found = {}
        for slot, group in zip(backend.slots, (order[:3], order[3:]), strict=True):
            slot.images_nchw[...] = tiles[group]
            slot.submit()
        for slot, group in zip(backend.slots, (order[:3], order[3:]), strict=True):
            found.update(zip(group, slot.wait()["labels"].copy(), strict=True))
        return [found[number] for number in range(6)]

    assert np.array_equal(labels([0, 1, 2, 3, 4, 5]), labels([5, 3, 1, 0, 2, 4]))
    backend.close()


def test_touching_a_slot_in_flight_is_caught(one_machine, ask):
    backend = ask()
    slot, _ = backend.slots
    slot.submit()
    slot.images_nchw[0] = 7
    with pytest.raises(fake_cuda.Hazard, match="changed while in flight"):
        slot.wait()


def test_the_command_line_says_what_it_builds_and_then_nothing_more(
    machine, make_raster, fp16_path, tmp_path, monkeypatch, expected_cross
):
    monkeypatch.setenv("FLAIR_PLAN_CACHE", str(tmp_path / "plans"))
    path, image = make_raster(height=100, width=93)
    arguments = ["--engine", "trt", "-m", fp16_path, path, tmp_path / "map.tif", "--overwrite"]
    first, second = (CliRunner().invoke(command, list(map(str, arguments))) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), (first.output, second.output)
    building, verdict = first.stderr.splitlines()
    assert building.startswith(
        "flair-run: note: building a TensorRT plan of tiny for NVIDIA Stand-in"
    )
    assert "100.000% of labels agree with FP32 on 16 tiles of images" in verdict
    assert second.stderr == ""
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == expected_cross(image)).all()
        assert "(cuda:0), plan " in dataset.tags()["FLAIR_ENGINE"]
        assert dataset.tags()["FLAIR_PRECISION"] == "fp16"


def test_the_names_are_those_of_the_real_bindings():
    folder = SHARED.parent / "tensorrt-api"
    if not folder.is_dir():
        pytest.skip(f"the full lists are not at {folder}")
    for release, classes in fake_tensorrt.NAMES.items():
        real = json.loads((folder / f"{release}.json").read_text())["classes"]
        for name, members in classes.items():
            assert members == sorted(real[name]), (release, name)
