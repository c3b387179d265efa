"""Shapes and types of the tensors of a graph, as ONNX infers them."""

from __future__ import annotations

import onnx

from flair_export.graph.passes import copied, weights_of

TensorShape = tuple[int, ...]


def shapes_of(model: onnx.ModelProto, *, strict: bool = False) -> dict[str, TensorShape]:
    """Return the shape of every tensor whose shape is known, by name; 0 stands for a free axis.

    With `strict`, raises onnx.shape_inference.InferenceError where inference fails at a node.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True).graph
    shapes = {name: tuple(tensor.dims) for name, tensor in weights_of(graph).items()}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def shapes_of_one_tile(model: onnx.ModelProto) -> dict[str, TensorShape]:
    """Return the shape of every tensor at a batch of one, by name."""
    single = copied(model)
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]  # they may still carry the free batch axis
    return shapes_of(single, strict=True)


def fp32_activations(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of the FP32 tensors that nodes make, outputs of the model aside."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    made = {name for node in model.graph.node for name in node.output}
    return frozenset(
        value.name
        for value in inferred.value_info
        if value.name in made and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
