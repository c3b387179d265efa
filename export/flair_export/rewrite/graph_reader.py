"""Reach of each node of an ONNX graph: the rows and columns it reads of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from flair_export.graph.passes import attributes_of, constants_of
from flair_export.graph.shapes import shapes_of
from flair_export.rewrite.receptive_field import Kernel, Span, Transposed, Upsampling

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

PIXELWISE = {"Add", "Cast", "Clip", "Concat", "Div", "Erf", "Mul", "Relu", "Sigmoid", "Sub"}
"""Each output pixel reads the same pixel of its inputs."""
LINEAR = {
    (b"nearest", b"asymmetric"): False,
    (b"linear", b"half_pixel"): True,
    (b"linear", b"pytorch_half_pixel"): True,
}
"""Mode and coordinates of the Resize operations understood, and whether they blend pixels."""
ROWS, COLS = 2, 3

Region = tuple[Span, Span]
"""Rows and columns."""
Axis: TypeAlias = "Kernel | Upsampling | Transposed"


@dataclass(frozen=True, slots=True)
class Reading:
    """What outputs of a node need of its inputs."""

    axes: tuple[Axis, Axis]
    """For rows and for columns."""
    operands: tuple[str, ...]
    """The inputs read so, which share one size; all others are the same for every pixel."""


class GraphReader:
    """A graph in which every tensor [N, channels, rows, columns] has its rows and columns known."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._constants = constants_of(model.graph)
        self._shapes = shapes_of(model)

    def whole(self, name: str) -> Region | None:
        """Return all rows and columns of a tensor; None for one that has none."""
        shape = self._shapes.get(name, ())
        if len(shape) != 4 or not all(shape[ROWS:]):
            return None
        return Span(0, shape[ROWS]), Span(0, shape[COLS])

    def channels(self, name: str) -> int:
        """Return the channels of a tensor that has rows and columns."""
        return int(self._shapes[name][1])

    def reading(self, node: onnx.NodeProto) -> Reading | None:
        """Return how `node` reads; None where it looks at the whole map or is not understood."""
        if len(node.output) != 1 or not self.whole(node.output[0]):
            return None
        if node.op_type in PIXELWISE:
            return self._pixelwise(node)
        rule: Callable[[onnx.NodeProto], tuple[Axis, Axis] | None] | None = {
            "Conv": self._window,
            "ConvTranspose": self._transposed,
            "MaxPool": self._window,
            "Resize": self._upsampling,
            "Slice": self._shift,
        }.get(node.op_type)
        axes = rule(node) if rule and self.whole(node.input[0]) else None
        return Reading(axes, (node.input[0],)) if axes else None

    def _pixelwise(self, node: onnx.NodeProto) -> Reading | None:
        if node.op_type == "Concat" and attributes_of(node)["axis"] != 1:
            return None
        size = self.whole(node.output[0])
        operands = tuple(name for name in node.input if self.whole(name) == size)
        flat = [name for name in node.input if name and name not in operands]
        if not all(set(self._shapes.get(name, (0,))[-2:]) <= {1} for name in flat):
            return None
        return Reading((Kernel(), Kernel()), operands)

    def _window(self, node: onnx.NodeProto) -> tuple[Kernel, Kernel] | None:
        attributes = attributes_of(node)
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or attributes.get("ceil_mode", 0):
            return None
        kernel = attributes.get("kernel_shape") or self._shapes[node.input[1]][ROWS:]
        ones = (1, 1)
        rows, cols = zip(
            kernel,
            attributes.get("strides", ones),
            attributes.get("dilations", ones),
            attributes.get("pads", (0, 0)),  # the first two: before rows, before columns
            strict=False,
        )
        return Kernel(*rows), Kernel(*cols)

    def _transposed(self, node: onnx.NodeProto) -> tuple[Transposed, Transposed] | None:
        attributes = attributes_of(node)
        plain = attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        dilated = any(step != 1 for step in attributes.get("dilations", ()))
        if not plain or dilated or {"output_shape", "output_padding"} & attributes.keys():
            return None
        kernel = attributes.get("kernel_shape") or self._shapes[node.input[1]][ROWS:]
        pads = attributes.get("pads", (0, 0))
        rows, cols = zip(kernel, attributes.get("strides", (1, 1)), pads, strict=False)
        return Transposed(*rows), Transposed(*cols)

    def _upsampling(self, node: onnx.NodeProto) -> tuple[Upsampling, Upsampling] | None:
        attributes = attributes_of(node)
        kind = (attributes.get("mode"), attributes.get("coordinate_transformation_mode"))
        scales = self._constants.get(node.input[2]) if len(node.input) == 3 else None
        if kind not in LINEAR or scales is None or (scales % 1).any():
            return None
        if not LINEAR[kind] and attributes.get("nearest_mode") != b"floor":
            return None
        rows, cols = (Upsampling(int(factor), LINEAR[kind]) for factor in scales[ROWS:])
        return rows, cols

    def _shift(self, node: onnx.NodeProto) -> tuple[Kernel, Kernel] | None:
        starts, _, axes, *steps = (self._constants.get(name) for name in node.input[1:])
        size = self.whole(node.input[0])
        assert size, "asked for tensors with rows and columns only"
        if starts is None or axes is None or not set(axes.tolist()) <= {ROWS, COLS}:
            return None
        if any(step is None or (step != 1).any() for step in steps):
            return None
        first = {ROWS: 0, COLS: 0}
        for axis, start in zip(axes.tolist(), starts.tolist(), strict=True):
            whole = size[axis - ROWS].stop
            first[axis] = min(max(start + whole if start < 0 else start, 0), whole)
        return Kernel(pad=-first[ROWS]), Kernel(pad=-first[COLS])
