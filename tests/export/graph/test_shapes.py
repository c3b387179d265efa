"""Shapes and types as ONNX infers them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from doubles.small_graphs import SmallGraph
from onnx import TensorProto

from flair_export.graph.shapes import fp32_activations, shapes_of, shapes_of_one_tile


def test_every_tensor_has_its_shape_and_a_free_axis_is_0():
    small = SmallGraph(6, 5)
    made = small.conv("image")
    shapes = shapes_of(small.model(made))
    assert shapes["image"] == shapes["Conv0"] == (0, 2, 6, 5)
    assert shapes["constant0"] == (2, 2, 3, 3)
    assert shapes["constant1"] == ()


def test_one_tile_is_a_batch_of_one():
    small = SmallGraph(6, 5)
    model = onnx.shape_inference.infer_shapes(small.model(small.conv("image")))
    shapes = shapes_of_one_tile(model)
    assert shapes["image"] == shapes["Conv0"] == (1, 2, 6, 5)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_strict_inference_fails_where_shapes_do_not_fit():
    small = SmallGraph(6, 5)
    row = small.constant(np.ones(5, np.float32))
    model = small.model(small.node("Add", ["image", row], (6, 5)))
    small_row = np.ones(4, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(small_row, row))
    assert shapes_of(model)["image"] == (0, 2, 6, 5)
    with pytest.raises(onnx.shape_inference.InferenceError, match="Incompatible dimensions"):
        shapes_of(model, strict=True)


def test_fp32_activations_are_what_nodes_make_in_between():
    small = SmallGraph(6, 5)
    counts = small.node("Cast", [small.conv("image")], (6, 5), to=TensorProto.INT32)
    made = small.node("Cast", [counts], (6, 5), to=TensorProto.FLOAT)
    assert fp32_activations(small.model(made)) == {"Conv0", "Clip1"}
