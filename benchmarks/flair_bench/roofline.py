"""What the arithmetic and the memory traffic of an exported graph allow on a given machine.

A bound, computed: each convolution or product takes the longer of its arithmetic at the machine's
peak and its reads and writes at full bandwidth; what engines merge into its neighbour costs
nothing. No engine reaches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Sequence

PRODUCTS = ("Conv", "MatMul", "Gemm")
MOVERS = ("Resize", "MaxPool", "ArgMax", "Softmax", "Slice", "Transpose")
"""Operations that pass over memory on their own; the rest is taken for merged."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Published peaks of a processor."""

    name: str
    tflops: float
    """Dense, 10^12 operations per second."""
    terabytes: float
    """Memory, 10^12 bytes per second."""


PEAKS = (
    Peak("V100 PCIe 16 GB", 112, 0.9),
    Peak("A100 PCIe 40 GB", 312, 1.555),
    Peak("A100 SXM 80 GB", 312, 2.039),
    Peak("H100 SXM 80 GB", 989, 3.35),
    Peak("H200 SXM 141 GB", 989, 4.8),
)
"""FP16 tensor cores without sparsity, from NVIDIA's data sheets."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The work of one node on one tile."""

    kind: str
    operations: int
    """A multiplication and its addition count as two."""
    values: int
    """Read and written, weights apart."""


def layers(model: onnx.ModelProto) -> list[Layer]:
    """Return the nodes that cost something, for a batch of one."""
    shapes = _shapes_of_one_tile(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in (*PRODUCTS, *MOVERS):
            continue
        names = [name for name in (*node.input, *node.output) if name and name not in weights]
        values = sum(math.prod(shapes[name]) for name in names if name in shapes)
        found.append(Layer(node.op_type, _operations(node, shapes), values))
    return found


def seconds_at_best(work: Sequence[Layer], peak: Peak, value_bytes: int) -> float:
    """Return the bound on the seconds of one tile, `value_bytes` per value moved."""
    return sum(
        max(layer.operations / peak.tflops, layer.values * value_bytes / peak.terabytes) / 1e12
        for layer in work
    )


def bounds(model: onnx.ModelProto, core_px: int) -> list[dict[str, Any]]:
    """Return what FP16 on each of PEAKS could do with one tile, as JSON."""
    work = layers(model)
    seconds = {peak.name: seconds_at_best(work, peak, value_bytes=2) for peak in PEAKS}
    return [
        {"name": name, "tiles_per_s": 1 / s, "new_mpx_per_s": core_px**2 / 1e6 / s}
        for name, s in seconds.items()
    ]


def _operations(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in PRODUCTS:
        return 0
    left, right = (shapes[name] for name in node.input[:2])
    if node.op_type == "Conv":
        depth = math.prod(right[1:])  # input channels of the group, rows and columns of the kernel
    else:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        depth = left[-2 if attributes.get("transA") else -1]
    return 2 * depth * math.prod(shapes[node.output[0]])


def _shapes_of_one_tile(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
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
