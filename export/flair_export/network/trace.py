"""Tracing of a module to ONNX: one self-contained graph that every runtime of the engine parses.

The module is traced at a fixed batch, so that every shape is known; the batch axis is then freed
and the shape arithmetic folded, which leaves no Shape or Gather in a ResNet network.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import helper

from flair_engine.manifest import INPUT_NAME, attach_manifest, expected_tensors
from flair_export.errors import ExportError
from flair_export.graph.contract import (
    BATCH_AXIS,
    LOGITS_NAME,
    OPSET,
    check_graph,
    logits_before_argmax,
)
from flair_export.graph.passes import add_weight, rebuild, rename, weights_of
from flair_export.graph.shapes import shapes_of

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec
    from flair_export.graph.shapes import TensorShape
    from flair_export.network.modules import LabelNetwork

TRACED_BATCH = 2
"""Above 1, so that no axis of length 1 is taken for the batch or broadcast along it."""


def build_graph(network: LabelNetwork, spec: ModelSpec) -> onnx.ModelProto:
    """Return the checked ONNX model of `network`, with `spec` as its manifest.

    Raises ExportError where the exporter's result is not what the engine reads.
    """
    model = _traced(network, spec)
    _free_batch(model)
    rename(model.graph.node, {logits_before_argmax(model.graph): LOGITS_NAME})
    _declare(model, spec)
    attach_manifest(model, spec)
    check_graph(model, spec)
    return model


def _traced(network: LabelNetwork, spec: ModelSpec) -> onnx.ModelProto:
    """Export at a batch of TRACED_BATCH with the names of the contract."""
    shape = (TRACED_BATCH, *expected_tensors(spec)[INPUT_NAME])
    # With gradients every feature map is kept for a backward pass: 12 GiB at 2048 px.
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        path = Path(folder) / "traced.onnx"
        # The exporter says it is the older of two (the newer one writes IR 10 and a second file)
        # and the tracer that shapes become constants, which is what is wanted here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(shape, dtype=torch.uint8),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(spec.outputs),
        )
        return onnx.load(path)


def _free_batch(model: onnx.ModelProto) -> None:
    """Replace what depends on the traced batch by its batch-free form; drop what is then unused."""
    graph = model.graph
    shapes = shapes_of(model)
    weights = weights_of(graph)
    sources: dict[str, str] = {}
    for node in graph.node:
        # Nodes come in order of use, so a source is already resolved when it is looked up.
        node.input[:] = [sources.get(name, name) for name in node.input]
        constant = f"{node.name}/constant"
        if node.op_type == "Resize" and len(node.input) == 4:
            scales = _scales(shapes[node.input[0]], shapes[node.output[0]])
            node.input[:] = [node.input[0], "", add_weight(weights, constant, scales)]
        elif node.op_type == "Reshape":
            target = _reshape_target(node, shapes[node.input[0]], shapes[node.output[0]])
            node.input[:] = [node.input[0], add_weight(weights, constant, target)]
        elif node.op_type == "Concat":
            # MiT encoders have no features at half resolution and stand a tensor without
            # channels there, which not every runtime accepts.
            node.input[:] = [name for name in node.input if 0 not in shapes[name]]
        if node.op_type == "Identity" or (node.op_type == "Concat" and len(node.input) == 1):
            sources[node.output[0]] = node.input[0]
    rebuild(graph, graph.node, weights.values())


def _scales(before: TensorShape, after: TensorShape) -> np.ndarray:
    return np.array([to / of for of, to in zip(before, after, strict=True)], dtype=np.float32)


def _reshape_target(node: onnx.NodeProto, before: TensorShape, after: TensorShape) -> np.ndarray:
    """Return a target whose first entry copies the batch axis, whatever its length."""
    if before[0] != TRACED_BATCH or after[0] != TRACED_BATCH:
        raise ExportError(
            f"{node.name} reshapes {before} to {after}, which mixes the batch axis with others",
            "export another network, this one has no batch axis of its own",
        )
    return np.array([0, *after[1:]], dtype=np.int64)


def _declare(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Declare inputs and outputs as the contract has them: uint8, batch free, the rest fixed."""
    declared = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [BATCH_AXIS, *shape])
        for name, shape in expected_tensors(spec).items()
    }
    graph = model.graph
    del graph.input[:], graph.output[:]
    graph.input.append(declared[INPUT_NAME])
    graph.output.extend(declared[name] for name in spec.outputs)
