"""The cropped graph against the whole one: small random graphs exactly, networks to rounding."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from doubles.networks import graph_of, random_graph, small_spec
from doubles.small_graphs import SmallGraph, assert_same, operators, run
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.cards import find_card
from flair_export.graph.contract import check_graph, with_logits
from flair_export.graph.flops import gflop_per_tile
from flair_export.graph.shapes import shapes_of
from flair_export.rewrite.context_crop import crop_context

if TYPE_CHECKING:
    import onnx

UNET, FPN, DEEPLAB = (f"rgb_15cl_resnet34-{name}" for name in ("unet", "fpn", "deeplabv3"))


@st.composite
def small_graphs(draw):
    """A random graph of convolutions, pools, upsamplings and skips that ends in a Slice."""
    sizes = st.integers(9, 24)
    small = SmallGraph(draw(sizes), draw(sizes), draw(st.integers(0, 99)))
    last = "image"
    for _ in range(draw(st.integers(1, 9))):
        rows, cols = small.sizes[last]
        kinds = ["conv", "uneven", "dilated", "join"]
        kinds += ["stride", "pool"] if min(rows, cols) > 4 else []
        kinds += ["nearest", "linear", "transposed"] if max(rows, cols) < 40 else []
        kind = draw(st.sampled_from(kinds))
        half = (-(-rows // 2), -(-cols // 2))
        if kind == "conv":
            last = small.conv(last)
        elif kind == "uneven":
            last = small.conv(last, kernel=4, pads=(2, 1, 1, 2))
        elif kind == "dilated":
            dilation = draw(st.integers(2, 9))
            last = small.conv(last, dilation=dilation, pads=[dilation] * 4)
        elif kind == "stride":
            kernel = draw(st.sampled_from([1, 3]))
            last = small.conv(last, kernel, stride=2, pads=[kernel // 2] * 4, size=half)
        elif kind == "pool":
            options = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
            last = small.node("MaxPool", [last], half, **options)
        elif kind == "nearest":
            last = small.resize(last, draw(st.sampled_from([2, 3])))
        elif kind == "transposed":
            kernel, before, after = draw(st.sampled_from([(4, 1, 1), (4, 2, 0), (2, 0, 0)]))
            last = small.transposed(last, kernel, pads=[before, before, after, after])
        elif kind == "linear":
            last = small.resize(last, draw(st.sampled_from([2, 4])), "linear", "half_pixel")
            last = small.conv(last)
        else:
            alike = [name for name, size in small.sizes.items() if size == (rows, cols)]
            last = small.node("Add", [last, draw(st.sampled_from(alike))], (rows, cols))
            last = small.conv(last)
    rows, cols = small.sizes[last]
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    size = draw(st.integers(1, rows - top)), draw(st.integers(1, cols - left))
    return small, small.cut(last, top, left, *size)


@settings(max_examples=150, deadline=None)
@given(small_graphs(), st.booleans())
def test_random_graphs_give_the_very_same_numbers(made, two_outputs):
    small, last = made
    names = [last, small.nodes[len(small.nodes) // 2].output[0]] if two_outputs else [last]
    model = small.model(*dict.fromkeys(names))
    cropped = crop_context(model)
    assert_same(model, cropped)
    assert gflop_per_tile(cropped) <= gflop_per_tile(model)


def unet(height=32, width=32, top=9, left=6, size=(13, 11)):
    """Two levels, a skip, odd offsets."""
    small = SmallGraph(height, width)
    high = small.conv("image")
    low = small.conv(high, stride=2, size=(height // 2, width // 2))
    up = small.resize(low, 2)
    joined = small.node("Concat", [up, high], (height, width), axis=1)
    weight = small.constant(np.ones((1, 4, 3, 3), np.float32))
    out = small.node("Conv", [joined, weight], (height, width), pads=[1, 1, 1, 1])
    return small, small.cut(out, top, left, *size)


def test_only_the_regions_needed_are_computed():
    small, last = unet()
    cropped = crop_context(small.model(last))
    sizes = {name: shape[2:] for name, shape in shapes_of(cropped).items()}
    first, second, third = (node for node in cropped.graph.node if node.op_type == "Conv")
    # Out: rows 9..21, columns 6..16. Read: rows 8..22, columns 5..17; at half size rows 4..11,
    # columns 2..8, which read rows 7..23, columns 3..17 of the first convolution.
    assert sizes[third.output[0]] == (13, 11)
    assert sizes[second.output[0]] == (8, 7)
    assert sizes[first.output[0]] == (17, 15)
    assert operators(cropped).count("Slice") == 3, "image, skip and the upsampling's odd offset"
    assert third.output[0] == last, "no Slice where the convolution makes just what is kept"


def test_zero_padding_stays_at_the_edge_of_the_tile():
    small, last = unet(top=0, left=20, size=(10, 12))
    model = small.model(last)
    cropped = crop_context(model)
    assert_same(model, cropped)
    # The second convolution goes in steps of two and never reaches beyond the last column.
    pads = [
        list(attribute.ints)
        for node in cropped.graph.node
        for attribute in node.attribute
        if attribute.name == "pads"
    ]
    assert pads == [[1, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize(
    "stop",
    [
        lambda small, name, size: small.resize(name, 2, "linear", "align_corners"),
        lambda small, name, size: small.resize(name, 2, "nearest", "half_pixel"),
        lambda small, name, size: small.resize(small.resize(name, 2), 1, "cubic", "half_pixel"),
        lambda small, name, size: small.node(
            "InstanceNormalization",
            [name, *(small.constant(np.ones(2, np.float32)) for _ in range(2))],
            size,
        ),
        lambda small, name, size: small.node(
            "Mul", [name, small.constant(np.arange(20, dtype=np.float32))], size
        ),
        lambda small, name, size: small.node(
            "MaxPool", [name], size, kernel_shape=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
        ),
        lambda small, name, size: small.node(
            "Concat", [name, name], (2 * size[0], size[1]), axis=2
        ),
        lambda small, name, size: small.node("Softmax", [name], size, axis=1),
        lambda small, name, size: small.cut(name, 0, 0, 10, 10, steps=[2, 2]),
    ],
    ids=["aligned corners", "other nearest", "cubic", "statistics", "position", "ceil", "rows",
         "softmax", "steps"],
)  # fmt: skip
def test_the_walk_stops_at_what_looks_at_the_whole_map(stop):
    small = SmallGraph(20, 20)
    made = stop(small, small.conv("image"), (20, 20))
    last = small.cut(made, 1, 1, 3, 3)
    model = small.model(last)
    cropped = crop_context(model)
    assert_same(model, cropped)
    assert gflop_per_tile(cropped) == gflop_per_tile(model)


def test_pooled_features_are_the_same_for_every_pixel():
    small = SmallGraph(20, 20)
    pooled = small.node("GlobalAveragePool", ["image"], (1, 1))
    sum_ = small.node("Add", [small.conv("image"), pooled], (20, 20))
    model = small.model(small.cut(sum_, 5, 5, 6, 6))
    cropped = crop_context(model)
    assert_same(model, cropped)
    assert gflop_per_tile(cropped) < gflop_per_tile(model)


def test_two_slices_of_the_same_pixels():
    small = SmallGraph(20, 20)
    made = small.conv("image")
    model = small.model(small.cut(made, 4, 4, 5, 5), small.cut(made, 4, 4, 5, 5))
    assert_same(model, crop_context(model))


def test_a_slice_from_the_end_and_of_channels():
    small = SmallGraph(20, 20)
    made = small.conv("image")
    channel = [small.constant(np.array([value])) for value in (0, 1, 1)]
    single = small.node("Slice", [made, *channel], (20, 20))
    bounds = [small.constant(np.array(value)) for value in ([-6, -20], [-2, 99], [2, 3])]
    model = small.model(small.node("Slice", [single, *bounds], (4, 20)))
    assert_same(model, crop_context(model))


def test_where_little_would_be_saved_nothing_changes():
    small, last = unet(size=(31, 31), top=1, left=0)
    model = small.model(last)
    assert crop_context(model) == model


@cache
def whole_graph(name: str, tile_px: int, margin_px: int, outputs=("labels",)) -> onnx.ModelProto:
    card = find_card(name)
    return random_graph(card, small_spec(card, outputs, tile_px, margin_px))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tile_px", "margin_px"),
    [(UNET, 96, 7), (UNET, 160, 41), (FPN, 96, 40), (DEEPLAB, 64, 17)],
)
def test_labels_of_the_collection(name, tile_px, margin_px):
    model = whole_graph(name, tile_px, margin_px, OUTPUT_NAMES)
    cropped = crop_context(model)
    check_graph(cropped, small_spec(find_card(name), OUTPUT_NAMES, tile_px, margin_px))
    assert operators(cropped)[-1] == "Cast"
    assert set(operators(cropped)) <= set(operators(model))
    image = np.random.default_rng(5).integers(0, 256, (2, 3, tile_px, tile_px), dtype=np.uint8)
    *whole, logits = run(with_logits(model), image)
    *narrow, cropped_logits = run(with_logits(cropped), image)
    np.testing.assert_array_equal(whole[0], narrow[0])
    for one, other in zip(whole[1:], narrow[1:], strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert np.abs(logits - cropped_logits).max() <= 1e-4 * np.abs(logits).max()


@pytest.mark.slow
def test_work_at_the_official_geometry():
    model = whole_graph(UNET, 512, 128)
    assert gflop_per_tile(model) == pytest.approx(63.57, abs=0.01)
    assert gflop_per_tile(crop_context(model)) == pytest.approx(45.59, abs=0.01)


def test_a_tile_that_is_kept_whole_is_left_alone(tiny, rgb):
    spec = small_spec(rgb, margin_px=0)
    model = graph_of(tiny, spec)
    assert crop_context(model) == model


def test_the_model_given_is_not_changed():
    small, last = unet()
    model = small.model(last)
    before = model.SerializeToString()
    assert crop_context(model) != model
    assert model.SerializeToString() == before


def test_only_a_cast_reads_the_pixels(tiny, rgb):
    """TensorRT takes uint8 into nothing else, whatever of the tile is needed."""
    cropped = crop_context(graph_of(tiny, small_spec(rgb)))
    assert [node.op_type for node in cropped.graph.node if "image" in node.input] == ["Cast"]
    assert cropped.graph.node[1].op_type == "Slice"
