"""Conversion of an FP32 ONNX graph to one whose wide convolutions multiply 8-bit integers.

Around each such convolution stand the QuantizeLinear and DequantizeLinear nodes that ONNX Runtime
and OpenVINO turn into INT8 arithmetic: on its input, its output and its constants. Real value =
scale * (integer - zero point), with the scale and zero point of a tensor from its smallest and
largest value on real images. The sums of two branches, and all that is narrow, stay FP32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flair_engine.manifest import attach_manifest, spec_of
from flair_export.errors import OptionError
from flair_export.graph.contract import fp32_spec
from flair_export.graph.passes import (
    add_weight,
    attributes_of,
    copied,
    readers_of,
    rebuild,
    weights_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flair_export.graph.passes import Weights

LEAST_CHANNELS = 64
"""Convolutions that read or make fewer channels stay FP32: they gain little, and lie next to the
image or the logits, where rounding costs most labels."""
RANGE_FACTOR = 1.5
"""Ranges are widened so much: images that were not measured reach further, and a value that is cut
off costs more labels than a coarser step. benchmarks/LOG.md has what others give."""
WEIGHT_MAX = 64
"""Largest integer a weight becomes. A CPU without VNNI adds two products of uint8 and int8 in 16
signed bits (`pmaddubsw`), which 2 * 255 * 64 = 32640 cannot overflow."""
ACTIVATION_MAX = 255
BIAS_MAX = 2**30
"""Largest integer a bias becomes; the sum it is added to has 32 signed bits."""

Scale: TypeAlias = tuple[np.float32, np.uint8]
"""Scale and zero point of a tensor: real value = scale * (integer - zero point)."""


@dataclass(frozen=True, slots=True)
class Int8Graph:
    """An INT8 graph and what became of its convolutions."""

    model: onnx.ModelProto
    int8: tuple[str, ...]
    """Convolutions that compute in INT8."""
    kept_fp32: tuple[str, ...]
    """Convolutions that stay FP32."""


def quantized_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that `to_int8` rounds, in the order of the graph.

    Raises OptionError where the model is not FP32 or nothing in it would gain.
    """
    fp32_spec(model)
    wide = _wide(model.graph)
    if not wide:
        raise OptionError(
            f"no convolution of the model has {LEAST_CHANNELS} channels on both sides, so INT8 "
            "would gain nothing",
            "keep the FP32 file",
        )
    ends = _ends(model.graph, wide)
    rounded = {node.input[0] for node in wide} | set(ends)
    return [name for node in model.graph.node for name in node.output if name in rounded]


def to_int8(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> Int8Graph:
    """Return the INT8 form of an FP32 model of flair-export, with `precision` int8 in its manifest.

    `ranges` holds the smallest and largest value of each of `quantized_tensors`. Raises OptionError
    as that does.
    """
    scales = {
        name: scale_and_zero(*(RANGE_FACTOR * end for end in ranges[name]))
        for name in quantized_tensors(model)
    }
    spec = spec_of(model, "the model")
    converted = copied(model)
    graph = converted.graph
    wide = {node.output[0] for node in _wide(graph)}
    names = {n.output[0]: n.name or n.output[0] for n in graph.node if n.op_type == "Conv"}
    int8 = tuple(name for output, name in names.items() if output in wide)
    kept = tuple(name for output, name in names.items() if output not in wide)
    _quantize(graph, wide, scales)
    attach_manifest(converted, replace(spec, precision="int8"))
    onnx.checker.check_model(converted, full_check=True)
    return Int8Graph(converted, int8, kept)


def scale_and_zero(smallest: float, largest: float) -> Scale:
    """Return scale and zero point that spread 0..255 over a range.

    The range is widened to 0, which has to be an integer exactly: convolutions pad with it.
    """
    low, high = min(smallest, 0.0), max(largest, 0.0)
    scale = (high - low) / ACTIVATION_MAX
    if scale < np.finfo(np.float32).tiny:
        return np.float32(1), np.uint8(0)  # nothing but 0
    return np.float32(scale), np.uint8(round(-low / scale))


def rounded_weights(
    kernel: np.ndarray, bias: np.ndarray, input_scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a kernel, FP32 [out, in, h, w], as int8, its bias [out] as int32, and FP32 scales.

    A scale for each output channel; the bias counts in that of the products, scale * `input_scale`.
    Weights too small beside a bias for it to fit in 32 bits, as in a dead channel, become 0.
    """
    scales = np.abs(kernel).max(axis=(1, 2, 3)) / WEIGHT_MAX
    least = np.maximum(np.abs(bias) / (BIAS_MAX * input_scale), np.finfo(np.float32).tiny)
    scales = np.maximum(scales, least).astype(np.float32)
    weights = np.rint(kernel / scales[:, None, None, None]).astype(np.int8)
    return weights, np.rint(bias / (scales * np.float64(input_scale))).astype(np.int32), scales


def _quantize(graph: onnx.GraphProto, wide: set[str], scales: Mapping[str, Scale]) -> None:
    """Round tensors where they are made, and the constants of wide convolutions.

    `wide` are the outputs of those convolutions; `scales` has every tensor that is rounded.
    """
    given = weights_of(graph)
    added: Weights = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] in wide:
            input_scale, _ = scales[node.input[0]]
            nodes += _quantize_constants(node, float(input_scale), given, added)
        node.input[:] = [_rounded(name) if name in scales else name for name in node.input]
        nodes.append(node)
        for name in node.output:
            if name in scales:
                nodes += _rounding(name, scales[name], added)
    rebuild(graph, nodes, [*added.values(), *given.values()])


def _rounded(name: str) -> str:
    """Return the name of a tensor as 8 bits can hold it."""
    return f"{name}/rounded"


def _rounding(name: str, scale_and_zero_point: Scale, weights: Weights) -> list[onnx.NodeProto]:
    """Return the nodes that make a tensor as 8 bits can hold it."""
    scale, zero = scale_and_zero_point
    bounds = [
        add_weight(weights, f"{name}/scale", scale),
        add_weight(weights, f"{name}/zero", zero),
    ]
    quantized, rounded = f"{name}/integers", _rounded(name)
    return [
        helper.make_node("QuantizeLinear", [name, *bounds], [quantized], name=quantized),
        helper.make_node("DequantizeLinear", [quantized, *bounds], [rounded], name=rounded),
    ]


def _quantize_constants(
    conv: onnx.NodeProto, input_scale: float, given: Weights, weights: Weights
) -> list[onnx.NodeProto]:
    """Give a convolution an int8 kernel and, at the scale of its products, an int32 bias.

    Returns the nodes that make FP32 of them; both are put into `weights`.
    """
    kernel, *biases = (numpy_helper.to_array(given[name]) for name in conv.input[1:])
    bias = biases[0] if biases else np.zeros(len(kernel), np.float32)
    kernel_int8, bias_int32, scales = rounded_weights(kernel, bias, input_scale)
    made = conv.output[0]
    nodes = [_dequantized(f"{made}/weight", kernel_int8, scales, weights)]
    if biases:
        scales = scales * np.float32(input_scale)
        nodes.append(_dequantized(f"{made}/bias", bias_int32, scales, weights))
    conv.input[1:] = [node.output[0] for node in nodes]
    return nodes


def _dequantized(
    name: str, values: np.ndarray, scales: np.ndarray, weights: Weights
) -> onnx.NodeProto:
    """Return the node that makes `name` of integers with a scale per entry of their first axis."""
    given = [
        add_weight(weights, f"{name}/integers", values),
        add_weight(weights, f"{name}/scale", scales),
        add_weight(weights, f"{name}/zero", np.zeros(len(scales), values.dtype)),
    ]
    return helper.make_node("DequantizeLinear", given, [name], name=name, axis=0)


def _wide(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the convolutions worth computing in INT8."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    readers = readers_of(graph)

    def narrowest(node: onnx.NodeProto) -> int:
        made, read = shapes[node.input[1]][:2]
        for reader in readers[node.output[0]]:
            if reader.op_type == "DepthToSpace":  # deals channels to more pixels
                made //= int(attributes_of(reader)["blocksize"]) ** 2
        return int(min(made, read))

    return [
        node for node in graph.node if node.op_type == "Conv" and narrowest(node) >= LEAST_CHANNELS
    ]


def _ends(graph: onnx.GraphProto, wide: Sequence[onnx.NodeProto]) -> list[str]:
    """Return what to round of each convolution: its output, or that past a Relu of its own."""
    readers = readers_of(graph)
    ends = []
    for node in wide:
        reading = readers[node.output[0]]
        own_relu = [reader.op_type for reader in reading] == ["Relu"]
        ends.append(reading[0].output[0] if own_relu else node.output[0])
    return ends
