"""Count the arithmetic of an exported graph."""

from __future__ import annotations

import math

import onnx

from flair_export.rewrite.graph_reader import attributes_of


def gflop_per_tile(model: onnx.ModelProto) -> float:
    """Return the 10^9 floating-point operations of one tile: convolutions and matrix products.

    A multiplication and its addition count as two. Everything else is a few percent more.
    """
    shapes = shapes_of_one_tile(model)
    return sum(operations(node, shapes) for node in model.graph.node) / 1e9


def operations(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Return those of one node, 0 where it neither convolves nor multiplies matrices."""
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    left, right = (shapes[name] for name in node.input[:2])
    if node.op_type == "ConvTranspose":
        return 2 * math.prod(left) * math.prod(right[1:])
    if node.op_type == "Conv":
        depth = math.prod(right[1:])  # input channels of the group, rows and columns of the kernel
    else:
        depth = left[-2 if attributes_of(node).get("transA") else -1]
    return 2 * depth * math.prod(shapes[node.output[0]])


def shapes_of_one_tile(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor at a batch of one."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]  # they may still carry the free batch axis
    graph = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes
