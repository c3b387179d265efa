"""Upsampling and convolution in one: a rewrite of an exported graph that changes no label.

A decoder doubles its map by repeating pixels, then convolves 3 x 3: of the nine pixels read, only
2 x 2 differ. The kernel's weights that meet the same pixel are added up beforehand, which makes the
two operations one transposed convolution of 4 x 4 with stride 2: four multiplications instead of
nine. Features joined to the doubled map are convolved by themselves, and the two sums added.

What runs is the same once more: a convolution of 2 x 2 to four times the channels, dealt out to the
pixels by DepthToSpace. CPUs do both within 1 %; TensorRT is reported to be slow at transposed
convolutions with an addition behind them (github.com/NVIDIA/TensorRT/issues/3098).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from flair_export.graph.passes import (
    add_weight,
    attributes_of,
    copied_node,
    readers_of,
    replaced,
    weights_of,
)
from flair_export.rewrite.graph_reader import COLS, ROWS, GraphReader, Reading
from flair_export.rewrite.receptive_field import Kernel, Upsampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from flair_export.graph.passes import Weights

DOUBLED = Upsampling(2, linear=False)
THREE = Kernel(size=3, pad=1)
TAPS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
"""Which rows of a 3 x 3 kernel are summed in row k of the transposed one. That takes input row i to
output row 2i - 1 + k, whose kernel rows read doubled rows 2i - 2 + k, 2i - 1 + k and 2i + k; input
row i is doubled rows 2i and 2i + 1."""


def fold_upsampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with doubling and 3 x 3 convolution folded: same names, manifest and labels.

    Logits are equal up to the order of FP32 sums. A model without the two is unchanged.
    """
    found = _matches(model)

    def replace(node: onnx.NodeProto, weights: Weights) -> list[onnx.NodeProto]:
        match = found.get(node.output[0])
        return _folded(match, weights) if match else [node]

    return replaced(model, replace)


def spell_out_transposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with the operations of `fold_upsampling` as convolution and DepthToSpace."""
    shapes = GraphReader(model)

    def replace(node: onnx.NodeProto, weights: Weights) -> list[onnx.NodeProto]:
        attributes = attributes_of(node)
        ours = node.op_type == "ConvTranspose" and attributes == {
            "kernel_shape": [4, 4],
            "strides": [2, 2],
            "pads": attributes.get("pads"),
        }
        return _spelled_out(node, shapes, weights) if ours else [node]

    return replaced(model, replace)


@dataclass(frozen=True, slots=True)
class _Match:
    """A doubling that only a convolution reads, joined to other features or not."""

    doubling: onnx.NodeProto
    join: onnx.NodeProto | None
    conv: onnx.NodeProto
    channels: slice
    """Of the convolution's input: those that were doubled."""


def _matches(model: onnx.ModelProto) -> dict[str, _Match]:
    """Return what can be folded, by the tensor its convolution makes."""
    outputs = {output.name for output in model.graph.output}
    readers = readers_of(model.graph)
    only_reader = {
        name: nodes[0] for name, nodes in readers.items() if len(nodes) == 1 and name not in outputs
    }
    reader, weights = GraphReader(model), weights_of(model.graph)
    found: dict[str, _Match] = {}
    for node in model.graph.node:
        match = _match(node, only_reader, reader)
        if match and _is_ungrouped(match.conv, reader, weights):
            found.setdefault(match.conv.output[0], match)
    return found


def _match(
    doubling: onnx.NodeProto, only_reader: Mapping[str, onnx.NodeProto], reader: GraphReader
) -> _Match | None:
    """Return the match that starts at a node, where one does."""
    if not _is(reader.reading(doubling), DOUBLED):
        return None
    up = doubling.output[0]
    join, conv = None, only_reader.get(up)
    before = 0
    if conv is not None and conv.op_type == "Concat" and reader.reading(conv):  # along channels
        join, conv = conv, only_reader.get(conv.output[0])
        before = sum(reader.channels(name) for name in join.input[: list(join.input).index(up)])
    if conv is None or conv.op_type != "Conv" or not _is(reader.reading(conv), THREE):
        return None
    return _Match(doubling, join, conv, slice(before, before + reader.channels(up)))


def _is_ungrouped(conv: onnx.NodeProto, reader: GraphReader, weights: Weights) -> bool:
    """Return whether the weights are constant and have a kernel for every channel read."""
    kernel = weights.get(conv.input[1])
    return kernel is not None and kernel.dims[1] == reader.channels(conv.input[0])


def _is(reading: Reading | None, axis: Upsampling | Kernel) -> bool:
    return reading is not None and reading.axes == (axis, axis)


def _folded(match: _Match, weights: Weights) -> list[onnx.NodeProto]:
    """Return the nodes that take the place of a match; put their weights into `weights`."""
    out = match.conv.output[0]
    kernel = numpy_helper.to_array(weights[match.conv.input[1]])
    doubled = np.einsum("ocyx,ky,lx->cokl", kernel[:, match.channels], TAPS, TAPS)
    bias, up, name = match.conv.input[2:], match.doubling.input[0], f"{out}/doubled"
    inputs = [
        up,
        add_weight(weights, f"{out}/doubled_weight", doubled),
        *(bias if match.join is None else ()),
    ]
    made = out if match.join is None else name
    nodes = [
        helper.make_node(
            "ConvTranspose", inputs, [made], name=name,
            kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1],
        )
    ]  # fmt: skip
    if match.join is None:
        return nodes
    joined = [source for source in match.join.input if source != match.doubling.output[0]]
    if len(joined) > 1:
        joined_name = f"{out}/joined"
        nodes.append(helper.make_node("Concat", joined, [joined_name], name=joined_name, axis=1))
        joined = [joined_name]
    rest = copied_node(match.conv)
    rest_kernel = np.delete(kernel, match.channels, axis=1)
    rest.input[:] = [*joined, add_weight(weights, f"{out}/rest_weight", rest_kernel), *bias]
    rest.output[:] = [f"{out}/rest"]
    total = helper.make_node("Add", [rest.output[0], name], [out], name=f"{out}/sum")
    return [*nodes, rest, total]


def _spelled_out(
    node: onnx.NodeProto, shapes: GraphReader, weights: Weights
) -> list[onnx.NodeProto]:
    """Return the nodes that take the place of a transposed convolution of 4 x 4, stride 2.

    Uncut, its output row 2 p + b sums kernel row b of input row p and row b + 2 of row p - 1: a
    convolution of 2 x 2 that is padded by 1 makes both rows b of p as channels.
    """
    out = node.output[0]
    cuts = np.array(attributes_of(node)["pads"])  # rows and columns before, rows and columns after
    pads = np.where(cuts < 2, 1, 0)  # a position that is cut off whole is not computed
    cuts -= np.where(cuts < 2, 0, 2)
    kernel = numpy_helper.to_array(weights[node.input[1]])
    channels, filters = kernel.shape[:2]
    # [channels, filters, tap from the end, b] along rows and along columns.
    apart = kernel.reshape(channels, filters, 2, 2, 2, 2)[:, :, ::-1, :, ::-1, :]
    four = apart.transpose(3, 5, 1, 0, 2, 4).reshape(4 * filters, channels, 2, 2)
    inputs = [node.input[0], add_weight(weights, f"{out}/four_weight", four)]
    if len(node.input) > 2:
        bias = numpy_helper.to_array(weights[node.input[2]])
        inputs.append(add_weight(weights, f"{out}/four_bias", np.tile(bias, 4)))
    conv, dealt = f"{out}/four", f"{out}/dealt"
    size = shapes.whole(out)
    assert size, "a convolution has rows and columns"
    starts, ends = cuts[:2], cuts[:2] + [span.size for span in size]
    bounds = [
        add_weight(weights, f"{out}/starts", starts),
        add_weight(weights, f"{out}/ends", ends),
        add_weight(weights, f"{out}/axes", np.array([ROWS, COLS])),
    ]
    return [
        helper.make_node(
            "Conv", inputs, [conv], name=conv, kernel_shape=[2, 2], pads=pads.tolist()
        ),
        helper.make_node("DepthToSpace", [conv], [dealt], name=dealt, blocksize=2, mode="DCR"),
        helper.make_node("Slice", [dealt, *bounds], [out], name=out),
    ]
