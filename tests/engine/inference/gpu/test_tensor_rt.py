"""A TensorRT plan at work, on the stand-in for each release."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from flair_engine import Model, segment
from flair_engine.cli import command
from flair_engine.errors import EngineError, InferenceError

FAILURES = {
    "runtime": r"could not make a runtime",
    "deserialize": r"refuses it \(Serialization assertion failed: version tag does not match\)",
    "tensors": r"its tensors are labels, picture, the model's are image, labels, all uint8",
    "execution_context": r"out of memory for 2 slots of 3 tiles: Requested amount .*try --batch 1$",
    "set_input_shape": r"it does not serve batches of 3",
    "set_tensor_address": r"failed on a batch of 3 tiles of 32 px",
    "execute": r"failed on a batch of 3 tiles of 32 px: Cuda Runtime \(out of memory\): if memory",
    "page-locked": r"out of memory for 2 slots of 3 tiles: .*page-locked .*: try --batch 1$",
    "synchronize": r"cuda:0 \(NVIDIA Stand-in\) failed: .*illegal memory access",
}


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_map_is_the_same_with_any_number_of_slots(
    machine, make_raster, fp16_path, tmp_path, expected_cross, options, slots
):
    path, image = make_raster(height=100, width=93)
    report = segment(fp16_path, [path], tmp_path / "map.tif", replace(options, slots=slots))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == expected_cross(image)).all()
    assert (report.engine, report.device, report.slots) == ("trt", "cuda:0", slots)
    assert report.description.startswith(f"{machine.title} on NVIDIA Stand-in (cuda:0)")
    assert len(report.description.rpartition(", plan ")[2]) == 8
    batches = -(-report.tiles // 3)
    assert report.busy_s["copy-in"] == pytest.approx(0.001 * batches)
    assert report.busy_s["compute"] == pytest.approx(0.005 * batches)
    assert report.busy_s["copy-out"] == pytest.approx(0.002 * batches)


def test_arrays_go_through_tensorrt_too(machine, fp16_path, options, expected_cross):
    image = np.random.default_rng(5).integers(0, 256, (2, 70, 41), dtype=np.uint8)
    with Model(fp16_path, options) as model:
        assert (model.predict(image) == expected_cross(image)).all()
        assert (model.predict(image) == expected_cross(image)).all()


@pytest.mark.parametrize("call", FAILURES)
def test_every_failing_call_is_one_line_and_keeps_no_plan(machine, ask, call):
    machine.fail.add(call)
    with pytest.raises(EngineError, match=FAILURES[call]) as caught:
        ask(tactic_sources="-JIT_CONVOLUTIONS")
    assert len(str(caught.value).splitlines()) == 1
    assert not list(ask.folder.glob("*.plan"))


def test_a_failure_on_the_way_is_an_inference_error(machine, ask):
    backend = ask()
    machine.fail.add("execute")
    with pytest.raises(InferenceError, match="TensorRT .* failed on a batch of 3 tiles"):
        backend.slots[0].submit()
    backend.close()
    backend.close()


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
        assert " on NVIDIA Stand-in, plan " in dataset.tags()["FLAIR_ENGINE"]
        assert dataset.tags()["FLAIR_PRECISION"] == "fp16"
