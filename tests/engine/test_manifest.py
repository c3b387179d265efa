import json

import onnx
import pytest

from flair_engine.errors import ManifestError
from flair_engine.manifest import (
    METADATA_KEY,
    attach_manifest,
    expected_tensors,
    label_values,
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
    ("schema", True, "schema is true, this engine reads 2"),
    ("schema", 2.0, "schema is 2.0, this engine reads 2"),
    ("schema", "2" * 1000, 'schema is "2{79}, this engine'),
    ("name", "a" * 257, "expected a text of 256 characters at most"),
    ("name", "[\x1b[31m", r'name is "\[\\u001b\[31m", expected a text of .* no.* control char'),
    ("architecture", "\ud800", r'architecture is "\\ud800", expected a text'),
    ("exporter", "one\ntwo", "exporter is .*, expected a text"),
    ("bands", ["red", "\uffff"], "bands is .*, expected a list of band names"),
    ("bands", ["red"] * 257, "expected a list of band names, 256 at most"),
    ("gsd_m", 0, "gsd_m is 0, expected metres"),
    ("gsd_m", 1e300, r"gsd_m is 1e\+300, expected metres per pixel, 0.001 to 1000"),
    ("tile_px", 1_048_576, "tile 1048576 px is more than 8192 px, the most that fits in memory"),
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


@pytest.mark.parametrize("name", ["", "\x00", "a\x85b", "\u2028", "\u202e", "\ufdd0", "a" * 257])
def test_names_of_classes_can_be_shown_and_written(manifest, name):
    manifest["classes"][0]["name"] = name
    with pytest.raises(ManifestError, match="one active at least, names a text of 256") as caught:
        parse_manifest(json.dumps(manifest), "model.onnx")
    assert caught.value.what.isprintable()


@pytest.mark.parametrize("value", [0, 256, -1, 1.0, True, None])
def test_values_of_classes_are_what_a_map_can_hold(manifest, value):
    manifest["classes"][0]["value"] = value
    with pytest.raises(ManifestError, match=r"expected classes \{value 1..255,"):
        parse_manifest(json.dumps(manifest), "model.onnx")


def test_unknown_fields_are_few_and_can_be_shown(manifest):
    manifest |= {f"\x1b{n}": n for n in range(1000)}
    with pytest.raises(ManifestError, match=r"\\x1b0 is unknown; ") as caught:
        parse_manifest(json.dumps(manifest), "model.onnx")
    assert len(caught.value.what) < 200


def test_labels_are_the_values_of_active_classes(tiny_path):
    assert label_values(read_model_spec(tiny_path)) == {1, 3}


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
    ("text", "message"),
    [
        ("{", "is not JSON to be read"),
        ("[]", "is a JSON list, not an object"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ('{"schema": ' + "2" * 400 + "}", "a number of 400 digits"),
        ('{"gsd_m": NaN}', "NaN is no number"),
        ('{"schema": 2, "schema": 2}', "a name occurs twice"),
        (" " * (1 << 20) + "{}", "longer than 1,048,576 bytes"),
    ],
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
