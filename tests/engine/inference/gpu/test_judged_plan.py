"""The plan that serves a request, and what is asked of a new one."""

import fcntl
import json

import numpy as np
import pytest
from doubles import fake_tensorrt

from flair_engine import RunOptions, segment
from flair_engine.errors import EngineError
from flair_engine.inference import onnx_runtime


def test_a_plan_is_built_once_and_described(machine, ask):
    ask().close()
    ask().close()
    assert machine.builds == 1
    (sidecar,) = ask.folder.glob("*.json")
    description = json.loads(sidecar.read_text())
    key, facts = description["key"], description["facts"]
    assert (key["library"], key["tensorrt"]) == (machine.tensorrt.__name__, machine.release)
    assert key["flags"].endswith("for 8.9" if machine.is_rtx else "tactic sources default")
    assert key["profile"] == "image 3x2x32x32"
    assert (key["gpu"], key["compute_capability"], key["multiprocessors"]) == (
        "NVIDIA Stand-in", "8.9" if machine.is_rtx else "9.0", 132,
    )  # fmt: skip
    assert facts["origin"] == "noise"
    assert (facts["different"], facts["lower"]) == (0, 0)
    assert set(facts["share_by_class"]) == {"first", "third"}
    assert "there is none yet" in ask.lines[0]
    assert "100.000% of labels agree with FP32 on 4 tiles of noise" in ask.lines[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 4}, "profile image 3x2x32x32 instead of image 4x2x32x32"),
        ({"tactic_sources": "-JIT_CONVOLUTIONS"}, "tactic sources default"),
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


def test_a_plan_that_another_process_builds_is_waited_for(one_machine, ask):
    ask().close()
    (path,) = ask.folder.glob("*.plan")
    plan = path.read_bytes()
    path.unlink()
    said = []
    with path.with_suffix(".lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def finish(line):
            said.append(line)
            path.write_bytes(plan)
            fcntl.flock(lock, fcntl.LOCK_UN)

        ask(notify=finish).close()
    assert said == ["another process is building this plan: waiting for it"]
    assert one_machine.builds == 1


@pytest.mark.parametrize("schema", [None, 2])
def test_a_plan_kept_by_another_version_is_built_again(one_machine, ask, schema):
    ask().close()
    (sidecar,) = ask.folder.glob("*.json")
    description = json.loads(sidecar.read_text()) | {"schema": schema}
    sidecar.write_text(json.dumps(description))
    ask().close()
    ask().close()
    assert one_machine.builds == 2
    assert f"{sidecar} was made by another version of flair-engine" in ask.lines[2]


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
    assert (facts["origin"], facts["tiles"], facts["different"]) == ("images", 16, 0)


def test_without_onnx_runtime_the_reference_is_an_fp32_plan(machine, ask, monkeypatch):
    def absent():
        raise EngineError("ONNX Runtime is not usable", "install it")

    monkeypatch.setattr(onnx_runtime, "import_onnxruntime", absent)
    machine.spoil = lambda labels: np.where(labels == 3, 2, labels)
    with pytest.raises(EngineError, match="least for third .0.00%.*refused"):
        ask()
    assert machine.builds == 2
    assert [("FP16" in config._flags) for config in machine.configs] == [
        machine.release.startswith("8."), False,
    ]  # fmt: skip


def test_an_fp32_model_names_the_command(machine, ask, tiny_path):
    with pytest.raises(
        EngineError,
        match=r"is fp32, .* flair-export \S+tiny.onnx --precision fp16 -o \S+tiny.fp16.onnx",
    ):
        ask(model=tiny_path)
    assert machine.builds == 0
