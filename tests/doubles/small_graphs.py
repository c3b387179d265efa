"""Small ONNX graphs written node by node, and running them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flair_engine.inference.onnx_runtime import open_session
from flair_export.proof.compare import answers


class SmallGraph:
    """A graph written one node at a time, with whole numbers small enough for FP32 to be exact."""

    def __init__(self, height: int, width: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.sizes = {"image": (height, width)}

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: list[str], size: tuple[int, int], **attributes) -> str:
        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        self.sizes[name] = size
        return name

    def conv(
        self, source: str, kernel=3, stride=1, dilation=1, pads=(1, 1, 1, 1), size=None
    ) -> str:
        weight = self.random.integers(-2, 3, (2, 2, kernel, kernel)).astype(np.float32)
        strides, dilations = [stride] * 2, [dilation] * 2
        inputs = [source, self.constant(weight)]
        size = size or self.sizes[source]
        made = self.node("Conv", inputs, size, strides=strides, dilations=dilations, pads=pads)
        return self.clipped(made)

    def transposed(self, source: str, kernel: int, pads: list[int]) -> str:
        weight = self.random.integers(-2, 3, (2, 2, kernel, kernel)).astype(np.float32)
        rows, cols = self.sizes[source]
        made = self.node(
            "ConvTranspose", [source, self.constant(weight)], (rows * 2, cols * 2),
            strides=[2, 2], pads=pads,
        )  # fmt: skip
        return self.clipped(made)

    def clipped(self, source: str) -> str:
        """Keep numbers small enough for the next sums to be exact."""
        bounds = [self.constant(np.float32(value)) for value in (-7, 7)]
        return self.node("Clip", [source, *bounds], self.sizes[source])

    def resize(self, source: str, factor: int, mode="nearest", coordinates="asymmetric") -> str:
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        rows, cols = self.sizes[source]
        options = {"nearest_mode": "floor"} if mode == "nearest" else {}
        return self.node(
            "Resize", [source, "", scales], (rows * factor, cols * factor),
            mode=mode, coordinate_transformation_mode=coordinates, **options,
        )  # fmt: skip

    def cut(self, source: str, top: int, left: int, height: int, width: int, **steps) -> str:
        values = ([top, left], [top + height, left + width], [2, 3], *steps.values())
        bounds = [self.constant(np.array(value)) for value in values]
        return self.node("Slice", [source, *bounds], (height, width))

    def model(self, *outputs: str) -> onnx.ModelProto:
        def declared(name, batch):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, None, None, None])

        image = helper.make_tensor_value_info(
            "image", TensorProto.FLOAT, ["N", 2, *self.sizes["image"]]
        )
        graph = helper.make_graph(
            self.nodes, "small", [image], [declared(name, None) for name in outputs], self.weights
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def answers_of(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    """Run a model on one thread; return its outputs by name, in their order."""
    session = open_session(model.SerializeToString(), threads=1)
    return answers(session, [output.name for output in session.get_outputs()], image)


def run(model: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a model in their order."""
    return list(answers_of(model, image).values())


def labels_of(model: onnx.ModelProto, images_nchw: np.ndarray) -> np.ndarray:
    """Return the labels of an exported model."""
    return answers_of(model, images_nchw)["labels"]


def assert_same(model: onnx.ModelProto, rewritten: onnx.ModelProto, seed: int = 0) -> None:
    """Check that two models give the very same numbers on a seeded image."""
    onnx.checker.check_model(rewritten, full_check=True)
    shape = [dim.dim_value or 2 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(seed).integers(-7, 8, shape).astype(np.float32)
    for one, other in zip(run(model, image), run(rewritten, image), strict=True):
        np.testing.assert_array_equal(one, other)


def operators(model: onnx.ModelProto) -> list[str]:
    """Return the operator of each node, in the order of the graph."""
    return [node.op_type for node in model.graph.node]
