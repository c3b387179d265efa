"""Writes tiny.onnx: two bands, tile 32, margin 8, a 5x5 box filter with an answer known exactly.

A pixel is class 1 where the sum of band 1 over its 5x5 neighbourhood is at least that of band 2,
else class 3; class 2 is inactive. Sums of 25 bytes are exact in FP32, so labels are too. Zero
padding at the tile's edge reaches 2 px, inside the margin.

Run it from the repository's root: python tests/doubles/tiny_model.py
"""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flair_engine.manifest import (
    MANIFEST_SCHEMA,
    LandCoverClass,
    ModelSpec,
    Normalization,
    attach_manifest,
)

TILE, MARGIN = 32, 8
CORE = TILE - 2 * MARGIN
SPEC = ModelSpec(
    schema=MANIFEST_SCHEMA,
    name="tiny",
    architecture="box-filter",
    bands=("one", "two"),
    gsd_m=0.2,
    tile_px=TILE,
    margin_px=MARGIN,
    precision="fp32",
    agreement_fp32=None,
    classes=(
        LandCoverClass(value=1, name="first", color="#db0e9a", active=True),
        LandCoverClass(value=2, name="second", color="#938e7b", active=False),
        LandCoverClass(value=3, name="third", color="#f80c00", active=True),
    ),
    normalization=Normalization(mean=(0.0, 0.0), std=(1.0, 1.0)),
    outputs=("labels",),
    weights_sha256="0" * 64,
    exporter="tiny_model",
)


def box_model(spec: ModelSpec = SPEC) -> onnx.ModelProto:
    """Return the model for any number of bands: the first is compared with the last."""
    bands = len(spec.bands)
    first_and_last = np.zeros((2, bands, 1, 1), np.float32)
    first_and_last[0, 0] = first_and_last[1, -1] = 1
    constants = {
        "box": first_and_last * np.ones((5, 5), np.float32),
        "starts": np.array([MARGIN, MARGIN]),
        "ends": np.array([TILE - MARGIN, TILE - MARGIN]),
        "axes": np.array([2, 3]),
        "two": np.array(2.0, np.float32),
        "one": np.array(1.0, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "box"], ["sums"], pads=[2, 2, 2, 2]),
        helper.make_node("Slice", ["sums", "starts", "ends", "axes"], ["logits"]),
        helper.make_node("ArgMax", ["logits"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["number", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "one"], ["value"]),
        helper.make_node("Cast", ["value"], ["labels"], to=TensorProto.UINT8),
    ]
    outputs = [helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", CORE, CORE])]
    if len(spec.outputs) > 1:
        constants |= {"area": np.array(25.0, np.float32)}
        nodes += [helper.make_node("Div", ["logits", "area"], ["means"])]
    if "confidence" in spec.outputs:  # the larger mean of the two neighbourhoods
        nodes += [
            helper.make_node("ReduceMax", ["means"], ["largest"], axes=[1], keepdims=0),
            helper.make_node("Cast", ["largest"], ["confidence"], to=TensorProto.UINT8),
        ]
        shape = ["N", CORE, CORE]
        outputs.append(helper.make_tensor_value_info("confidence", TensorProto.UINT8, shape))
    if "probabilities" in spec.outputs:  # the means of the two neighbourhoods, class 2 between
        constants |= {"zero": np.array(0.0, np.float32)}
        nodes += [
            helper.make_node("Split", ["means"], ["mean1", "mean3"], axis=1),
            helper.make_node("Mul", ["mean1", "zero"], ["mean2"]),
            helper.make_node("Concat", ["mean1", "mean2", "mean3"], ["three"], axis=1),
            helper.make_node("Cast", ["three"], ["probabilities"], to=TensorProto.UINT8),
        ]
        shape = ["N", 3, CORE, CORE]
        outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.UINT8, shape))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", bands, TILE, TILE])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    attach_manifest(model, spec)
    onnx.checker.check_model(model)
    return model


def write_box_model(folder: Path, *bands: str, mean: list[float] | None = None, **changes) -> Path:
    """Write the box-filter model for named bands; return its path.

    Class 1 wins where the 5x5 sum of the first band is at least that of the last, else class 3.
    """
    normalization = dataclasses.replace(
        SPEC.normalization,
        mean=tuple(mean or [100.0] * len(bands)),
        std=(50.0,) * len(bands),
    )
    spec = dataclasses.replace(
        SPEC, name="box", bands=bands, normalization=normalization, **changes
    )
    path = folder / f"box{len(bands)}.onnx"
    onnx.save(box_model(spec), path)
    return path


def write_cross_model(folder: Path, *bands: str) -> Path:
    """Write the model in FP16 with a cross of five pixels instead of the box; return its path.

    Sums up to 1275 are exact in FP16.
    """
    spec = dataclasses.replace(SPEC, precision="fp16")
    if bands:
        count = len(bands)
        normalization = Normalization(mean=(0.0,) * count, std=(1.0,) * count)
        spec = dataclasses.replace(spec, bands=bands, normalization=normalization)
    model = box_model(spec)
    cross = np.zeros((2, len(spec.bands), 5, 5), np.float16)
    cross[(0, 1), (0, -1), 2, 1:4] = cross[(0, 1), (0, -1), 1:4, 2] = 1
    for tensor in model.graph.initializer:
        if tensor.name == "box":
            tensor.CopyFrom(numpy_helper.from_array(cross, "box"))
    cast, convolution, *rest = model.graph.node
    to_fp16 = helper.make_node("Cast", ["pixels"], ["pixels16"], to=TensorProto.FLOAT16)
    convolution.input[0] = "pixels16"
    nodes = [cast, to_fp16, convolution, *rest]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    path = folder / "model.fp16.onnx"
    onnx.save(model, path)
    return path


if __name__ == "__main__":
    onnx.save(box_model(), Path(__file__).parents[1] / "data" / "tiny.onnx")
