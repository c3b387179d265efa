"""INT8 graphs against arithmetic written out in numpy, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from doubles.networks import graph_of, random_graph, small_spec
from doubles.small_graphs import labels_of
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from flair_engine.manifest import spec_of
from flair_engine.model_file import check_model
from flair_export.cards import CARDS
from flair_export.convert.fp16_graph import to_fp16
from flair_export.convert.int8_graph import (
    RANGE_FACTOR,
    WEIGHT_MAX,
    quantized_tensors,
    rounded_weights,
    scale_and_zero,
    to_int8,
)
from flair_export.convert.ranges import measured_ranges
from flair_export.errors import OptionError
from flair_export.graph.flops import gflop_per_tile
from flair_export.rewrite.context_crop import crop_context
from flair_export.rewrite.upsampling import fold_upsampling, spell_out_transposed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def spec(rgb):
    return small_spec(rgb)


@pytest.fixture
def tiles():
    return np.random.default_rng(3).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


def quantized(model, tiles):
    return to_int8(model, measured_ranges(model, quantized_tensors(model), tiles))


def widened(ends):
    return [RANGE_FACTOR * end for end in ends]


def rounded(values, scale, zero):
    return scale * (np.clip(np.rint(values / scale) + zero, 0, 255) - zero)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.floats(0, 1, width=32))
def test_a_range_is_held_to_half_a_step_and_zero_exactly(one, other, share):
    low, high = sorted((one, other))
    scale, zero = scale_and_zero(low, high)
    assert rounded(np.float32(0), scale, float(zero)) == 0
    value = min(max(low + share * (high - low), low), high)
    # Half a step of the value, and half a step that the zero point was moved by.
    assert abs(rounded(value, float(scale), float(zero)) - value) <= 1.001 * float(scale)


def test_weights_are_rounded_by_output_channel():
    kernel = np.random.default_rng(0).normal(size=(5, 7, 3, 3)).astype(np.float32)
    kernel[2] *= 1000
    kernel[3] = 0
    bias = np.array([0.5, -3, 0, 0, 7], np.float32)
    kernel_int8, bias_int32, scales = rounded_weights(kernel, bias, 0.1)
    assert kernel_int8.dtype == np.int8
    assert np.abs(kernel_int8).max(axis=(1, 2, 3)).tolist() == [64, 64, 64, 0, 64]
    error = np.abs(kernel_int8 * scales[:, None, None, None] - kernel).max(axis=(1, 2, 3))
    assert (error <= 0.5001 * scales).all()
    assert bias_int32.dtype == np.int32
    assert (np.abs(bias_int32 * scales * 0.1 - bias) <= 0.0501 * scales).all()
    assert 2 * 255 * WEIGHT_MAX < 2**15


@pytest.mark.parametrize("size", [0, 1e-44, 1e-30])
def test_a_dead_channel_keeps_its_bias(size):
    kernel = np.full((1, 64, 3, 3), size, np.float32)
    weights, bias, scales = rounded_weights(kernel, np.array([-0.25], np.float32), 0.02)
    assert not weights.any()
    assert bias * scales * 0.02 == pytest.approx(-0.25)


def test_the_scale_of_a_tensor_that_never_moves():
    assert scale_and_zero(0.0, 0.0) == (1.0, 0)
    assert numpy_helper.from_array(np.asarray(scale_and_zero(-1, 1)[0])).dims == []


def test_labels_are_those_of_integer_arithmetic_written_out(wide, spec, tiles):
    model = graph_of(wide, spec)
    names = quantized_tensors(model)
    ranges = measured_ranges(model, names, tiles)
    parts = {key: value.detach().numpy() for key, value in wide.state_dict().items()}

    def pointwise(values, layer):
        kernel, bias = parts[f"{layer}.weight"][..., 0, 0], parts[f"{layer}.bias"]
        return np.einsum("oc,nchw->nohw", kernel, values) + bias[:, None, None]

    statistics = (np.array(s, np.float32)[:, None, None]
                  for s in (spec.normalization.mean, spec.normalization.std))  # fmt: skip
    mean, std = statistics
    features = np.maximum(pointwise((tiles - mean) / std, "encoder.0"), 0)
    assert np.allclose(ranges[names[0]], (features.min(), features.max()), rtol=1e-5)
    features = rounded(features, *scale_and_zero(*widened(ranges[names[0]])))
    step, _ = scale_and_zero(*widened(ranges[names[0]]))
    kernel, bias, scales = rounded_weights(
        parts["decoder.wide.weight"], parts["decoder.wide.bias"], float(step)
    )
    parts["decoder.wide.weight"] = kernel * scales[:, None, None, None]
    parts["decoder.wide.bias"] = bias * scales * step
    through = np.maximum(pointwise(features, "decoder.wide"), 0)
    through = rounded(through, *scale_and_zero(*widened(ranges[names[1]])))
    logits = pointwise(through + features, "segmentation_head.0")
    active = np.array([entry.value for entry in spec.active_classes])
    expected = active[logits[:, active - 1, 8:24, 8:24].argmax(1)]
    found = labels_of(to_int8(model, ranges).model, tiles)
    assert (found == expected).mean() > 0.999  # a value half way may round either way
    assert (labels_of(model, tiles) != expected).any()


def test_a_u_net_is_int8_but_at_both_ends(rgb):
    spec = small_spec(rgb, tile_px=64, margin_px=16)
    model = random_graph(rgb, spec)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    found = quantized(model, image)
    assert "/encoder/conv1/Conv" in found.kept_fp32[0]
    assert len(found.int8) > 40
    assert len(found.int8) + len(found.kept_fp32) == sum(
        node.op_type == "Conv" for node in model.graph.node
    )
    assert spec_of(found.model, "model") == replace(spec, precision="int8")
    made = {name: node for node in found.model.graph.node for name in node.output}
    types = {t.name: t.data_type for t in found.model.graph.initializer}
    for node in found.model.graph.node:
        if node.op_type == "Conv" and node.name in found.int8:
            assert {made[name].op_type for name in node.input} == {"DequantizeLinear"}
            kinds = [types[made[name].input[0]] for name in node.input[1:]]
            assert kinds == [onnx.TensorProto.INT8, onnx.TensorProto.INT32][: len(kinds)]
    (logits,) = (node.input[0] for node in found.model.graph.node if node.op_type == "ArgMax")
    assert made[logits].op_type != "DequantizeLinear"
    assert (labels_of(found.model, image) == labels_of(model, image)).mean() > 0.9
    with pytest.raises(OptionError, match="the model is int8 already: convert the FP32 file"):
        quantized_tensors(found.model)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({card.network for card in CARDS}))
def test_every_architecture_is_computed_in_int8(name):
    card = next(card for card in CARDS if card.network == name)
    spec = small_spec(card, tile_px=64, margin_px=16)
    whole = random_graph(card, spec)
    model = spell_out_transposed(crop_context(fold_upsampling(whole)))
    shape = (2, card.band_count, 64, 64)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = quantized(model, image)
    for graph in (whole, model, found.model, to_fp16(model).model):
        check_model(graph, name)  # the engine knows every operator
    assert len(found.int8) >= len(found.kept_fp32)
    assert (labels_of(found.model, image) == labels_of(model, image)).mean() > 0.7
    assert gflop_per_tile(found.model) == pytest.approx(gflop_per_tile(model))


def test_nothing_wide_is_refused(tiny_path):
    with pytest.raises(OptionError, match="no convolution of the model has 64 channels on both"):
        quantized_tensors(onnx.load(tiny_path))
