"""The pixels that each node reads, and the nodes that are not understood."""

from __future__ import annotations

import numpy as np
from doubles.small_graphs import SmallGraph

from flair_export.rewrite.graph_reader import GraphReader, Reading
from flair_export.rewrite.receptive_field import Kernel, Span, Transposed, Upsampling


def reading_of(small: SmallGraph, name: str) -> Reading | None:
    """Return how the node that makes `name` reads."""
    model = small.model(name)
    (node,) = (node for node in model.graph.node if node.output[0] == name)
    return GraphReader(model).reading(node)


def test_a_convolution_is_a_window_along_each_axis():
    small = SmallGraph(20, 16)
    weight = small.constant(np.ones((2, 2, 3, 5), np.float32))
    options = {"strides": [2, 1], "dilations": [1, 2], "pads": [1, 4, 1, 4]}
    made = small.node("Conv", ["image", weight], (10, 16), **options)
    reading = reading_of(small, made)
    assert reading == Reading(
        (Kernel(size=3, stride=2, pad=1), Kernel(size=5, dilation=2, pad=4)), ("image",)
    )


def test_a_sum_reads_the_same_pixel_of_both():
    small = SmallGraph(8, 9)
    other = small.conv("image")
    made = small.node("Add", ["image", other], (8, 9))
    assert reading_of(small, made) == Reading((Kernel(), Kernel()), ("image", other))


def test_enlargement_by_a_whole_factor():
    small = SmallGraph(8, 9)
    doubled = Upsampling(2, linear=False)
    assert reading_of(small, small.resize("image", 2)) == Reading((doubled, doubled), ("image",))
    smooth = Upsampling(4, linear=True)
    made = small.resize("image", 4, "linear", "half_pixel")
    assert reading_of(small, made) == Reading((smooth, smooth), ("image",))


def test_a_transposed_convolution():
    small = SmallGraph(8, 9)
    weight = small.constant(np.ones((2, 2, 4, 4), np.float32))
    options = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    made = small.node("ConvTranspose", ["image", weight], (16, 18), **options)
    axis = Transposed(kernel=4, stride=2, pad=1)
    assert reading_of(small, made) == Reading((axis, axis), ("image",))


def test_a_slice_is_a_shift():
    small = SmallGraph(8, 9)
    reading = reading_of(small, small.cut("image", 3, 2, 4, 5))
    assert reading == Reading((Kernel(pad=-3), Kernel(pad=-2)), ("image",))


def test_what_looks_at_the_whole_map_has_no_reading():
    small = SmallGraph(8, 9)
    assert reading_of(small, small.node("GlobalAveragePool", ["image"], (1, 1))) is None
    assert reading_of(small, small.resize("image", 2, "linear", "align_corners")) is None
    assert reading_of(small, small.node("Softmax", ["image"], (8, 9), axis=1)) is None


def test_rows_columns_and_channels():
    small = SmallGraph(8, 9)
    made = small.conv("image")
    reader = GraphReader(small.model(made))
    assert reader.whole(made) == (Span(0, 8), Span(0, 9))
    assert reader.channels(made) == 2
    assert reader.whole("constant1") is None
    assert reader.whole("nowhere") is None
