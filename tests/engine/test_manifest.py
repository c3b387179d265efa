import json

import onnx
import pytest

from flair_engine.errors import ManifestError
from flair_engine.manifest import (
    METADATA_KEY,
    attach_manifest,
    expected_tensors,
    parse_manifest,
    read_model_spec,
    spec_of,
)


@pytest.fixture
def tiny(tiny_path):
    return onnx.load(tiny_path)


def test_a_file_of_an_older_schema_is_refused(tiny_path):
    older = tiny_path.with_name("tiny_schema1.onnx")
    with pytest.raises(ManifestError, match="schema is 1, this engine reads 2: export it again"):
        read_model_spec(older)


@pytest.fixture
def manifest(tiny):
    return json.loads(tiny.metadata_props[0].value)


def test_what_is_written_is_read_back(tiny, tiny_path):
    spec = read_model_spec(tiny_path)
    assert parse_manifest(spec.to_json(), "here") == spec
    assert spec.core_px == 16
    assert [entry.value for entry in spec.active_classes] == [1, 3]
    attach_manifest(tiny, spec)
    assert [entry.key for entry in tiny.metadata_props] == [METADATA_KEY]


def test_other_metadata_is_kept(tiny, tiny_path):
    entry = tiny.metadata_props.add()
    entry.key, entry.value = "author", "someone"
    attach_manifest(tiny, read_model_spec(tiny_path))
    assert {entry.key for entry in tiny.metadata_props} == {"author", METADATA_KEY}


FAULTS = [
    ("schema", 3, "schema is 3, this engine reads 2"),
    ("name", "", 'name is "", expected a text'),
    ("architecture", 3, "architecture is 3, expected a text"),
    ("bands", [], r"bands is \[\], expected a list of band names"),
    ("gsd_m", 0, "gsd_m is 0, expected metres"),
    ("gsd_m", True, "gsd_m is true, expected metres"),
    ("tile_px", 32.0, "tile_px is 32.0, expected a whole number"),
    ("tile_px", 33, "tile 33 px is not a positive multiple of 32"),
    ("margin_px", 16, "margin 16 px leaves nothing"),
    ("precision", "int4", 'precision is "int4", expected fp32 or fp16 or int8'),
    ("agreement_fp32", 1.5, "agreement_fp32 is 1.5, expected a share from 0 to 1, or null"),
    ("agreement_fp32", "99%", 'agreement_fp32 is "99%", expected a share'),
    ("classes", [], r"classes is \[\], expected classes"),
    ("classes", [{"value": 1}], "expected classes"),
    ("normalization", {"mean": [0.0], "std": [1.0]}, "one mean and std for each of 2 bands"),
    ("normalization", {"mean": [0.0, 0.0], "std": [1.0, 0]}, "std above 0"),
    ("outputs", ["confidence"], "expected labels, then"),
    ("outputs", ["labels", "labels"], "expected labels, then"),
    ("weights_sha256", "abc", "expected 64 hexadecimal digits"),
    ("exporter", None, "exporter is null, expected a text"),
]


@pytest.mark.parametrize(("key", "value", "message"), FAULTS)
def test_each_fault_is_named(manifest, key, value, message):
    manifest[key] = value
    with pytest.raises(ManifestError, match=message):
        parse_manifest(json.dumps(manifest), "model.onnx")


def test_class_values_must_ascend(manifest):
    manifest["classes"].reverse()
    with pytest.raises(ManifestError, match="not in ascending order"):
        parse_manifest(json.dumps(manifest), "model.onnx")


def test_every_fault_comes_in_one_message(manifest):
    del manifest["bands"]
    manifest["colour"] = 1
    manifest["precision"] = "int4"
    with pytest.raises(ManifestError, match=r"bands is missing; colour is unknown; precision"):
        parse_manifest(json.dumps(manifest), "model.onnx")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "is a JSON list, not an object")]
)
def test_not_a_json_object(text, message):
    with pytest.raises(ManifestError, match=message):
        parse_manifest(text, "model.onnx")


def test_no_such_file(tmp_path):
    with pytest.raises(ManifestError, match="no such model file"):
        read_model_spec(tmp_path / "absent.onnx")


def test_truncated_file(tiny_path, tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(tiny_path.read_bytes()[:700])
    with pytest.raises(ManifestError, match="not a complete ONNX file"):
        read_model_spec(path)


def test_model_without_manifest(tiny):
    del tiny.metadata_props[:]
    with pytest.raises(ManifestError, match="has no 'flair' manifest"):
        spec_of(tiny, "model.onnx")


def test_graph_that_breaks_its_promise(tiny):
    tiny.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    tiny.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 15
    extra = tiny.graph.output.add()
    extra.name = "more"
    expected = r"image is absent or not uint8 but .* labels is uint8 \[N, 15, 16\] .* more not"
    with pytest.raises(ManifestError, match=expected):
        spec_of(tiny, "model.onnx")


def test_expected_tensors_follow_geometry_and_classes(tiny_path):
    spec = read_model_spec(tiny_path)
    assert expected_tensors(spec) == {"image": (2, 32, 32), "labels": (16, 16)}
