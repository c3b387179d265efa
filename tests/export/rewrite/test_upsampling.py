"""Folded graphs against those they were made of: small ones exactly, networks to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from doubles.networks import random_graph, small_spec
from doubles.small_graphs import SmallGraph, assert_same, operators, run
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.manifest import OUTPUT_NAMES
from flair_export.cards import find_card
from flair_export.graph.contract import check_graph, with_logits
from flair_export.graph.flops import gflop_per_tile
from flair_export.rewrite.context_crop import crop_context
from flair_export.rewrite.upsampling import fold_upsampling, spell_out_transposed

UNET = "rgb_15cl_resnet34-unet"


def decoder(rows, cols, before=0, after=0, bias=True, seed=0, **conv):
    """Double a map, join others before and after it, convolve."""
    small = SmallGraph(rows, cols, seed)
    high = (2 * rows, 2 * cols)
    others = [small.transposed("image", 2, [0, 0, 0, 0]) for _ in range(before + after)]
    up = small.resize("image", 2)
    joined, channels = up, 2 * (1 + before + after)
    if others:
        inputs = [*others[:before], up, *others[before:]]
        joined = small.node("Concat", inputs, high, axis=1)
    kernel = conv.pop("kernel", 3)
    groups = conv.get("group", 1)
    shape = (4, channels // groups, kernel, kernel)
    inputs = [joined, small.constant(small.random.integers(-2, 3, shape).astype(np.float32))]
    if bias:
        inputs.append(small.constant(small.random.integers(-9, 9, 4).astype(np.float32)))
    out = small.node("Conv", inputs, high, **{"pads": [kernel // 2] * 4, **conv})
    return small, up, out


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    before=st.integers(0, 2),
    after=st.integers(0, 2),
    bias=st.booleans(),
    seed=st.integers(0, 99),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_folded_decoder_gives_the_very_same_numbers(rows, cols, before, after, bias, seed, cut):
    small, _, out = decoder(rows, cols, before, after, bias, seed)
    model = small.model(out)
    folded = fold_upsampling(model)
    assert "Resize" not in operators(folded)
    assert ("Concat" in operators(folded)) == (before + after > 1)
    assert_same(model, folded, seed)
    spelled = spell_out_transposed(folded)
    assert "DepthToSpace" in operators(spelled)
    assert_same(model, spelled, seed)
    top, left = int(cut[0] * (2 * rows - 1)), int(cut[1] * (2 * cols - 1))
    last = small.cut(out, top, left, 2 * rows - top, 2 * cols - left)
    model = small.model(last)
    cropped = crop_context(fold_upsampling(model))
    assert_same(model, cropped, seed)
    assert_same(model, spell_out_transposed(cropped), seed)


@pytest.mark.parametrize(
    "conv", [{"kernel": 5}, {"strides": [2, 2]}, {"pads": [0, 0, 0, 0]}, {"group": 2},
             {"dilations": [2, 2], "pads": [2, 2, 2, 2]}],
)  # fmt: skip
def test_other_convolutions_are_left_alone(conv):
    small, _, out = decoder(6, 5, before=1, **conv)
    small.sizes[out] = (None, None)
    model = small.model(out)
    assert operators(fold_upsampling(model)) == operators(model)


def test_maps_joined_along_rows_are_left_alone():
    small = SmallGraph(6, 5)
    up = small.resize("image", 2)
    other = small.transposed("image", 2, [0, 0, 0, 0])
    joined = small.node("Concat", [up, other], (24, 10), axis=2)
    model = small.model(small.conv(joined))
    assert operators(fold_upsampling(model)) == operators(model)


@pytest.mark.parametrize("given", [{"group": 2}, {"strides": [1, 1]}, {"dilations": [2, 2]}])
def test_transposed_convolutions_of_others_are_left_alone(given):
    small = SmallGraph(6, 5)
    weight = small.constant(np.ones((2, 2, 4, 4), np.float32))
    attributes = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1], **given}
    out = small.node("ConvTranspose", ["image", weight], (None, None), **attributes)
    model = small.model(out)
    assert operators(spell_out_transposed(model)) == operators(model)


def test_a_doubled_map_that_others_read_is_left_alone():
    small, up, out = decoder(6, 5)
    for model in (small.model(out, up), small.model(out, small.conv(up))):
        assert operators(fold_upsampling(model)) == operators(model)


@pytest.mark.parametrize("factor", [3, 4])
def test_other_factors_are_left_alone(factor):
    small = SmallGraph(6, 5)
    model = small.model(small.conv(small.resize("image", factor)))
    assert operators(fold_upsampling(model)) == operators(model)


def test_what_feeds_no_convolution_is_left_alone():
    small = SmallGraph(6, 5)
    up = small.resize("image", 2)
    model = small.model(small.node("Relu", [up], (12, 10)))
    assert operators(fold_upsampling(model)) == operators(model)


@pytest.mark.slow
@pytest.mark.parametrize(("tile_px", "margin_px"), [(96, 7), (160, 41), (64, 0)])
def test_labels_of_the_collection(tile_px, margin_px):
    card = find_card(UNET)
    spec = small_spec(card, OUTPUT_NAMES, tile_px, margin_px)
    model = random_graph(card, spec)
    folded = spell_out_transposed(crop_context(fold_upsampling(model)))
    check_graph(folded, spec)
    assert operators(folded).count("DepthToSpace") == 5
    assert "ConvTranspose" not in operators(folded)
    assert gflop_per_tile(folded) < gflop_per_tile(crop_context(model))
    image = np.random.default_rng(5).integers(0, 256, (2, 3, tile_px, tile_px), dtype=np.uint8)
    labels, *_, logits = run(with_logits(model), image)
    folded_labels, *_, folded_logits = run(with_logits(folded), image)
    np.testing.assert_array_equal(labels, folded_labels)
    assert np.abs(logits - folded_logits).max() <= 1e-4 * np.abs(logits).max()


@pytest.mark.slow
def test_work_at_the_official_geometry():
    card = find_card(UNET)
    spec = small_spec(card, ("labels",), 512, 128)
    model = random_graph(card, spec)
    folded = spell_out_transposed(crop_context(fold_upsampling(model)))
    assert gflop_per_tile(folded) == pytest.approx(43.37, abs=0.01)
