"""FP32 ONNX graph to one whose wide convolutions multiply 8-bit integers; numpy and onnx, no torch.

Around each such convolution stand the QuantizeLinear and DequantizeLinear nodes that ONNX Runtime
and OpenVINO turn into integer arithmetic: on its input, its output and its constants. Real value =
scale * (integer - zero point), with the scale and zero point of a tensor from its smallest and
largest value on real images. The sums of two branches, and all that is narrow, stay FP32.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flair_engine.manifest import attach_manifest, spec_of
from flair_export.errors import OptionError
from flair_export.rewrite.graph_reader import attributes_of, readers_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEAST_CHANNELS = 64
"""Convolutions that read or make fewer channels stay FP32: they gain little, and lie next to the
image or the logits, where rounding costs most labels."""
HEADROOM = 1.5
"""Ranges are widened so much: images that were not measured reach further, and a value that is cut
off costs more labels than a coarser step. benchmarks/LOG.md has what others give."""
WEIGHT_MAX = 64
"""Largest integer a weight becomes. A CPU without VNNI adds two products of uint8 and int8 in 16
signed bits (`pmaddubsw`), which 2 * 255 * 64 = 32640 cannot overflow."""
ACTIVATION_MAX = 255
BIAS_MAX = 2**30
"""Largest integer a bias becomes; the sum it is added to has 32 signed bits."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """An INT8 graph and what became of its convolutions."""

    model: onnx.ModelProto
    integer: tuple[str, ...]
    """Convolutions that compute in integers."""
    kept_fp32: tuple[str, ...]
    """Convolutions that stay FP32."""


def quantized_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the tensors that `to_int8` rounds, in the order of the graph.

    Raises OptionError where the model is not FP32 or nothing in it would gain.
    """
    spec = spec_of(model, "the model")
    if spec.precision != "fp32":
        raise OptionError(f"the model is {spec.precision} already: convert the FP32 file")
    wide = _wide(model.graph)
    if not wide:
        raise OptionError(
            f"no convolution of the model has {LEAST_CHANNELS} channels on both sides, so integers "
            "would gain nothing: keep the FP32 file"
        )
    ends = _ends(model.graph, wide)
    rounded = {node.input[0] for node in wide} | set(ends)
    return [name for node in model.graph.node for name in node.output if name in rounded]


def to_int8(model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]]) -> Quantization:
    """Return the INT8 form of an FP32 model of flair-export, with `precision` int8 in its manifest.

    `ranges` holds the smallest and largest value of each of `quantized_tensors`. Raises OptionError
    as that does.
    """
    names = quantized_tensors(model)
    spec = spec_of(model, "the model")
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    quantizing = _Quantizing(
        graph=whole.graph,
        scales={name: scale_and_zero(*(HEADROOM * end for end in ranges[name])) for name in names},
        wide={node.output[0] for node in _wide(whole.graph)},
    )
    quantizing.rewrite()
    del whole.graph.value_info[:]
    attach_manifest(whole, replace(spec, precision="int8"))
    onnx.checker.check_model(whole, full_check=True)
    return Quantization(whole, tuple(quantizing.integer), tuple(quantizing.kept))


def scale_and_zero(smallest: float, largest: float) -> tuple[np.float32, np.uint8]:
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


@dataclass(kw_only=True, slots=True)
class _Quantizing:
    """Rewrites the nodes of one graph, in order."""

    graph: onnx.GraphProto
    scales: Mapping[str, tuple[np.float32, np.uint8]]
    """Scale and zero point of each tensor that is rounded."""
    wide: set[str]
    """Outputs of the convolutions that compute in integers."""
    integer: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def rewrite(self) -> None:
        """Round tensors where they are made, and the constants of wide convolutions."""
        given = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Conv":
                wide = node.output[0] in self.wide
                (self.integer if wide else self.kept).append(node.name or node.output[0])
                if wide:
                    self._round_constants(node, given)
            node.input[:] = [f"{n}/rounded" if n in self.scales else n for n in node.input]
            self.nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
            for name in node.output:
                if name in self.scales:
                    self._round(name)
        used = {name for node in self.nodes for name in node.input}
        self.constants |= {name: tensor for name, tensor in given.items() if name in used}
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(self.constants.values())

    def _round(self, name: str) -> None:
        """Make `name/rounded`: the tensor as the integers can hold it."""
        scale, zero = self.scales[name]
        given = [self._constant(f"{name}/scale", scale), self._constant(f"{name}/zero", zero)]
        integers, rounded = f"{name}/integers", f"{name}/rounded"
        for operator, source, made in (
            ("QuantizeLinear", name, integers),
            ("DequantizeLinear", integers, rounded),
        ):
            self.nodes.append(helper.make_node(operator, [source, *given], [made], name=made))

    def _round_constants(self, node: onnx.NodeProto, given: Mapping[str, onnx.TensorProto]) -> None:
        """Give a convolution an int8 kernel and, at the scale of its products, an int32 bias."""
        input_scale, _ = self.scales[node.input[0]]
        kernel, *biases = (numpy_helper.to_array(given[name]) for name in node.input[1:])
        bias = biases[0] if biases else np.zeros(len(kernel), np.float32)
        weights, bias, scales = rounded_weights(kernel, bias, float(input_scale))
        node.input[1] = self._integers(f"{node.output[0]}/weight", weights, scales)
        if biases:
            name = f"{node.output[0]}/bias"
            node.input[2] = self._integers(name, bias, scales * input_scale)

    def _integers(self, name: str, values: np.ndarray, scales: np.ndarray) -> str:
        """Add integers with a scale for each entry of their first axis; return their FP32 name."""
        given = [
            self._constant(f"{name}/integers", values),
            self._constant(f"{name}/scale", scales),
            self._constant(f"{name}/zero", np.zeros(len(scales), values.dtype)),
        ]
        self.nodes.append(helper.make_node("DequantizeLinear", given, [name], name=name, axis=0))
        return name

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


def _wide(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the convolutions worth computing in integers."""
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
