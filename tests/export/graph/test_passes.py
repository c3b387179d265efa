"""Steps of a rewrite on graphs of a few nodes."""

from __future__ import annotations

import numpy as np
import onnx
from doubles.small_graphs import SmallGraph, assert_same, operators
from onnx import TensorProto, helper, numpy_helper

from flair_export.graph.passes import (
    add_weight,
    attributes_of,
    constants_of,
    constants_to_weights,
    copied,
    copied_node,
    readers_of,
    rebuild,
    rename,
    replaced,
    weights_of,
)


def branches() -> tuple[SmallGraph, str, str]:
    """Return a graph of two convolutions that both read the image, and their names."""
    small = SmallGraph(6, 5)
    return small, small.conv("image"), small.conv("image")


def test_a_copy_shares_nothing():
    small, one, _ = branches()
    model = small.model(one)
    before = model.SerializeToString()
    copy = copied(model)
    assert copy == model
    copy.graph.node[0].input[0] = "other"
    node = copied_node(model.graph.node[0])
    node.input[0] = "other"
    assert model.SerializeToString() == before


def test_readers_come_in_the_order_of_the_graph():
    small, one, other = branches()
    model = small.model(one, other)
    readers = readers_of(model.graph)
    assert [node.op_type for node in readers["image"]] == ["Conv", "Conv"]
    assert readers[one] == []


def test_attributes_are_python_values():
    node = helper.make_node("Conv", ["x"], ["y"], pads=[1, 1, 1, 1], group=2, auto_pad="NOTSET")
    assert attributes_of(node) == {"pads": [1, 1, 1, 1], "group": 2, "auto_pad": b"NOTSET"}


def test_weights_keep_type_shape_and_number_of_axes():
    weights = {}
    assert add_weight(weights, "scalar", np.float32(3)) == "scalar"
    add_weight(weights, "turned", np.arange(6, dtype=np.int8).reshape(2, 3).T)
    assert weights["scalar"].dims == []
    assert weights["scalar"].data_type == TensorProto.FLOAT
    np.testing.assert_array_equal(
        numpy_helper.to_array(weights["turned"]), [[0, 3], [1, 4], [2, 5]]
    )


def with_constant_node() -> onnx.ModelProto:
    small = SmallGraph(6, 5)
    value = numpy_helper.from_array(np.full((1, 2, 1, 1), 3, np.float32))
    factor = small.node("Constant", [], (1, 1), value=value)
    offset = small.constant(np.float32(1))
    product = small.node("Mul", ["image", factor], (6, 5))
    return small.model(small.node("Add", [product, offset], (6, 5)))


def test_constants_are_those_of_weights_and_of_nodes():
    model = with_constant_node()
    found = constants_of(model.graph)
    assert {name: value.ravel().tolist() for name, value in found.items()} == {
        "constant0": [1.0],
        "Constant0": [3.0, 3.0],
    }


def test_constant_nodes_become_weights():
    model = with_constant_node()
    changed = copied(model)
    constants_to_weights(changed.graph)
    assert operators(changed) == ["Mul", "Add"]
    assert list(weights_of(changed.graph)) == ["constant0", "Constant0"]
    assert_same(model, changed)


def test_what_no_output_depends_on_is_dropped_with_its_weights():
    small, one, _ = branches()
    model = small.model(one)
    assert len(model.graph.node) == 4
    rebuild(model.graph, model.graph.node, model.graph.initializer)
    assert operators(model) == ["Conv", "Clip"]
    assert list(weights_of(model.graph)) == ["constant0", "constant1", "constant2"]


def test_noted_shapes_are_forgotten():
    small, one, _ = branches()
    model = onnx.shape_inference.infer_shapes(small.model(one))
    assert model.graph.value_info
    rebuild(model.graph, model.graph.node, model.graph.initializer)
    assert not model.graph.value_info


def test_a_node_is_replaced_by_others_and_the_model_left_alone():
    small, one, _ = branches()
    model = small.model(one)
    before = model.SerializeToString()

    def replace(node, weights):
        if node.op_type != "Clip":
            return [node]
        factor = add_weight(weights, "two", np.float32(2))
        doubled = helper.make_node("Mul", [node.input[0], factor], ["doubled"])
        node.input[0] = "doubled"
        return [doubled, node]

    changed = replaced(model, replace)
    assert operators(changed) == ["Conv", "Mul", "Clip"]
    assert list(weights_of(changed.graph))[-1] == "two"
    onnx.checker.check_model(changed, full_check=True)
    assert model.SerializeToString() == before


def test_tensors_are_renamed_where_they_are_made_and_read():
    small, one, _ = branches()
    model = small.model(one)
    rename(model.graph.node, {"Conv0": "sums", "absent": "ignored"})
    assert model.graph.node[0].output[0] == model.graph.node[1].input[0] == "sums"
