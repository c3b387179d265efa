"""Counted operations against products written out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from flair_export.graph.flops import gflop_per_tile

NODES = {
    "convolution": (helper.make_node("Conv", ["image", "w"], ["y"], group=2), (6, 2, 3, 5),
                    6 * 8 * 6 * 2 * 3 * 5),
    "transposed": (helper.make_node("ConvTranspose", ["image", "w"], ["y"], strides=[2, 2]),
                   (4, 3, 2, 5), 4 * 10 * 10 * 3 * 2 * 5),
    "product": (helper.make_node("MatMul", ["image", "w"], ["y"]), (10, 7), 4 * 10 * 7 * 10),
    "activation": (helper.make_node("Relu", ["image"], ["y"]), (1,), 0),
}  # fmt: skip


@pytest.mark.parametrize("kind", NODES)
def test_one_node_counts_its_products_and_sums(kind):
    node, shape, products = NODES[kind]
    weight = numpy_helper.from_array(np.zeros(shape, np.float32), "w")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 4, 10, 10])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None, None, None])
    model = helper.make_model(helper.make_graph([node], "one", [image], [y], [weight]))
    assert gflop_per_tile(model) == pytest.approx(2 * products / 1e9)
