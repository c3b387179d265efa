"""Models made to do harm: one line, the right exit code, and no map."""

import json

import numpy as np
import onnx
import pytest
from doubles.field import flair_run, noise, said, write
from onnx import TensorProto, helper, numpy_helper

from flair_engine import Model, RunOptions
from flair_engine.errors import InferenceError


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "image.tif", noise(2, 60, 50))


@pytest.fixture
def spoiled(band_model, tmp_path):
    """Write a model of two bands that a function has changed."""

    def make(spoil):
        model = onnx.load(band_model("red", "green"))
        spoil(model)
        path = tmp_path / "hostile.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def answers(first):
    """Let the model answer `first` for class 1, and 2 more for class 3."""

    def spoil(model):
        one = next(t for t in model.graph.initializer if t.name == "one")
        one.CopyFrom(numpy_helper.from_array(np.array(first, np.float32), "one"))

    return spoil


@pytest.mark.parametrize(("first", "label"), [(201, 201), (0, 0), (2, 2), (254, 0)])
def test_labels_that_the_manifest_does_not_have_are_never_written(
    spoiled, image, tmp_path, first, label
):
    """Classes are 1 and 3; 2 is inactive, 0 would be nodata; 256 is 0 in eight bits."""
    model, output = spoiled(answers(first)), tmp_path / "map.tif"
    line = said(flair_run("-m", model, image, output), 1)
    assert "the model answers label" in line
    assert not output.exists()
    with (
        Model(model, RunOptions(engine="ort", device="cpu")) as loaded,
        pytest.raises(InferenceError, match=f"answers label ({label}|{first})"),
    ):
        loaded.predict(noise(2, 60, 50))


def in_manifest(change):
    def spoil(model):
        entry = next(e for e in model.metadata_props if e.key == "flair")
        value = json.loads(entry.value)
        change(value)
        entry.value = json.dumps(value)

    return spoil


def as_manifest(text):
    def spoil(model):
        next(e for e in model.metadata_props if e.key == "flair").value = text

    return spoil


def external(model):
    tensor = next(t for t in model.graph.initializer if t.name == "box")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../../etc/passwd")


def of_operator(operator):
    def spoil(model):
        model.graph.node.append(helper.make_node(operator, ["starts"], ["huge"]))

    return spoil


HOSTILE = {
    "weights elsewhere": (external, "weights lie in another file (box)"),
    "loop": (of_operator("Loop"), "operators that no model of flair-export has (Loop)"),
    "made-up numbers": (of_operator("ConstantOfShape"), "has (ConstantOfShape)"),
    "huge tile": (in_manifest(lambda v: v.update(tile_px=1_048_576)), "more than 8192 px"),
    "terminal": (in_manifest(lambda v: v.update(name="\x1b[2J")), r'name is "\u001b[2J", expected'),
    "surrogate": (in_manifest(lambda v: v["classes"][0].update(name="\ud800")), "classes is"),
    "deep": (as_manifest("[" * 100_000), "nested deeper than 32 levels"),
    "long number": (as_manifest('{"schema": ' + "2" * 400 + "}"), "a number of 400 digits"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_model_is_refused_before_any_runtime_sees_it(
    spoiled, image, tmp_path, monkeypatch, kind
):
    def seen(*_arguments):
        raise AssertionError("a runtime was asked")

    monkeypatch.setattr("flair_engine.run.load", seen)
    spoil, why = HOSTILE[kind]
    output = tmp_path / "map.tif"
    line = said(flair_run("-m", spoiled(spoil), image, output), 2)
    assert why in line
    assert line.isprintable()
    assert not output.exists()
    assert {path.suffix for path in tmp_path.iterdir()} == {".onnx", ".tif"}
