"""Context crop: a rewrite that computes only what the kept centre needs and changes no label.

A tile's margin is there for context; its labels are cut off by a Slice before `logits`. Walking
back from there, each tensor gets the region of its own pixel grid that is really needed: the union
over those who read it. Then every operation is narrowed to that region. A convolution runs unpadded
inside and is zero-padded only on the sides where its region meets the tile's edge, as before; where
a tensor holds more than a reader wants, a Slice with constant bounds stands between.

The walk stops, and the whole tensor is computed, at an operation that looks at the whole map
(pooled statistics, attention, a Resize with aligned corners) and where little would be saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from flair_export.graph.passes import add_weight, copied, copied_node, rebuild, rename, weights_of
from flair_export.rewrite.graph_reader import COLS, ROWS, GraphReader
from flair_export.rewrite.receptive_field import Transposed, Upsampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flair_export.graph.passes import Weights
    from flair_export.rewrite.graph_reader import Reading, Region

WORTHWHILE = 0.9
"""A region above this share of the map is computed whole: the Slices would cost what it saves."""


def crop_context(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` computing only what its outputs need: same names, manifest and labels.

    Logits are equal up to the order of FP32 sums. A model that keeps its whole tile is unchanged.
    """
    cropped = copied(model)
    reader = GraphReader(cropped)
    wanted = _wanted(cropped.graph, reader)
    if wanted:
        _crop(cropped.graph, _Regions(reader, wanted, _held(cropped.graph, reader, wanted)))
    return cropped


def _wanted(graph: onnx.GraphProto, reader: GraphReader) -> dict[str, Region]:
    """Walk back from the outputs; return the region of every tensor that need not be whole."""
    outputs = [output.name for output in graph.output]
    images = {image.name for image in graph.input}
    wanted = {name: whole for name in outputs if (whole := reader.whole(name))}
    narrowed = {}
    for node in reversed(graph.node):
        name = node.output[0]
        whole, reading = reader.whole(name), reader.reading(node)
        region = wanted.get(name, whole)
        worthwhile = whole and region and _pixels(region) < WORTHWHILE * _pixels(whole)
        # TensorRT takes uint8 into a Cast and into nothing else, so no Slice may come before it.
        is_first = node.op_type == "Cast" and not images.isdisjoint(node.input)
        if reading and region and worthwhile and not is_first:
            narrowed[name] = region
        else:
            region = whole
            if node.op_type != "Slice":  # which is where narrowing begins
                reading = None
        for source in node.input:
            if everything := reader.whole(source):
                part = everything
                if region and reading and source in reading.operands:
                    part = _read(reading, region, everything)
                before = wanted.get(source, part)
                wanted[source] = part[0] | before[0], part[1] | before[1]
    return narrowed


def _pixels(region: Region) -> int:
    return region[0].size * region[1].size


def _read(reading: Reading, region: Region, whole: Region) -> Region:
    """Return the pixels of an input `whole` in size that outputs `region` read."""
    rows, cols = (
        axis.reads(span).within(all_of_it.size)
        for axis, span, all_of_it in zip(reading.axes, region, whole, strict=True)
    )
    return rows, cols


def _held(
    graph: onnx.GraphProto, reader: GraphReader, wanted: Mapping[str, Region]
) -> dict[str, Region]:
    """Return what each narrowed tensor will hold: what is wanted, or whole pixels enlarged."""
    held = dict(wanted)
    for node in graph.node:
        name, reading = node.output[0], reader.reading(node)
        if name in wanted and reading:
            rows, cols = reading.axes
            whole = reader.whole(reading.operands[0])
            if isinstance(rows, Upsampling) and isinstance(cols, Upsampling) and whole:
                part = _read(reading, wanted[name], whole)
                held[name] = rows.makes(part[0]), cols.makes(part[1])
    return held


@dataclass(frozen=True, slots=True)
class _Regions:
    """Rows and columns of every tensor, before and after the crop."""

    reader: GraphReader
    wanted: Mapping[str, Region]
    """Of the tensors that are narrowed: what is needed."""
    held: Mapping[str, Region]
    """Of the same tensors: what they will hold."""

    def whole(self, name: str) -> Region:
        """Return all of a tensor."""
        whole = self.reader.whole(name)
        assert whole, "only tensors with rows and columns are narrowed"
        return whole

    def after(self, name: str) -> Region:
        """Return what a tensor will hold."""
        return self.held.get(name) or self.whole(name)

    def read(self, name: str, reading: Reading) -> Region:
        """Return what the maker of `name` reads of its operands for what is wanted of it."""
        wanted = self.wanted.get(name) or self.whole(name)
        return _read(reading, wanted, self.whole(reading.operands[0]))


def _crop(graph: onnx.GraphProto, regions: _Regions) -> None:
    """Replace the nodes of a graph by those that compute what is wanted."""
    weights = weights_of(graph)
    made = {name for node in graph.node for name in node.output}
    nameable = made - {output.name for output in graph.output}
    names: dict[str, str] = {}
    nodes: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        name, reading = node.output[0], regions.reader.reading(node)
        if reading and node.op_type == "Slice":
            (source,) = reading.operands
            part = regions.read(name, reading)
            if regions.after(source) == part and source in nameable - names.keys():
                names[source] = name  # it holds just what the Slice would make of it
                continue
            new = [_slice(source, regions.after(source), part, name, weights)]
        elif reading and name in regions.wanted:
            new = _narrowed(node, reading, regions, weights)
        else:
            new = [node]
        for entry in new:
            nodes.setdefault(entry.output[0], entry)  # two readers may want the same cut
    for source, name in reversed(names.items()):  # where a Slice of a Slice went
        names[source] = names.get(name, name)
    rename(nodes.values(), names)
    rebuild(graph, nodes.values(), weights.values())


def _narrowed(
    node: onnx.NodeProto, reading: Reading, regions: _Regions, weights: Weights
) -> list[onnx.NodeProto]:
    """Return a node that computes what is wanted, behind Slices of inputs that hold more."""
    name = node.output[0]
    part = regions.read(name, reading)
    cuts = {
        source: _slice(source, regions.after(source), part, _cut_name(source, part), weights)
        for source in reading.operands
        if regions.after(source) != part
    }
    narrowed = copied_node(node)
    narrowed.input[:] = [
        cuts[source].output[0] if source in cuts else source for source in node.input
    ]
    if node.op_type in ("Conv", "ConvTranspose", "MaxPool"):
        _set_pads(narrowed, reading, regions.after(name), part)
    return [*cuts.values(), narrowed]


def _cut_name(name: str, region: Region) -> str:
    (top, bottom), (left, right) = ((span.start, span.stop) for span in region)
    return f"{name}/rows_{top}_{bottom}_columns_{left}_{right}"


def _slice(source: str, held: Region, part: Region, name: str, weights: Weights) -> onnx.NodeProto:
    """Return a Slice that makes `name`: the `part` of a tensor that holds `held`."""
    origin = [span.start for span in held]
    starts = [span.start - first for span, first in zip(part, origin, strict=True)]
    ends = [span.stop - first for span, first in zip(part, origin, strict=True)]
    bounds = [
        add_weight(
            weights,
            f"context_crop/{'_'.join(map(str, values))}",
            np.array(values, dtype=np.int64),
        )
        for values in (starts, ends, [ROWS, COLS])
    ]
    return helper.make_node("Slice", [source, *bounds], [name], name=name)


def _set_pads(node: onnx.NodeProto, reading: Reading, region: Region, part: Region) -> None:
    """Pad only where the window still reaches beyond the tile; cut what is not asked for."""
    before, after = [], []
    for axis, span, inside in zip(reading.axes, region, part, strict=True):
        if isinstance(axis, Transposed):
            first, last = axis.cuts(span, inside)
        else:
            reach = axis.reads(span)
            first, last = inside.start - reach.start, reach.stop - inside.stop
        before.append(first)
        after.append(last)
    kept = [entry for entry in node.attribute if entry.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", [*before, *after])])
