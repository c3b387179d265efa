"""Arithmetic of an exported graph, counted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flair_export.graph.passes import attributes_of
from flair_export.graph.shapes import shapes_of_one_tile

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from flair_export.graph.shapes import TensorShape

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operations that convolve or multiply matrices."""


def gflop_per_tile(model: onnx.ModelProto) -> float:
    """Return the 10^9 floating-point operations of one tile: convolutions and matrix products.

    A multiplication and its addition count as two. Everything else is a few percent more.
    """
    shapes = shapes_of_one_tile(model)
    return sum(operations(node, shapes) for node in model.graph.node) / 1e9


def operations(node: onnx.NodeProto, shapes: Mapping[str, TensorShape]) -> int:
    """Return those of one node, 0 where it neither convolves nor multiplies matrices."""
    if node.op_type not in PRODUCTS:
        return 0
    left, right = (shapes[name] for name in node.input[:2])
    if node.op_type == "ConvTranspose":
        return 2 * math.prod(left) * math.prod(right[1:])
    if node.op_type == "Conv":
        depth = math.prod(right[1:])  # input channels of the group, rows and columns of the kernel
    else:
        depth = left[-2 if attributes_of(node).get("transA") else -1]
    return 2 * depth * math.prod(shapes[node.output[0]])
