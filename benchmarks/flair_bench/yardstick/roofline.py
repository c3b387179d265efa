"""Bounds that arithmetic and memory traffic of an exported graph set on a given machine.

Computed, not measured: each convolution or product takes the longer of its arithmetic at the
machine's peak and its reads and writes at full bandwidth; what engines merge into its neighbour
costs nothing. No engine reaches it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_bench.figures import Bound
from flair_export.graph.flops import PRODUCTS, operations
from flair_export.graph.shapes import shapes_of_one_tile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

MOVERS = ("Resize", "MaxPool", "ArgMax", "Softmax", "Slice", "Transpose")
"""Operations that pass over memory on their own; the rest is taken for merged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """Published peaks of a processor."""

    name: str
    tflops: float
    """Dense, 10^12 operations per second."""
    terabytes: float
    """Memory, 10^12 bytes per second."""


PEAKS = (
    Peak(name="V100 PCIe 16 GB", tflops=112, terabytes=0.9),
    Peak(name="A100 PCIe 40 GB", tflops=312, terabytes=1.555),
    Peak(name="A100 SXM 80 GB", tflops=312, terabytes=2.039),
    Peak(name="H100 SXM 80 GB", tflops=989, terabytes=3.35),
    Peak(name="H200 SXM 141 GB", tflops=989, terabytes=4.8),
)
"""FP16 tensor cores without sparsity, from NVIDIA's data sheets."""


@dataclass(frozen=True, kw_only=True, slots=True)
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
    for node in model.graph.node:  # INT8 as the numbers it stands for
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights.update(node.output)
    found = []
    for node in model.graph.node:
        if node.op_type not in (*PRODUCTS, *MOVERS):
            continue
        names = [name for name in (*node.input, *node.output) if name and name not in weights]
        values = sum(math.prod(shapes[name]) for name in names if name in shapes)
        found.append(
            NodeWork(kind=node.op_type, operations=operations(node, shapes), values=values)
        )
    return found


def seconds_at_best(work: Sequence[NodeWork], peak: Peak, value_bytes: int) -> float:
    """Return the bound on the seconds of one tile, `value_bytes` per value moved."""
    return sum(
        max(layer.operations / peak.tflops, layer.values * value_bytes / peak.terabytes) / 1e12
        for layer in work
    )


def bounds(model: onnx.ModelProto, core_px: int) -> tuple[Bound, ...]:
    """Return what FP16 on each of PEAKS could do with one tile."""
    work = node_work(model)
    seconds = {peak.name: seconds_at_best(work, peak, value_bytes=2) for peak in PEAKS}
    return tuple(
        Bound(name=name, tiles_per_s=1 / s, new_mpx_per_s=core_px**2 / 1e6 / s)
        for name, s in seconds.items()
    )
