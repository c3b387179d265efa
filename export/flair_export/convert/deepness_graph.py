"""Graph and metadata as Deepness, a plugin of QGIS, reads them.

The plugin feeds float32 `(x / 255 - mean) / std` of square tiles whose edge is in the graph, takes
the largest of the channels that come back, and finds the rest under keys of its own, each a JSON
value: github.com/PUTvision/qgis-plugin-deepness, processing/models and
tools/add_model_metadata.py. Normalisation stays in the graph: with mean 0 and std 1/255 the plugin
feeds raw values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from flair_engine.manifest import DEEPNESS_KEY, INPUT_NAME
from flair_export.errors import ExportError, OptionError
from flair_export.graph.contract import BATCH_AXIS, LOGITS_NAME, fp32_spec
from flair_export.graph.passes import copied, rebuild, weights_of

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec

SHARES_NAME = "probabilities"
"""The one output: softmax over the active classes, FP32 [N, active classes, T, T]."""
TILES_OVERLAP_PERCENT = 50
"""Of neighbouring tiles. The plugin keeps what lies within half of it: the middle 256 of 512 px,
as the official tool does."""


def to_deepness(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP32 model of margin 0 as one for the plugin.

    Raises OptionError for another, ExportError where the result is not valid ONNX.
    """
    spec = fp32_spec(model)
    if spec.margin_px:
        raise OptionError(
            f"the model has a margin of {spec.margin_px} px, while the plugin cuts tiles itself",
            "convert one of margin 0, or give the checkpoint",
        )
    made = copied(model)
    graph = made.graph
    nodes = _fed_with_floats(list(graph.node))
    nodes.append(helper.make_node("Softmax", [LOGITS_NAME], [SHARES_NAME], SHARES_NAME, axis=1))
    tile = (spec.tile_px, spec.tile_px)
    del graph.input[:], graph.output[:]
    graph.input.append(_float(INPUT_NAME, len(spec.bands), *tile))
    graph.output.append(_float(SHARES_NAME, len(spec.active_classes), *tile))
    rebuild(graph, nodes, weights_of(graph).values())
    del made.metadata_props[:]
    for key, value in metadata_of(spec).items():
        entry = made.metadata_props.add()
        entry.key, entry.value = key, value
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the graph is not valid ONNX ({str(error).strip().splitlines()[0]})",
            f"try another version of onnx (here {onnx.__version__})",
        ) from error
    return made


def _fed_with_floats(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes without the Cast that widens the images, which come as floats."""
    (cast,) = (node for node in nodes if INPUT_NAME in node.input)
    assert cast.op_type == "Cast", "images are widened first"
    kept = [node for node in nodes if node is not cast]
    for node in kept:
        node.input[:] = [INPUT_NAME if name == cast.output[0] else name for name in node.input]
    return kept


def _float(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (BATCH_AXIS, *shape))


def metadata_of(spec: ModelSpec) -> dict[str, str]:
    """Return the plugin's keys with their JSON values, and the manifest the model was made of."""
    bands = len(spec.bands)
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(n): entry.name for n, entry in enumerate(spec.active_classes)},
        "resolution": round(100 * spec.gsd_m, 6),  # cm
        # Its documentation has the one, its code reads the other.
        "tile_size": spec.tile_px,
        "tiles_size": spec.tile_px,
        "tiles_overlap": TILES_OVERLAP_PERCENT,
        "standardization_mean": [0.0] * bands,
        "standardization_std": [1 / 255] * bands,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }
    said = {key: json.dumps(value) for key, value in values.items()}
    return {**said, DEEPNESS_KEY: spec.to_json()}
