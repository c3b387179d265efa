"""Compute only what the kept centre needs: a rewrite of an exported graph that changes no label.

A tile's margin is there for context; its labels are cut off by a Slice before `logits`. Walking
back from there, each tensor gets the region of its own pixel grid that is really needed: the union
over those who read it. Then every operation is narrowed to that region. A convolution runs unpadded
inside and is zero-padded only on the sides where its region meets the tile's edge, as before; where
a tensor holds more than a reader wants, a Slice with constant bounds stands between.

The walk stops, and the whole tensor is computed, at an operation that looks at the whole map
(pooled statistics, attention, a Resize with aligned corners) and where little would be saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flair_export.rewrite.graph_reader import COLS, ROWS, GraphReader
from flair_export.rewrite.receptive_field import Transposed, Upsampling

if TYPE_CHECKING:
    from flair_export.rewrite.graph_reader import Reading, Region

WORTHWHILE = 0.9
"""A region above this share of the map is computed whole: the Slices would cost what it saves."""


def crop_context(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` computing only what its outputs need: same names, manifest and labels.

    Logits are equal up to the order of FP32 sums. A model that keeps its whole tile is unchanged.
    """
    cropped = onnx.ModelProto()
    cropped.CopyFrom(model)
    reader = GraphReader(cropped)
    narrowed = _narrowed(cropped.graph, reader)
    if narrowed:
        rewrite = _Rewrite(cropped.graph, reader, narrowed)
        for node in cropped.graph.node:
            rewrite.add(node)
        rewrite.store()
    return cropped


def _narrowed(graph: onnx.GraphProto, reader: GraphReader) -> dict[str, Region]:
    """Walk back from the outputs; return the region of every tensor that need not be whole."""
    outputs = [output.name for output in graph.output]
    wanted = {name: whole for name in outputs if (whole := reader.whole(name))}
    narrowed = {}
    for node in reversed(graph.node):
        name = node.output[0]
        whole, reading = reader.whole(name), reader.reading(node)
        region = wanted.get(name, whole)
        if reading and whole and region and _pixels(region) < WORTHWHILE * _pixels(whole):
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


class _Rewrite:
    """The nodes that compute the narrowed regions, built in the order of the graph."""

    def __init__(
        self, graph: onnx.GraphProto, reader: GraphReader, narrowed: dict[str, Region]
    ) -> None:
        self._graph = graph
        self._reader = reader
        self._narrowed = narrowed
        self._nodes: list[onnx.NodeProto] = []
        self._held: dict[str, Region] = {}
        """What a tensor holds where that is not all of it."""
        made = {name for node in graph.node for name in node.output}
        self._nameable = made - {output.name for output in graph.output}
        self._names: dict[str, str] = {}
        """New names of tensors that took the place of a Slice's output."""
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, node: onnx.NodeProto) -> None:
        """Append `node`, narrowed where less than all of its output is needed."""
        reading = self._reader.reading(node)
        if reading and node.op_type == "Slice":
            self._add_slice(node, reading)
        elif reading and node.output[0] in self._narrowed:
            self._add_narrowed(node, reading)
        else:
            self._nodes.append(node)

    def store(self) -> None:
        """Put the nodes into the graph in place of its own, without what nobody reads any more."""
        graph = self._graph
        read = {output.name for output in graph.output}
        kept = []
        for node in reversed(self._nodes):
            node.input[:] = [self._final(name) for name in node.input]
            node.output[:] = [self._final(name) for name in node.output]
            if read.intersection(node.output):
                read.update(node.input)
                kept.append(node)
        weights = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(reversed(kept))
        graph.initializer.extend([*weights, *self._constants.values()])

    def _add_slice(self, node: onnx.NodeProto, reading: Reading) -> None:
        """Append one Slice of rows and columns, or none where the source holds just that."""
        (source,) = reading.operands
        name = node.output[0]
        region = self._narrowed.get(name) or self._whole(name)
        part = _read(reading, region, self._whole(source))
        self._held[name] = region
        if self._holds(source) == part and source in self._nameable:
            self._nameable.remove(source)
            self._names[source] = name
        else:
            self._append_slice(source, part, name)

    def _add_narrowed(self, node: onnx.NodeProto, reading: Reading) -> None:
        name = node.output[0]
        region = self._narrowed[name]
        part = _read(reading, region, self._whole(reading.operands[0]))
        added = onnx.NodeProto()
        added.CopyFrom(node)
        added.input[:] = [
            self._cut(source, part) if source in reading.operands else source
            for source in node.input
        ]
        rows, cols = reading.axes
        if isinstance(rows, Upsampling) and isinstance(cols, Upsampling):
            region = rows.makes(part[0]), cols.makes(part[1])
        elif node.op_type in ("Conv", "ConvTranspose", "MaxPool"):
            _set_pads(added, reading, region, part)
        self._held[name] = region
        self._nodes.append(added)

    def _whole(self, name: str) -> Region:
        whole = self._reader.whole(name)
        assert whole, "only tensors with rows and columns are narrowed"
        return whole

    def _holds(self, name: str) -> Region:
        return self._held.get(name) or self._whole(name)

    def _cut(self, name: str, region: Region) -> str:
        """Return the name of a tensor that holds just `region` of tensor `name`."""
        if self._holds(name) == region:
            return name
        (top, bottom), (left, right) = ((span.start, span.stop) for span in region)
        cut = f"{name}/rows_{top}_{bottom}_columns_{left}_{right}"
        if not any(cut in node.output for node in self._nodes):
            self._append_slice(name, region, cut)
        return cut

    def _append_slice(self, source: str, region: Region, name: str) -> None:
        origin = [span.start for span in self._holds(source)]
        starts = [span.start - first for span, first in zip(region, origin, strict=True)]
        ends = [span.stop - first for span, first in zip(region, origin, strict=True)]
        bounds = [self._constant(values) for values in (starts, ends, [ROWS, COLS])]
        self._nodes.append(helper.make_node("Slice", [source, *bounds], [name], name=name))

    def _final(self, name: str) -> str:
        while name in self._names:
            name = self._names[name]
        return name

    def _constant(self, values: list[int]) -> str:
        name = f"context_crop/{'_'.join(map(str, values))}"
        tensor = numpy_helper.from_array(np.array(values, dtype=np.int64), name)
        self._constants.setdefault(name, tensor)
        return name


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
