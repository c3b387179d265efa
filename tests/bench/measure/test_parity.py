"""Parity finds a broken model, and says nothing of a sound one."""

from dataclasses import replace
from types import SimpleNamespace

import onnx
import pytest
from doubles.figures import parity as parity_of_one_engine
from doubles.networks import shift_bias

from flair_bench.errors import ModelError
from flair_bench.measure import parity
from flair_bench.measure.engines import Choice
from flair_engine.errors import EngineError

ORT = [Choice("ort")]


@pytest.fixture
def broken(exported, tmp_path):
    """The model with one class favoured."""
    model = onnx.load(exported(8))
    shift_bias(model, 4, 1.0)
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    return path


def test_a_sound_model_agrees(network, exported, image_file):
    figures = parity.measure(network, exported(8), [image_file[0]], ORT)
    assert figures.engines["ort"].agreement >= 0.9999
    assert figures.pixels == sum(figures.leads) == 96 * 80
    assert figures.logit_p999 <= figures.logit_largest < 1e-4
    assert parity.faults(figures) == []


def test_a_broken_model_is_found(network, broken, image_file):
    figures = parity.measure(network, broken, [image_file[0]], ORT)
    found = figures.engines["ort"]
    assert found.agreement < 0.99
    assert found.different == sum(found.flipped_by_lead)
    assert 0 <= found.lower <= found.different
    assert found.different == sum(entry.different for entry in found.classes.values())
    assert figures.logit_largest == pytest.approx(1.0, abs=1e-4)
    assert 0 < found.largest_lead_lost <= 1.0001, "a shift of 1 flips no wider lead"
    assert {flip.found for flip in found.flips} == {"water"}
    assert "have to" in parity.faults(figures)[0]
    assert parity.faults(figures, tolerance=0.01) == []


def test_an_engine_that_leans_is_a_fault():
    sound = replace(
        parity_of_one_engine().engines["ort"], agreement=0.9999, different=2000, lower=1000
    )
    leaning = replace(sound, lower=1900)
    older = replace(sound, lower=None)
    figures = SimpleNamespace(
        pixels=10**6, engines={"a": sound, "openvino bf16": leaning, "b": older}
    )
    (fault,) = parity.faults(figures)
    assert fault.startswith(
        "openvino bf16: 95% of the 2,000 labels that differ are the lower class"
    )
    assert (sound.lean, leaning.lean, older.lean) == (0.5, 0.95, None)


def test_the_tile_that_differs_most_is_shown(network, broken, image_file):
    shown = parity.measure(network, broken, [image_file[0]], ORT).map
    expected, found = shown.reference.unpacked(), shown.engine.unpacked()
    assert (expected != found).any()
    assert shown.image.unpacked().shape == (3, *expected.shape)
    assert shown.colors["5"] == "#1553ae"


def test_a_model_that_nothing_can_run_is_refused(exported, image_file, network, monkeypatch):
    def refuse(*_):
        raise EngineError("no such thing here", "get one")

    monkeypatch.setattr("flair_bench.measure.engines.opened", refuse)
    with pytest.raises(ModelError, match=r"no engine can run .*: no such thing here"):
        parity.measure(network, exported(8), [image_file[0]], ORT)
