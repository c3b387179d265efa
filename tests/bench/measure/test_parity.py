"""Parity finds a broken model, and says nothing of a sound one."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from flair_bench.errors import ModelError
from flair_bench.measure import parity
from flair_bench.measure.engines import Choice, chosen, every_choice, probe
from flair_bench.yardstick.networks import reference_network, whole_raster_labels
from flair_engine import read_model_spec
from flair_engine.errors import EngineError

ORT = [Choice("ort")]


@pytest.fixture
def broken(exported, tmp_path):
    """The model with one class favoured."""
    model = onnx.load(exported(8))
    bias = next(node for node in model.graph.node if node.op_type == "Conv").input[2]
    tensor = next(t for t in model.graph.initializer if t.name == bias)
    values = numpy_helper.to_array(tensor).copy()
    values[4] += 1.0
    tensor.CopyFrom(numpy_helper.from_array(values, bias))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    return path


def test_a_sound_model_agrees(network, exported, image_file):
    figures = parity.measure(network, exported(8), [image_file[0]], ORT)
    assert figures["engines"]["ort"]["agreement"] >= 0.9999
    assert figures["pixels"] == sum(figures["margins"]) == 96 * 80
    assert figures["logit_p999"] <= figures["logit_largest"] < 1e-4
    assert parity.faults(figures) == []


def test_a_broken_model_is_found(network, broken, image_file):
    figures = parity.measure(network, broken, [image_file[0]], ORT)
    found = figures["engines"]["ort"]
    assert found["agreement"] < 0.99
    assert found["different"] == sum(found["flipped_by_margin"])
    assert found["different"] == sum(entry["different"] for entry in found["classes"].values())
    assert figures["logit_largest"] == pytest.approx(1.0, abs=1e-4)
    assert 0 < found["largest_margin_lost"] <= 1.0001, "a shift of 1 flips no wider margin"
    assert {pair[1] for pair in found["flips"]} == {"water"}
    assert "have to" in parity.faults(figures)[0]
    assert parity.faults(figures, tolerance=0.01) == []


def test_maps_come_back_as_they_were(network, broken, image_file):
    figures = parity.measure(network, broken, [image_file[0]], ORT)
    expected, found = (parity.unpacked(figures["map"][name]) for name in ("reference", "engine"))
    assert (expected != found).any()
    assert parity.unpacked(figures["map"]["image"]).shape == (3, *expected.shape)


def test_engines_that_cannot_run_are_named(exported, image_file, network, monkeypatch):
    def refuse(*_):
        raise EngineError("no such thing here")

    monkeypatch.setattr("flair_bench.measure.engines.opened", refuse)
    usable, missing = probe(exported(8), read_model_spec(exported(8)), every_choice())
    assert usable == []
    assert set(missing.values()) == {"no such thing here"}
    with pytest.raises(ModelError, match=r"no engine can run .*: no such thing here"):
        parity.measure(network, exported(8), [image_file[0]], ORT)


def test_engines_are_chosen_by_label():
    assert chosen([]) == every_choice()
    assert [choice.label for choice in chosen(["ort"])] == ["ort"]
    assert chosen(["ort"])[0].arguments() == ["--engine", "ort"]
    with pytest.raises(EngineError, match=r"engine 'warp' is unknown: choose from .*ort"):
        chosen(["warp"])


def test_another_checkpoint_is_refused(exported, monkeypatch):
    class Read:
        sha256 = "1" * 64

    monkeypatch.setattr("flair_bench.yardstick.networks.read_checkpoint", lambda _: Read)
    with pytest.raises(ModelError, match=r"SHA-256 is 1{12}…, .* exported from 0{12}…"):
        reference_network("weights.pth", exported(8))


def test_the_whole_raster_is_the_tile_where_there_is_only_one(network, exported):
    image = np.random.default_rng(1).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    spec = read_model_spec(exported(0))
    from flair_engine import Model

    with Model(exported(0)) as model:
        assert (whole_raster_labels(network, spec, image) == model.predict(image)).all()
