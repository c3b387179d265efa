"""A graph whose two logits nearly tie: far from zero, and a thousandth apart.

Label 1 where band 1 is at least band 2, else 3. The logits are OFFSET + band / 1024: beside the
offset neither bf16 nor FP16 tells two bytes apart, and ArgMax would give every pixel to label 1.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from doubles.tiny_model import CORE, MARGIN, SPEC, TILE
from flair_engine.manifest import attach_manifest

OFFSET = 1024.0
STEP = 1 / 1024


def expected(images_nchw: np.ndarray) -> np.ndarray:
    """Return the labels of uint8 [N, 2, TILE, TILE], uint8 [N, CORE, CORE]."""
    kept = slice(MARGIN, MARGIN + CORE)
    first, second = images_nchw[:, :, kept, kept].swapaxes(0, 1)
    return np.where(first >= second, 1, 3).astype(np.uint8)


def write_near_ties(path: Path, *, head_step: float = STEP, resize: str | None = None) -> Path:
    """Write the graph: a convolution and a Relu, then the head, then a Resize if one is named."""
    one_to_one = np.eye(2, dtype=np.float32)[:, :, None, None]
    constants = {
        "mean": np.zeros((1, 2, 1, 1), np.float32),
        "std": np.ones((1, 2, 1, 1), np.float32),
        "widen": one_to_one,
        "widen_bias": np.zeros(2, np.float32),
        "head": one_to_one * np.float32(head_step),
        "head_bias": np.full(2, OFFSET, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "starts": np.array([MARGIN, MARGIN]),
        "ends": np.array([MARGIN + CORE, MARGIN + CORE]),
        "axes": np.array([2, 3]),
        "two": np.array(2.0, np.float32),
        "one": np.array(1.0, np.float32),
    }
    stride = {"strides": [2, 2]} if resize else {}
    sums = "sums" if resize else "whole"
    enlarge = helper.make_node(
        "Resize", ["sums", "", "scales"], ["whole"], mode=resize or "linear",
        coordinate_transformation_mode="align_corners",
    )  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normalised"]),
        helper.make_node(
            "Conv", ["normalised", "widen", "widen_bias"], ["wide"], name="widen", **stride
        ),
        helper.make_node("Relu", ["wide"], ["features"]),
        helper.make_node("Conv", ["features", "head", "head_bias"], [sums], name="head"),
        *([enlarge] if resize else []),
        helper.make_node("Slice", ["whole", "starts", "ends", "axes"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "one"], ["value"]),
        helper.make_node("Cast", ["value"], ["labels"], to=TensorProto.UINT8),
    ]
    if not resize:
        del constants["scales"]
    graph = helper.make_graph(
        nodes,
        "near ties",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 2, TILE, TILE])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", CORE, CORE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach_manifest(model, replace(SPEC, name="near ties"))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path
