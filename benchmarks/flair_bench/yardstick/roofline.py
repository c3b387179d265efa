"""What the arithmetic and the memory traffic of an exported graph allow on a given machine.

A bound, computed: each convolution or product takes the longer of its arithmetic at the machine's
peak and its reads and writes at full bandwidth; what engines merge into its neighbour costs
nothing. No engine reaches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flair_export.graph.flops import operations, shapes_of_one_tile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
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
class NodeWork:
    """The work of one node on one tile."""

    kind: str
    operations: int
    """A multiplication and its addition count as two."""
    values: int
    """Read and written, weights apart."""


def node_work(model: onnx.ModelProto) -> list[NodeWork]:
    """Return the nodes that cost something, for a batch of one."""
    shapes = shapes_of_one_tile(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:  # integers as the numbers they stand for
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights.update(node.output)
    found = []
    for node in model.graph.node:
        if node.op_type not in (*PRODUCTS, *MOVERS):
            continue
        names = [name for name in (*node.input, *node.output) if name and name not in weights]
        values = sum(math.prod(shapes[name]) for name in names if name in shapes)
        found.append(NodeWork(node.op_type, operations(node, shapes), values))
    return found


def seconds_at_best(work: Sequence[NodeWork], peak: Peak, value_bytes: int) -> float:
    """Return the bound on the seconds of one tile, `value_bytes` per value moved."""
    return sum(
        max(layer.operations / peak.tflops, layer.values * value_bytes / peak.terabytes) / 1e12
        for layer in work
    )


def bounds(model: onnx.ModelProto, core_px: int) -> list[dict[str, Any]]:
    """Return what FP16 on each of PEAKS could do with one tile, as JSON."""
    work = node_work(model)
    seconds = {peak.name: seconds_at_best(work, peak, value_bytes=2) for peak in PEAKS}
    return [
        {"name": name, "tiles_per_s": 1 / s, "new_mpx_per_s": core_px**2 / 1e6 / s}
        for name, s in seconds.items()
    ]
