"""The trivial model says which band is brightest."""

import numpy as np
import onnx
import pytest

from flair_bench.measure.trivial_model import trivial_spec, write_trivial_model
from flair_engine import Model, RunOptions
from flair_engine.manifest import ELEVATION, OUTPUT_NAMES
from flair_export.graph.contract import check_graph

CPU = RunOptions(engine="ort", device="cpu", threads=1)


@pytest.mark.parametrize("bands", [3, 5])
def test_it_says_which_band_is_brightest(tmp_path, bands):
    image = np.random.default_rng(8).integers(0, 256, (bands, 90, 70), dtype=np.uint8)
    path = write_trivial_model(tmp_path / "trivial.onnx", bands)
    with Model(path, CPU) as model:
        assert (model.predict(image) == image.argmax(0) + 1).all()


def test_it_keeps_the_contract_of_exported_files(tmp_path):
    path = write_trivial_model(tmp_path / "trivial.onnx", 5)
    check_graph(onnx.load(path), trivial_spec(5))


def test_none_of_its_bands_is_height_that_the_engine_would_check():
    assert ELEVATION not in trivial_spec(5).bands


def test_its_other_outputs_are_its_bands(tmp_path):
    image = np.random.default_rng(9).integers(0, 256, (5, 60, 50), dtype=np.uint8)
    with Model(write_trivial_model(tmp_path / "all.onnx", 5, OUTPUT_NAMES), CPU) as model:
        found = model.predict_all(image)
    assert (found["labels"] == image.argmax(0) + 1).all()
    assert (found["confidence"] == image[0]).all()
    assert (found["probabilities"] == image[np.arange(19) % 5]).all()
