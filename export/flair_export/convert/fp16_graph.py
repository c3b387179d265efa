"""FP32 ONNX graph to an explicitly typed FP16 one; needs numpy and onnx, not torch.

Every layer between the normalisation and the ArgMax computes in FP16, its weights rounded once.
Normalisation, the arithmetic on labels and everything else after the logits stay FP32. One rule
places the Casts: a tensor has the type of the node that makes it, and a node that wants the other
type gets it through one Cast. In a ResNet network that makes two at the head and two at the tail.

TensorRT from 11 on has no FP16 flag, so the types have to stand in the file. Existing converters
leave a Cast to FP32 at each Resize, or an invalid graph behind a uint8 input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flair_engine.manifest import INPUT_NAME, attach_manifest, spec_of
from flair_export.convert.ranges import measured_ranges
from flair_export.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FP16_MAX = 65504.0
"""Largest finite FP16 number."""
HEADROOM = 4.0
"""A layer stays FP32 where its measured maximum comes within this factor of FP16_MAX: images that
were not measured reach further."""
NORMALISING = frozenset({"Cast", "Sub", "Div", "Mul"})
ANY_TYPE = frozenset({"ArgMax", "Cast", "Shape"})
"""Operators that take either type as it comes."""
RESIZE_NUMBERS = (1, 2)
"""Inputs of Resize that are not pixels: region and scales, FP32 in every opset."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """An FP16 graph and what was found on the way."""

    model: onnx.ModelProto
    kept_fp32: tuple[str, ...]
    """Layers between normalisation and logits that stay FP32, so as not to overflow."""


def largest_activations(model: onnx.ModelProto, tiles: Iterable[np.ndarray]) -> dict[str, float]:
    """Return the largest absolute value of every FP32 tensor between image and outputs.

    By tensor name, over `tiles`, uint8 [bands, T, T] each. Raises ExportError.
    """
    ranges = measured_ranges(model, sorted(_activations(model)), tiles)
    return {name: max(-low, high, 0.0) for name, (low, high) in ranges.items()}


def to_fp16(model: onnx.ModelProto, largest: Mapping[str, float] | None = None) -> Conversion:
    """Return the FP16 form of an FP32 model of flair-export, with `precision` fp16 in its manifest.

    `largest` is the answer of largest_activations; a layer whose numbers or weights come near the
    end of FP16 stays FP32 between Casts. Raises OptionError for a model that is not FP32.
    """
    spec = spec_of(model, "the model")
    if spec.precision != "fp32":
        raise OptionError(f"the model is {spec.precision} already: convert the FP32 file")
    half = onnx.ModelProto()
    half.CopyFrom(model)
    _constants_to_weights(half.graph)
    conversion = _Conversion(half.graph, _activations(half), largest or {})
    conversion.rewrite()
    del half.graph.value_info[:]
    attach_manifest(half, replace(spec, precision="fp16"))
    onnx.checker.check_model(half, full_check=True)
    return Conversion(half, tuple(conversion.kept))


def casts(model: onnx.ModelProto) -> list[str]:
    """Return the name of the type each Cast goes to, in the order of the graph."""
    return [
        TensorProto.DataType.Name(node.attribute[0].i)
        for node in model.graph.node
        if node.op_type == "Cast"
    ]


@dataclass(slots=True)
class _Conversion:
    """Rewrites the nodes of one graph, in order."""

    graph: onnx.GraphProto
    activations: frozenset[str]
    """Names of the FP32 tensors that nodes make."""
    largest: Mapping[str, float]
    kept: list[str] = field(default_factory=list)
    """Names of layers that stay FP32 though they lie in the network."""
    types: dict[str, int] = field(default_factory=dict)
    """Type of each activation made so far."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    """The initialisers that are used, by name."""
    cast: dict[tuple[str, int], str] = field(default_factory=dict)
    """Name of a tensor in another type."""

    def rewrite(self) -> None:
        """Give every node its type, and Casts and weights to match."""
        outside = _head(self.graph) | _tail(self.graph)
        given = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            wanted = TensorProto.FLOAT16
            if node.output[0] in outside:
                wanted = TensorProto.FLOAT
            elif self._overflows(node, given):
                wanted = TensorProto.FLOAT
                self.kept.append(node.name or node.output[0])
            self._retype(node, wanted, given)
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(self.weights.values())

    def _overflows(self, node: onnx.NodeProto, given: Mapping[str, onnx.TensorProto]) -> bool:
        """Return whether a tensor the node reads or makes comes near the end of FP16."""
        seen = max((self.largest.get(name, 0.0) for name in (*node.input, *node.output)), default=0)
        held = (given[name] for name in node.input if name in given)
        weights = max(
            (_largest(tensor) for tensor in held if tensor.data_type == TensorProto.FLOAT),
            default=0.0,
        )
        return seen * HEADROOM > FP16_MAX or weights > FP16_MAX

    def _retype(
        self, node: onnx.NodeProto, wanted: int, given: Mapping[str, onnx.TensorProto]
    ) -> None:
        for index, name in enumerate(node.input):
            if name in given:
                resize = node.op_type == "Resize" and index in RESIZE_NUMBERS
                kind = TensorProto.FLOAT if resize else wanted
                node.input[index] = self._weight(given[name], kind)
            elif name in self.types and node.op_type not in ANY_TYPE:
                node.input[index] = self._converted(name, wanted)
        if node.op_type == "Cast" and wanted == TensorProto.FLOAT16:
            for attribute in node.attribute:
                if attribute.i == TensorProto.FLOAT:
                    attribute.i = wanted
        self.types |= {name: wanted for name in node.output if name in self.activations}
        self.nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))

    def _weight(self, tensor: onnx.TensorProto, wanted: int) -> str:
        """Keep an initialiser, rounded where FP16 is wanted, and return its name."""
        if tensor.data_type != TensorProto.FLOAT or wanted == TensorProto.FLOAT:
            self.weights[tensor.name] = tensor
            return str(tensor.name)
        name = f"{tensor.name}/fp16"
        if name not in self.weights:
            value = numpy_helper.to_array(tensor).astype(np.float16)
            self.weights[name] = numpy_helper.from_array(value, name)
        return name

    def _converted(self, name: str, wanted: int) -> str:
        """Return the name of an activation in the type wanted, made by one Cast where need be."""
        if self.types[name] == wanted:
            return name
        if (name, wanted) not in self.cast:
            suffix = "fp16" if wanted == TensorProto.FLOAT16 else "fp32"
            cast = self.cast[name, wanted] = f"{name}/{suffix}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], name=cast, to=wanted))
        return self.cast[name, wanted]


def _activations(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of the FP32 tensors that nodes make."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    made = {name for node in model.graph.node for name in node.output}
    return frozenset(
        value.name
        for value in inferred.value_info
        if value.name in made and value.type.tensor_type.elem_type == TensorProto.FLOAT
    )


def _head(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors from the image to the normalised image."""
    weights = {tensor.name for tensor in graph.initializer}
    head = {INPUT_NAME}
    for node in graph.node:
        if node.op_type in NORMALISING and set(node.input) <= head | weights:
            head.update(node.output)
    return head


def _tail(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors made from the logits: labels, confidence, probabilities."""
    (logits,) = (node.input[0] for node in graph.node if node.op_type == "ArgMax")
    tail: set[str] = set()
    for node in graph.node:
        if logits in node.input or tail.intersection(node.input):
            tail.update(node.output)
    return tail


def _constants_to_weights(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initialisers, so that numbers stand in one place."""
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


def _largest(tensor: onnx.TensorProto) -> float:
    return float(np.abs(numpy_helper.to_array(tensor)).max(initial=0.0))
