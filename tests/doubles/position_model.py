"""A model whose label is the pixel's position in its core and all that its margin lets it see.

A pixel's value is 1 + (17 x row + 5 x column in the core + sum of all bands over 17 x 17 px) mod
19: a grid that moves by a pixel, a margin that is not there, or a mirror elsewhere change nearly
every label. Sums of some thousand bytes are exact in FP32.
"""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from doubles.tiny_model import CORE, MARGIN, SPEC, TILE
from flair_engine.manifest import LandCoverClass, ModelSpec, Normalization, attach_manifest

CLASSES = tuple(
    LandCoverClass(value=value, name=f"class {value}", color=f"#{value:02x}8040", active=True)
    for value in range(1, 20)
)
ROW_STEP, COL_STEP = 17, 5


def position_model(spec: ModelSpec) -> onnx.ModelProto:
    """Return the model for the bands of a spec."""
    side = 2 * MARGIN + 1
    row, col = np.mgrid[:CORE, :CORE]
    constants = {
        "box": np.ones((1, len(spec.bands), side, side), np.float32),
        "place": (ROW_STEP * row + COL_STEP * col).astype(np.float32)[None, None],
        "classes": np.array(19.0, np.float32),
        "one": np.array(1.0, np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "box"], ["sums"]),
        helper.make_node("Add", ["sums", "place"], ["logits"]),
        helper.make_node("Add", ["logits", "half"], ["above"]),
        helper.make_node("Div", ["above", "classes"], ["times"]),
        helper.make_node("Floor", ["times"], ["whole"]),
        helper.make_node("Mul", ["whole", "classes"], ["taken"]),
        helper.make_node("Sub", ["logits", "taken"], ["rest"]),
        helper.make_node("Add", ["rest", "one"], ["value"]),
        helper.make_node("ReduceMax", ["value"], ["flat"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["flat"], ["labels"], to=TensorProto.UINT8),
    ]
    image = helper.make_tensor_value_info(
        "image", TensorProto.UINT8, ["N", len(spec.bands), TILE, TILE]
    )
    labels = helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", CORE, CORE])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "position", [image], [labels], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach_manifest(model, spec)
    onnx.checker.check_model(model)
    return model


def write_position_model(folder: Path, *bands: str) -> Path:
    """Write the model for named bands; return its path."""
    bands = bands or SPEC.bands
    count = len(bands)
    scales = Normalization(mean=(100.0,) * count, std=(50.0,) * count)
    spec = dataclasses.replace(
        SPEC, name="position", bands=bands, classes=CLASSES, normalization=scales
    )
    path = folder / "position.onnx"
    onnx.save(position_model(spec), path)
    return path


def position_labels(image_bhw: np.ndarray) -> np.ndarray:
    """Return what the model answers for a whole raster uint8 [bands, H, W], computed at once."""
    _, height, width = image_bhw.shape
    pad = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))
    padded = np.pad(image_bhw.astype(np.int64), pad, mode="reflect").sum(0)
    sums = np.pad(padded, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    side = 2 * MARGIN + 1
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    row, col = np.mgrid[:height, :width] % CORE
    return (1 + (boxes + ROW_STEP * row + COL_STEP * col) % 19).astype(np.uint8)
