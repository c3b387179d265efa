"""Module to ONNX: one self-contained graph that every runtime of the engine parses.

Opset 17 and IR version 8 or 9 are what TensorRT reads from 8.5 on (MiT-b5's LayerNormalization
from 8.6). The module is traced at a fixed batch, so that every shape is known; the batch axis is
then freed and the shape arithmetic folded, which leaves no Shape or Gather in a ResNet network.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from flair_engine.errors import ManifestError
from flair_engine.manifest import INPUT_NAME, attach_manifest, expected_tensors, spec_of
from flair_export.errors import ExportError

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec
    from flair_export.network.modules import LabelNetwork

OPSET = 17
IR_VERSIONS = (8, 9)
LOGITS_NAME = "logits"
BATCH_AXIS = "N"
TRACED_BATCH = 2
"""Above 1, so that no axis of length 1 is taken for the batch or broadcast along it."""

Shapes = dict[str, tuple[int, ...]]


def build_graph(network: LabelNetwork, spec: ModelSpec) -> onnx.ModelProto:
    """Return the checked ONNX model of `network`, with `spec` as its manifest.

    Raises ExportError where the exporter's result is not what the engine reads.
    """
    model = _traced(network, spec)
    _free_batch(model)
    _rename(model, _before_argmax(model), LOGITS_NAME)
    _declare(model, spec)
    attach_manifest(model, spec)
    check_graph(model, spec)
    return model


def check_graph(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Raise ExportError unless `model` is valid ONNX that keeps the contract of `spec`."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    faults = []
    if opsets != {"": OPSET}:
        faults.append(f"operator sets are {opsets}, expected only the standard one at {OPSET}")
    if model.ir_version not in IR_VERSIONS:
        faults.append(f"IR version is {model.ir_version}, expected 8 or 9")
    if any(tensor.external_data for tensor in model.graph.initializer):
        faults.append("weights lie outside the file")
    try:
        onnx.checker.check_model(model, full_check=True)
        if spec_of(model, "the graph") != spec:
            faults.append("the manifest reads back differently")
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        faults.append(f"not valid ONNX ({str(error).strip().splitlines()[0]})")
    except ManifestError as error:
        faults.append(str(error))
    if faults:
        raise ExportError(
            f"the exported graph is not what the engine reads: {'; '.join(faults)}. "
            f"Check the versions of torch ({torch.__version__}) and onnx ({onnx.__version__})"
        )


def with_logits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of an exported model with `logits`, float [N, active, C, C], as last output."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    spec = spec_of(model, "the graph")
    shape = (len(spec.active_classes), spec.core_px, spec.core_px)
    twin.graph.output.append(
        helper.make_tensor_value_info(LOGITS_NAME, onnx.TensorProto.FLOAT, (BATCH_AXIS, *shape))
    )
    return twin


def _traced(network: LabelNetwork, spec: ModelSpec) -> onnx.ModelProto:
    """Export at a batch of TRACED_BATCH with the names of the contract."""
    shape = (TRACED_BATCH, *expected_tensors(spec)[INPUT_NAME])
    with TemporaryDirectory() as folder, warnings.catch_warnings():
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
    shapes = _shapes(model)
    sources: dict[str, str] = {}
    for node in graph.node:
        # Nodes come in order of use, so a source is already resolved when it is looked up.
        node.input[:] = [sources.get(name, name) for name in node.input]
        if node.op_type == "Resize" and len(node.input) == 4:
            scales = _scales(shapes[node.input[0]], shapes[node.output[0]])
            node.input[:] = [node.input[0], "", _constant(graph, node, scales)]
        elif node.op_type == "Reshape":
            target = _reshape_target(node, shapes[node.input[0]], shapes[node.output[0]])
            node.input[:] = [node.input[0], _constant(graph, node, target)]
        elif node.op_type == "Concat":
            # MiT encoders have no features at half resolution and stand a tensor without
            # channels there, which not every runtime accepts.
            node.input[:] = [name for name in node.input if 0 not in shapes[name]]
        if node.op_type == "Identity" or (node.op_type == "Concat" and len(node.input) == 1):
            sources[node.output[0]] = node.input[0]
    _drop_unused(graph)


def _shapes(model: onnx.ModelProto) -> Shapes:
    """Return the static shape of every tensor whose shape is known."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return shapes


def _scales(before: tuple[int, ...], after: tuple[int, ...]) -> np.ndarray:
    return np.array([to / of for of, to in zip(before, after, strict=True)], dtype=np.float32)


def _reshape_target(
    node: onnx.NodeProto, before: tuple[int, ...], after: tuple[int, ...]
) -> np.ndarray:
    """Return a target whose first entry copies the batch axis, whatever its length."""
    if before[0] != TRACED_BATCH or after[0] != TRACED_BATCH:
        raise ExportError(
            f"{node.name} reshapes {before} to {after}, which mixes the batch axis with others: "
            "this network cannot be exported for any batch"
        )
    return np.array([0, *after[1:]], dtype=np.int64)


def _constant(graph: onnx.GraphProto, node: onnx.NodeProto, value: np.ndarray) -> str:
    """Add `value` to the graph for `node` and return its name."""
    name = f"{node.name}/constant"
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = list(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def _before_argmax(model: onnx.ModelProto) -> str:
    found = [node.input[0] for node in model.graph.node if node.op_type == "ArgMax"]
    assert len(found) == 1, "labels are one ArgMax over the logits"
    return str(found[0])


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


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
