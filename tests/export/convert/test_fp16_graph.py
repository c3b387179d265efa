"""FP16 graphs: where the Casts stand, and which layers stay FP32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from doubles.near_ties import expected as near_ties
from doubles.near_ties import write_near_ties
from doubles.networks import random_graph, small_spec
from doubles.small_graphs import labels_of
from onnx import TensorProto, helper, numpy_helper

from flair_engine.agreement import difference_of
from flair_engine.manifest import spec_of
from flair_export.convert.fp16_graph import largest_activations, to_fp16
from flair_export.errors import ExportError, OptionError
from flair_export.graph.passes import copied_node

START, HEAD, END = ["FLOAT", "FLOAT16"], ["FLOAT"], ["FLOAT", "UINT8"]
"""Casts after the image, before the last convolution, after the ArgMax."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tile():
    return np.random.default_rng(4).integers(0, 256, (1, 2, 32, 32), dtype=np.uint8)


def casts(model):
    """Return the name of the type each Cast goes to, in the order of the graph."""
    return [
        TensorProto.DataType.Name(node.attribute[0].i)
        for node in model.graph.node
        if node.op_type == "Cast"
    ]


def gained(path, first: float, second: float):
    """Return the golden model with two more layers that multiply and divide its sums."""
    model = onnx.load(path)
    for name, gain in (("up", first), ("down", second)):
        kernel = np.eye(2, dtype=np.float32)[:, :, None, None] * np.float32(gain)
        model.graph.initializer.append(numpy_helper.from_array(kernel, f"{name}.weight"))
    cast, convolution, *rest = map(copied_node, model.graph.node)
    rest[0].input[0] = "low"
    added = [
        helper.make_node("Conv", ["sums", "up.weight"], ["high"], name="up"),
        helper.make_node("Relu", ["high"], ["kept"], name="relu"),
        helper.make_node("Conv", ["kept", "down.weight"], ["low"], name="down"),
    ]
    del model.graph.node[:]
    model.graph.node.extend([cast, convolution, *added, *rest])
    return model


@pytest.mark.parametrize("outputs", [("labels",), ("labels", "confidence", "probabilities")])
def test_a_resnet_has_the_casts_of_the_design_and_no_others(rgb, outputs):
    spec = small_spec(rgb, outputs, tile_px=64, margin_px=16)
    model = random_graph(rgb, spec)
    converted = to_fp16(model)
    assert converted.kept_fp32 == ()
    found = casts(converted.model)
    assert found[:3] == START + HEAD
    if outputs == ("labels",):
        assert found == START + HEAD + END
    else:  # the softmax reads the FP32 logits as they are
        assert sorted(found[3:]) == ["FLOAT", "UINT8", "UINT8", "UINT8"]
    assert spec_of(converted.model, "the model") == replace(spec, precision="fp16")
    types = {t.name: t.data_type for t in converted.model.graph.initializer}
    *convolutions, last = (n for n in converted.model.graph.node if n.op_type == "Conv")
    assert {types[name] for name in last.input[1:]} == {TensorProto.FLOAT}
    for node in convolutions:
        assert {types[name] for name in node.input[1:]} == {TensorProto.FLOAT16}
    for node in converted.model.graph.node:
        if node.op_type == "Resize":
            assert types[node.input[2]] == TensorProto.FLOAT
        if node.op_type in ("Sub", "Div"):
            assert types[node.input[1]] == TensorProto.FLOAT


def test_the_network_gives_nearly_the_labels_of_fp32(rgb):
    spec = small_spec(rgb, tile_px=64, margin_px=16)
    model = random_graph(rgb, spec)
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    assert (labels_of(model, image) == labels_of(to_fp16(model).model, image)).mean() > 0.98


def test_activations_are_measured_over_all_tiles(tiny_path, tile):
    model = gained(tiny_path, 100.0, 0.01)
    quiet = np.zeros_like(tile[0])
    largest = largest_activations(model, [quiet, tile[0]])
    assert largest["pixels"] == tile.max()
    assert largest["high"] == pytest.approx(100 * largest["sums"])
    assert largest_activations(model, [quiet])["high"] == 0


def test_layers_that_overflow_are_bracketed_and_listed(tiny_path, tile):
    model = gained(tiny_path, 100.0, 0.01)
    largest = largest_activations(model, tile)
    assert largest["high"] > 65504
    converted = to_fp16(model, largest)
    assert converted.kept_fp32 == ("up", "relu")
    assert casts(converted.model) == [*START, *HEAD, *END]
    expected = labels_of(model, tile)
    assert (labels_of(converted.model, tile) == expected).mean() > 0.95
    narrow = to_fp16(model)
    assert casts(narrow.model) == START + HEAD + END
    assert narrow.kept_fp32 == ()


def test_headroom_is_left_for_images_that_were_not_measured(tiny_path):
    model = gained(tiny_path, 1.0, 1.0)
    assert to_fp16(model, {"high": 65504 / 4}).kept_fp32 == ()
    assert to_fp16(model, {"high": 65504 / 3.9}).kept_fp32 == ("up", "relu")


def test_weights_that_fp16_cannot_hold_stay(tiny_path, tile):
    model = gained(tiny_path, 1e5, 1e-5)
    converted = to_fp16(model)
    assert converted.kept_fp32 == ("up",)
    values = {t.name: numpy_helper.to_array(t) for t in converted.model.graph.initializer}
    assert values["up.weight"].max() == 1e5
    assert not any(np.isinf(value).any() for value in values.values())


def test_what_is_fp16_already_is_refused(fp16_model):
    with pytest.raises(OptionError, match="the model is fp16 already: convert the FP32 file"):
        to_fp16(fp16_model)


@pytest.fixture
def fp16_model(tiny_path):
    return to_fp16(onnx.load(tiny_path)).model


def test_numbers_that_are_undefined_are_refused(tiny_path, tile):
    with pytest.raises(ExportError, match="infinite or undefined numbers already in FP32"):
        largest_activations(gained(tiny_path, np.inf, 0.0), tile)


@pytest.mark.parametrize("resize", [None, "linear"])
def test_logits_that_nearly_tie_reach_the_argmax_in_fp32(tmp_path, resize):
    model = onnx.load(write_near_ties(tmp_path / "m", resize=resize))
    images = np.random.default_rng(5).integers(0, 256, (2, 2, 32, 32), dtype=np.uint8)
    converted = to_fp16(model).model
    assert converted.graph.node[-1].name == model.graph.node[-1].name
    assert value_types(converted)["logits"] == TensorProto.FLOAT
    assert value_types(converted)["features"] == TensorProto.FLOAT16
    assert (labels_of(converted, images) == labels_of(model, images)).all()
    if resize is None:
        assert (labels_of(converted, images) == near_ties(images)).all()


@pytest.mark.parametrize("number", ["float16", "bfloat16"])
def test_logits_rounded_to_16_bits_tie_and_give_the_lower_label(tmp_path, number):
    """The oracle of what the FP32 head is for: numpy and PyTorch round the logits alone."""
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(5).integers(0, 256, (2, 2, 32, 32), dtype=np.uint8)
    kept = torch.from_numpy(images[:, :, 8:24, 8:24]).float() / 1024 + 1024
    rounded = np.where(kept.to(getattr(torch, number)).argmax(dim=1).numpy() == 0, 1, 3)
    found = difference_of(near_ties(images), rounded.astype(np.uint8))
    assert found.share < 0.6
    assert found.lean == 1


def value_types(model):
    """Return the element type of every tensor that ONNX infers."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
