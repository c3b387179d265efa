"""Graph and metadata for Deepness, and what cannot become one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from doubles.networks import graph_of, one_layer, small_spec
from doubles.tiny_model import SPEC, box_model

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import DEEPNESS_KEY, attach_manifest, parse_manifest
from flair_export.convert import deepness_graph
from flair_export.convert.deepness_graph import metadata_of, to_deepness
from flair_export.errors import ExportError, OptionError


@pytest.fixture
def spec(rgb):
    return small_spec(rgb, margin_px=0)


@pytest.fixture
def model(spec):
    return graph_of(one_layer(), spec)


def shape_of(value):
    kind = value.type.tensor_type
    return kind.elem_type, [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


def test_floats_go_in_and_probabilities_come_out(model):
    made = to_deepness(model)
    (fed,), (given,) = made.graph.input, made.graph.output
    assert shape_of(fed) == (onnx.TensorProto.FLOAT, ["N", 3, 32, 32])
    assert shape_of(given) == (onnx.TensorProto.FLOAT, ["N", 15, 32, 32])
    kinds = [node.op_type for node in made.graph.node]
    assert (kinds[-1], "ArgMax" in kinds, "Cast" in kinds) == ("Softmax", False, False)
    assert [model.graph.output[0].name, model.graph.input[0].type.tensor_type.elem_type] == [
        "labels",
        onnx.TensorProto.UINT8,
    ], "the model it was made of stays as it was"


def test_probabilities_are_those_of_the_active_classes(model):
    image = np.random.default_rng(3).integers(0, 256, (2, 3, 32, 32))
    (labels,) = open_session(model.SerializeToString()).run(None, {"image": image.astype(np.uint8)})
    (shares,) = open_session(to_deepness(model).SerializeToString()).run(
        None, {"image": image.astype(np.float32)}
    )
    assert shares.dtype == np.float32
    assert shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
    values = np.array([entry.value for entry in small_values(model)], np.uint8)
    assert (values[shares.argmax(axis=1)] == labels).all()


def small_values(model):
    (text,) = (entry.value for entry in model.metadata_props if entry.key == "flair")
    return parse_manifest(text, "the model").active_classes


def test_metadata_are_the_plugins(spec, model):
    said = {entry.key: entry.value for entry in to_deepness(model).metadata_props}
    assert said == metadata_of(spec)
    assert "flair" not in said
    values = {key: json.loads(value) for key, value in said.items()}
    assert parse_manifest(said[DEEPNESS_KEY], "the file") == spec
    del values[DEEPNESS_KEY]
    names = values.pop("class_names")
    assert list(names) == [str(number) for number in range(15)]
    assert (names["0"], names["13"], names["14"]) == ("building", "snow", "greenhouse")
    assert values == {
        "model_type": "Segmentor",
        "resolution": 20.0,
        "tile_size": 32,
        "tiles_size": 32,
        "tiles_overlap": 50,
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1 / 255] * 3,
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
    }


@pytest.mark.parametrize(("gsd_m", "cm"), [(0.2, 20), (0.07, 7), (0.15, 15), (2.5, 250)])
def test_the_resolution_is_in_centimetres(spec, gsd_m, cm):
    assert json.loads(metadata_of(replace(spec, gsd_m=gsd_m))["resolution"]) == cm


def test_a_model_with_a_margin_is_refused():
    with pytest.raises(OptionError, match="has a margin of 8 px, while .*: convert one of margin"):
        to_deepness(box_model())


def test_a_model_that_is_not_fp32_is_refused(model, spec):
    attach_manifest(model, replace(spec, precision="int8", agreement_fp32=1.0))
    with pytest.raises(OptionError, match="the model is int8 already: convert the FP32 file"):
        to_deepness(model)


def test_a_graph_that_is_not_valid_is_refused(model, monkeypatch):
    monkeypatch.setattr(deepness_graph, "LOGITS_NAME", "absent")
    with pytest.raises(ExportError, match=r"the graph is not valid ONNX \(.*: try another version"):
        to_deepness(model)


def test_classes_that_are_inactive_have_no_channel():
    said = json.loads(metadata_of(SPEC)["class_names"])
    assert said == {"0": "first", "1": "third"}
