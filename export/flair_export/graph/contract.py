"""Contract of an exported graph: operator set, format, name of the logits, manifest kept.

Opset 17 and IR version 8 or 9 are what TensorRT reads from 8.5 on (MiT-b5's LayerNormalization
from 8.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from flair_engine.errors import ManifestError
from flair_engine.manifest import spec_of
from flair_export.errors import ExportError, OptionError
from flair_export.graph.passes import copied

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec

OPSET = 17
IR_VERSIONS = (8, 9)
LOGITS_NAME = "logits"
"""Tensor before the ArgMax, FP32 [N, active classes, C, C]."""
BATCH_AXIS = "N"


def check_graph(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Raise ExportError unless `model` is valid ONNX that keeps the contract of `spec`."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    faults = []
    if opsets != {"": OPSET}:
        faults.append(f"operator sets are {opsets}, expected only the standard one at {OPSET}")
    if model.ir_version not in IR_VERSIONS:
        faults.append(f"IR version is {model.ir_version}, expected 8 or 9")
    try:
        if spec_of(model, "the graph") != spec:
            faults.append("the manifest reads back differently")
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        faults.append(f"not valid ONNX ({str(error).strip().splitlines()[0]})")
    except ManifestError as error:
        faults.append(error.what)
    if faults:
        raise ExportError(
            f"the exported graph is not what the engine reads: {'; '.join(faults)}",
            f"try other versions of torch, or of onnx (here {onnx.__version__})",
        )


def fp32_spec(model: onnx.ModelProto) -> ModelSpec:
    """Return the manifest of an FP32 model. Raises OptionError where it is converted already."""
    spec = spec_of(model, "the model")
    if spec.precision != "fp32":
        raise OptionError(f"the model is {spec.precision} already", "convert the FP32 file")
    return spec


def with_logits(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of an exported model with `logits`, float [N, active, C, C], as last output."""
    twin = copied(model)
    spec = spec_of(model, "the graph")
    shape = (len(spec.active_classes), spec.core_px, spec.core_px)
    twin.graph.output.append(
        helper.make_tensor_value_info(LOGITS_NAME, onnx.TensorProto.FLOAT, (BATCH_AXIS, *shape))
    )
    return twin


def logits_before_argmax(graph: onnx.GraphProto) -> str:
    """Return the name of the tensor that becomes labels."""
    found = [node.input[0] for node in graph.node if node.op_type == "ArgMax"]
    assert len(found) == 1, "labels are one ArgMax over the logits"
    return str(found[0])
