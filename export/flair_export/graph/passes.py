"""Steps that every rewrite of an ONNX graph takes: copy, read, add weights, replace, rename, prune.

A rewrite works on a copy, lists the nodes its graph shall have and the weights they may read, and
ends with `rebuild`, which keeps of both what the outputs depend on.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Weights: TypeAlias = dict[str, onnx.TensorProto]
"""Initialisers by name, in the order they shall have in the graph."""


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model that shares nothing with it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def copied_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return a copy of a node that belongs to no graph."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a node as Python values."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def readers_of(graph: onnx.GraphProto) -> Mapping[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor, in the order of the graph."""
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def weights_of(graph: onnx.GraphProto) -> Weights:
    """Return the initialisers of a graph."""
    return {tensor.name: tensor for tensor in graph.initializer}


def constants_of(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return the values of the initialisers and of the Constant nodes, by name of the tensor."""
    weights = {name: numpy_helper.to_array(tensor) for name, tensor in weights_of(graph).items()}
    nodes = (node for node in graph.node if node.op_type == "Constant")
    return weights | {
        node.output[0]: numpy_helper.to_array(attributes_of(node)["value"]) for node in nodes
    }


def add_weight(weights: Weights, name: str, value: np.ndarray | np.generic) -> str:
    """Add an initialiser `name`, in the type of `value`, and return its name."""
    weights[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
    return name


def constants_to_weights(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initialisers, so that numbers stand in one place."""
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
        else:
            kept.append(copied_node(node))
    del graph.node[:]
    graph.node.extend(kept)


def replaced(
    model: onnx.ModelProto, replace: Callable[[onnx.NodeProto, Weights], list[onnx.NodeProto]]
) -> onnx.ModelProto:
    """Return a copy of `model` with each node replaced by those that `replace` makes of it.

    `replace` may change the node it is given and add weights.
    """
    copy = copied(model)
    weights = weights_of(copy.graph)
    nodes = [new for node in copy.graph.node for new in replace(node, weights)]
    rebuild(copy.graph, nodes, weights.values())
    return copy


def rename(nodes: Iterable[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Give the tensors that `nodes` read and make their new names, where `names` has one."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def rebuild(
    graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto], weights: Iterable[onnx.TensorProto]
) -> None:
    """Put nodes and weights in place of a graph's own, but those no output depends on.

    The nodes are in an order they can run in. Shapes noted for tensors in between are forgotten.
    """
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    read = [tensor for tensor in weights if tensor.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(read)
