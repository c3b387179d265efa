"""Ranges against what numpy finds in the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flair_export.convert.ranges import measured_ranges
from flair_export.errors import ExportError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiles():
    return np.random.default_rng(4).integers(0, 256, (3, 2, 32, 32), dtype=np.uint8)


def test_ranges_are_over_all_tiles_and_the_model_is_left_alone(tiny_path, tiles):
    model = onnx.load(tiny_path)
    before = model.SerializeToString()
    quiet = np.zeros_like(tiles[0])
    ranges = measured_ranges(model, ["pixels", "number"], [quiet, *tiles])
    assert ranges == {"pixels": (0.0, float(tiles.max())), "number": (0.0, 1.0)}
    assert measured_ranges(model, ["pixels"], [quiet]) == {"pixels": (0.0, 0.0)}
    assert model.SerializeToString() == before


def test_numbers_that_are_undefined_are_refused(tiny_path, tiles):
    model = onnx.load(tiny_path)
    box = next(tensor for tensor in model.graph.initializer if tensor.name == "box")
    infinite = np.full(tuple(box.dims), np.inf, np.float32)
    box.CopyFrom(onnx.numpy_helper.from_array(infinite, "box"))
    with pytest.raises(ExportError, match="infinite or undefined numbers already in FP32"):
        measured_ranges(model, ["sums"], tiles)
