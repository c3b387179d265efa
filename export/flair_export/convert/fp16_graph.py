"""Conversion of an FP32 ONNX graph to an explicitly typed FP16 one.

Every layer between the normalisation and the last convolution computes in FP16, its weights rounded
once. Normalisation, that convolution and everything after it stay FP32: in FP16 the logits of some
pixels are equal, and ArgMax takes the first of equals, the lower class. One rule places the Casts:
a tensor has the type of the node that makes it, and a node that wants the other type gets it
through one Cast. In a ResNet network that makes two after the image, one before the last
convolution and two after the ArgMax.

TensorRT from 11 on has no FP16 flag, so the types have to stand in the file. Existing converters
leave a Cast to FP32 at each Resize, or an invalid graph behind a uint8 input.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flair_engine.manifest import INPUT_NAME, attach_manifest
from flair_export.convert.number_formats import FP16_MAX
from flair_export.convert.ranges import measured_ranges
from flair_export.graph.contract import fp32_spec, logits_before_argmax
from flair_export.graph.flops import PRODUCTS
from flair_export.graph.passes import (
    add_weight,
    constants_to_weights,
    copied,
    rebuild,
    weights_of,
)
from flair_export.graph.shapes import fp32_activations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from flair_export.graph.passes import Weights

OVERFLOW_FACTOR = 4.0
"""A layer stays FP32 where its measured maximum comes within this factor of FP16_MAX: images that
were not measured reach further."""
NORMALISING = frozenset({"Cast", "Sub", "Div", "Mul"})
ANY_TYPE = frozenset({"ArgMax", "Cast", "Shape"})
"""Operators that take either type as it comes."""
RESIZE_NUMBERS = (1, 2)
"""Inputs of Resize that are not pixels: region and scales, FP32 in every opset."""
CAST_SUFFIXES = {TensorProto.FLOAT16: "fp16", TensorProto.FLOAT: "fp32"}
"""What ends the name of a tensor that a Cast makes."""


@dataclass(frozen=True, slots=True)
class Fp16Graph:
    """An FP16 graph and what was found on the way."""

    model: onnx.ModelProto
    kept_fp32: tuple[str, ...]
    """Layers between normalisation and the last convolution that stay FP32, so as not to
    overflow."""


def largest_activations(model: onnx.ModelProto, tiles: Iterable[np.ndarray]) -> dict[str, float]:
    """Return the largest absolute value of every FP32 tensor between image and outputs.

    By tensor name, over `tiles`, uint8 [bands, T, T] each. Raises ExportError.
    """
    ranges = measured_ranges(model, sorted(fp32_activations(model)), tiles)
    return {name: max(-low, high, 0.0) for name, (low, high) in ranges.items()}


def to_fp16(model: onnx.ModelProto, largest: Mapping[str, float] | None = None) -> Fp16Graph:
    """Return the FP16 form of an FP32 model of flair-export, with `precision` fp16 in its manifest.

    `largest` is the answer of largest_activations; a layer whose numbers or weights come near the
    end of FP16 stays FP32 between Casts. Raises OptionError for a model that is not FP32.
    """
    spec = fp32_spec(model)
    converted = copied(model)
    graph = converted.graph
    constants_to_weights(graph)
    outside = _head(graph) | _last_sums(graph) | _tail(graph)
    weights = weights_of(graph)
    kept = [
        node
        for node in graph.node
        if node.output[0] not in outside and _overflows(node, weights, largest or {})
    ]
    _retype(graph, fp32_activations(converted), outside | {node.output[0] for node in kept})
    attach_manifest(converted, replace(spec, precision="fp16"))
    onnx.checker.check_model(converted, full_check=True)
    return Fp16Graph(converted, tuple(node.name or node.output[0] for node in kept))


def _retype(graph: onnx.GraphProto, activations: frozenset[str], stay_fp32: set[str]) -> None:
    """Give every node a type, and Casts and weights to match.

    `activations` are the FP32 tensors that nodes make, `stay_fp32` the first outputs of the nodes
    that are not to be FP16.
    """
    given = weights_of(graph)
    weights: Weights = {}
    nodes: dict[str, onnx.NodeProto] = {}
    types: dict[str, int] = {}
    for node in graph.node:
        wanted = TensorProto.FLOAT if node.output[0] in stay_fp32 else TensorProto.FLOAT16
        for index, name in enumerate(node.input):
            if name in given:
                number = node.op_type == "Resize" and index in RESIZE_NUMBERS
                kind = TensorProto.FLOAT if number else wanted
                node.input[index] = _weight(given[name], kind, weights)
            elif node.op_type not in ANY_TYPE and types.get(name, wanted) != wanted:
                cast = node.input[index] = f"{name}/{CAST_SUFFIXES[wanted]}"
                made = helper.make_node("Cast", [name], [cast], name=cast, to=wanted)
                nodes.setdefault(cast, made)  # one Cast for all who want the other type
        if node.op_type == "Cast" and wanted == TensorProto.FLOAT16:
            _cast_to_fp16(node)
        types |= {name: wanted for name in node.output if name in activations}
        nodes[node.output[0]] = node
    rebuild(graph, nodes.values(), weights.values())


def _weight(tensor: onnx.TensorProto, wanted: int, weights: Weights) -> str:
    """Keep an initialiser, rounded where FP16 is wanted, and return its name."""
    if tensor.data_type != TensorProto.FLOAT or wanted == TensorProto.FLOAT:
        weights[tensor.name] = tensor
        return str(tensor.name)
    name = f"{tensor.name}/fp16"
    if name not in weights:
        add_weight(weights, name, numpy_helper.to_array(tensor).astype(np.float16))
    return name


def _cast_to_fp16(cast: onnx.NodeProto) -> None:
    """Make FP16 of a Cast to FP32; one to another type stays."""
    for attribute in cast.attribute:
        if attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


def _overflows(node: onnx.NodeProto, weights: Weights, largest: Mapping[str, float]) -> bool:
    """Return whether a tensor the node reads or makes comes near the end of FP16."""
    seen = max((largest.get(name, 0.0) for name in (*node.input, *node.output)), default=0)
    held = (weights[name] for name in node.input if name in weights)
    weight = max(
        (_largest(tensor) for tensor in held if tensor.data_type == TensorProto.FLOAT),
        default=0.0,
    )
    return seen * OVERFLOW_FACTOR > FP16_MAX or weight > FP16_MAX


def _head(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors from the image to the normalised image."""
    weights = {tensor.name for tensor in graph.initializer}
    head = {INPUT_NAME}
    for node in graph.node:
        if node.op_type in NORMALISING and set(node.input) <= head | weights:
            head.update(node.output)
    return head


def _last_sums(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors from the sums of the last convolution to the logits."""
    makers = {node.output[0]: node for node in graph.node}
    sums = {name := logits_before_argmax(graph)}
    while makers[name].op_type not in PRODUCTS:
        name = makers[name].input[0]
        sums.add(name)
    return sums


def _tail(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors made from the logits: labels, confidence, probabilities."""
    logits = logits_before_argmax(graph)
    tail: set[str] = set()
    for node in graph.node:
        if logits in node.input or tail.intersection(node.input):
            tail.update(node.output)
    return tail


def _largest(tensor: onnx.TensorProto) -> float:
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
