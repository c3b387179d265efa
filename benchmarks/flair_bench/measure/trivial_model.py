"""The trivial model: it says which band is brightest, and costs nothing beside reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flair_engine.manifest import (
    INPUT_NAME,
    MANIFEST_SCHEMA,
    LandCoverClass,
    ModelSpec,
    Normalization,
    attach_manifest,
)
from flair_export.cards import GSD_M, NOMENCLATURE, OFFICIAL_MARGIN_PX, OFFICIAL_TILE_PX
from flair_export.graph.contract import BATCH_AXIS, IR_VERSIONS, LOGITS_NAME, OPSET

if TYPE_CHECKING:
    from pathlib import Path

LABELS = "labels"
TRIVIAL_BANDS = ("red", "green", "blue", "nir", "height")
"""None is called elevation, which the engine would check as heights and leave out of validity."""


def trivial_spec(
    bands: int, outputs: tuple[str, ...] = (LABELS,), tile_px: int = OFFICIAL_TILE_PX
) -> ModelSpec:
    """Return the manifest of the trivial model."""
    return ModelSpec(
        schema=MANIFEST_SCHEMA,
        name="brightest band",
        architecture="argmax",
        bands=TRIVIAL_BANDS[:bands],
        gsd_m=GSD_M,
        tile_px=tile_px,
        margin_px=OFFICIAL_MARGIN_PX,
        precision="fp32",
        agreement_fp32=None,
        classes=tuple(
            LandCoverClass(value=value, name=name, color=color, active=value <= bands)
            for value, (name, color) in enumerate(NOMENCLATURE, start=1)
        ),
        normalization=Normalization(mean=(0.0,) * bands, std=(1.0,) * bands),
        outputs=outputs,
        weights_sha256="0" * 64,
        exporter="flair-bench",
    )


def write_trivial_model(
    path: Path, bands: int, outputs: tuple[str, ...] = (LABELS,), tile_px: int = OFFICIAL_TILE_PX
) -> Path:
    """Write the model that answers 1 where the first of `bands` is brightest, and so on.

    Its confidence is the first band, its probabilities are the bands again and again.
    """
    spec = trivial_spec(bands, outputs, tile_px)
    start, end = spec.margin_px, spec.tile_px - spec.margin_px
    limits = {"start": [start] * 2, "end": [end] * 2, "axes": [2, 3]}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in limits.items()]
    constants.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
    nodes = [
        helper.make_node("Slice", [INPUT_NAME, *limits], ["core"]),
        helper.make_node("Cast", ["core"], [LOGITS_NAME], to=TensorProto.FLOAT),
        helper.make_node("ArgMax", [LOGITS_NAME], ["index"], axis=1, keepdims=0),
        helper.make_node("Add", ["index", "one"], ["value"]),
        helper.make_node("Cast", ["value"], [LABELS], to=TensorProto.UINT8),
    ]
    numbers = {"confidence": np.array(0), "probabilities": np.arange(len(NOMENCLATURE)) % bands}
    for name in outputs[1:]:
        constants.append(numpy_helper.from_array(numbers[name].astype(np.int64), f"{name} bands"))
        nodes.append(helper.make_node("Gather", ["core", f"{name} bands"], [name], axis=1))
    core = (spec.core_px, spec.core_px)
    shapes = {
        INPUT_NAME: (bands, spec.tile_px, spec.tile_px),
        **dict.fromkeys(outputs, core),
        **{name: (len(NOMENCLATURE), *core) for name in outputs if name == "probabilities"},
    }
    image, *found = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, (BATCH_AXIS, *shape))
        for name, shape in shapes.items()
    )
    graph = helper.make_graph(nodes, "brightest", [image], found, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSIONS[0]
    )
    attach_manifest(model, spec)
    onnx.save(model, path)
    return path
