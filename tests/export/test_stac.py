"""STAC Items of models, validated without a network against the schemas they name."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from doubles.paths import SHARED, listing
from doubles.tiny_model import SPEC, box_model

from flair_engine.errors import ManifestError, OutputError, WriteError
from flair_export import stac
from flair_export.cards import CARDS, find_card
from flair_export.cli import export_command, main
from flair_export.errors import ExporterMissingError
from flair_export.stac import check_item, is_item, item_path, model_item, write_item

SCHEMAS = SHARED.parent / "stac-schemas"
OUTPUTS = ("labels", "confidence", "probabilities")


@pytest.fixture(autouse=True)
def needs_pystac():
    pytest.importorskip("pystac", reason="pystac is not installed")


@pytest.fixture
def write(tmp_path):
    """Write the box filter with changes to its manifest; return its path."""

    def write(file="model.onnx", **changes):
        path = tmp_path / file
        onnx.save(box_model(replace(SPEC, **changes)), path)
        return path

    return write


@pytest.fixture
def published(write):
    """Write a file that says it was made of published weights."""
    card = find_card("rgbie_15cl_resnet34-unet")

    def published(**changes):
        says = {"name": card.name, "architecture": card.network, "bands": card.bands}
        says |= {"normalization": card.normalization, "classes": card.classes}
        return write(**{**says, **changes})

    return published


@pytest.fixture
def validate():
    """Validate an Item against STAC 1.1 and its extensions, with what is here alone."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"STAC schemas not at {SCHEMAS}")
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    from pystac.validation.local_validator import get_local_schema_cache

    files = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")]
    known = {**get_local_schema_cache(), **{file["$id"].rstrip("#"): file for file in files}}
    # The extension looks up two definitions in older numbers than those that are here.
    data_type = known["https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/data-values.json"]
    of_band = {"properties": {"data_type": data_type["properties"]["data_type"]}}
    known["https://stac-extensions.github.io/raster/v1.1.0/schema.json"] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"bands": {"items": of_band}},
    }
    processing = known["https://stac-extensions.github.io/processing/v1.2.0/schema.json"]
    known["https://stac-extensions.github.io/processing/v1.1.0/schema.json"] = processing
    registry = referencing.Registry().with_resources(
        [(name, referencing.Resource.from_contents(schema)) for name, schema in known.items()]
    )
    core = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"

    def validate(item):
        for name in (core, *item["stac_extensions"]):
            jsonschema.Draft7Validator(known[name], registry=registry).validate(item)

    return validate


@pytest.mark.parametrize("outputs", [OUTPUTS[:1], OUTPUTS[:2], OUTPUTS])
def test_an_item_is_valid(write, validate, outputs):
    validate(model_item(write(outputs=outputs)))


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.short_name)
def test_items_of_published_models_are_valid(published, validate, card):
    path = published(
        name=card.name,
        architecture=card.network,
        bands=card.bands,
        classes=card.classes,
        normalization=card.normalization,
    )
    validate(item := model_item(path))
    assert item["properties"]["license"]


@pytest.mark.parametrize("broken", ["mlm:name", "mlm:input", "bands"])
def test_the_validation_finds_what_is_wrong(published, validate, broken):
    jsonschema = pytest.importorskip("jsonschema")
    item = model_item(published())
    del item["properties"][broken]
    with pytest.raises(jsonschema.ValidationError):
        validate(item)


def test_stac_models_own_check_takes_it(write):
    schema = pytest.importorskip("stac_model.schema")
    properties = model_item(write(outputs=OUTPUTS))["properties"]
    found = schema.MLModelProperties(
        **{name: value for name, value in properties.items() if name.startswith("mlm:")}
    )
    assert [entry.name for entry in found.output] == list(OUTPUTS)


def test_inputs_and_outputs_are_those_of_the_graph(write):
    path = write(outputs=OUTPUTS)
    properties = model_item(path)["properties"]
    graph = onnx.load(path).graph
    (said,) = properties["mlm:input"]
    assert said["name"] == graph.input[0].name
    pairs = [(said["input"], graph.input[0])]
    pairs += zip([o["result"] for o in properties["mlm:output"]], graph.output, strict=True)
    for structure, value in pairs:
        sizes = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
        assert structure["shape"] == sizes
        assert len(structure["dim_order"]) == len(sizes)
        assert structure["data_type"] == "uint8"
        assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert said["bands"] == [band["name"] for band in properties["bands"]] == ["one", "two"]


def classes_of(path):
    """Return the classes of each output of a model."""
    outputs = model_item(path)["properties"]["mlm:output"]
    return [output["classification:classes"] for output in outputs]


def test_classes_have_a_name_a_description_and_a_colour_and_no_title(published, write):
    (labels,) = classes_of(published())
    assert labels[1] == {
        "value": 2, "name": "pervious_surface", "description": "pervious surface",
        "color_hint": "938E7B",
    }  # fmt: skip
    assert [entry["value"] for entry in labels] == [*range(1, 15), 18]
    labels, confidence, probabilities = classes_of(write(outputs=OUTPUTS))
    assert [entry["value"] for entry in labels] == [1, 3]
    assert (confidence, probabilities) == ([], labels)


def test_hyperparameters_are_what_a_run_keeps_to(write):
    path = write(precision="int8", agreement_fp32=0.995)
    said = model_item(path)["properties"]["mlm:hyperparameters"]
    assert said == {
        "tile_px": 32, "margin_px": 8, "core_px": 16, "precision": "int8",
        "agreement_fp32": 0.995, "normalization_mean": [0.0, 0.0], "normalization_std": [1.0, 1.0],
        "weights_sha256": "0" * 64, "exporter": "tiny_model",
    }  # fmt: skip
    assert "agreement_fp32" not in model_item(write())["properties"]["mlm:hyperparameters"]


def test_the_file_is_told_by_its_bytes(write):
    path = write("some.fp16.onnx")
    asset = model_item(path)["assets"]["model"]
    assert (asset["href"], asset["roles"]) == ("./some.fp16.onnx", ["mlm:model"])
    assert asset["file:size"] == path.stat().st_size
    assert asset["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()


def test_published_weights_have_a_licence_a_source_and_a_place(published):
    item = model_item(published())
    assert item["properties"]["license"] == "etalab-2.0"
    links = {link["rel"]: link["href"] for link in item["links"]}
    assert links == {
        "derived_from": "https://huggingface.co/IGNF/FLAIR-INC_rgbie_15cl_resnet34-unet",
        "license": "https://www.etalab.gouv.fr/licence-ouverte-open-licence/",
    }
    west, south, east, north = item["bbox"]
    assert west < 2.35 < east
    assert south < 48.85 < north
    assert item["geometry"]["coordinates"][0][0] == [west, south]


@pytest.mark.parametrize("changes", [{"name": "mine"}, {"architecture": "fpn-resnet34"}])
def test_of_other_weights_nothing_is_claimed(published, validate, changes):
    item = model_item(published(**changes))
    validate(item)
    assert (item["geometry"], item["links"]) == (None, [])
    assert "bbox" not in item
    assert not {"license", "providers"} & item["properties"].keys()


def test_the_time_is_when_the_file_was_written_unless_one_is_given(write, monkeypatch):
    path = write()
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    written = dt.datetime.fromtimestamp(int(path.stat().st_mtime), dt.timezone.utc)
    said = model_item(path)["properties"]["datetime"]
    assert dt.datetime.fromisoformat(said.replace("Z", "+00:00")) == written
    assert model_item(path) == model_item(path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1783501811")
    assert model_item(path)["properties"]["datetime"] == "2026-07-08T09:10:11Z"


@pytest.mark.parametrize("name", ["model (v2)", "12 classes", "Ω", "x", "été.", "plain-name"])
def test_names_are_spelt_as_the_extension_has_them(write, validate, name):
    item = model_item(write(name=name))
    validate(item)
    assert item["properties"]["title"] == f"{name}, fp32"
    assert (item["properties"]["mlm:name"] == name) == (name == "plain-name")


def test_the_command_describes_an_exported_file(write, tmp_path, capsys):
    path = write()
    main([str(path), "--stac"])
    said = tmp_path / "model.stac.json"
    assert capsys.readouterr().out == f"{said} describes it.\n"
    assert json.loads(said.read_text()) == model_item(path)
    assert said.read_text().endswith("}\n")
    assert item_path(path) == said
    assert is_item(said)
    assert listing(tmp_path) == ["model.onnx", "model.stac.json"]


@pytest.mark.usefixtures("quick", "one_thread")
def test_the_command_describes_what_it_exports(rgb_file, tmp_path, validate):
    arguments = [str(rgb_file), "-o", str(tmp_path / "m.onnx"), "--tile", "32", "--margin", "8"]
    result = CliRunner().invoke(export_command, [*arguments, "--stac"])
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'm.stac.json'} describes it." in result.output
    item = json.loads((tmp_path / "m.stac.json").read_text())
    validate(item)
    result = CliRunner().invoke(export_command, [*arguments, "--overwrite", "--stac"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(export_command, [*arguments, "--overwrite"])
    assert f"note: {tmp_path / 'm.stac.json'} describes the file that was here before" in (
        result.output
    )


def test_what_stands_there_is_refused_before_the_export(write, tmp_path, capsys, monkeypatch):
    path = write()
    write_item(path)
    with pytest.raises(OutputError, match=r"model.stac.json: exists: give another name, or --over"):
        check_item(path, overwrite=False)
    check_item(path, overwrite=True)
    for content in ("{}", "[]", "not JSON", '{"stac_extensions": null}'):
        item_path(path).write_text(content)
        with pytest.raises(OutputError, match="exists already and is no STAC Item of a model"):
            check_item(path, overwrite=True)
    with pytest.raises(SystemExit) as caught:
        main(["absent.pth", "-o", str(path), "--stac", "--overwrite"])
    assert caught.value.code == 2
    assert "is no STAC Item of a model" in capsys.readouterr().err
    item_path(path).unlink()
    item_path(path).symlink_to(path)
    with pytest.raises(OutputError, match=r"is the same file as|is an input|model\.onnx"):
        check_item(path, overwrite=True)


def test_a_disk_that_refuses_leaves_the_model(write, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = write()
    monkeypatch.setattr(stac, "write_whole", full)
    with pytest.raises(WriteError, match=r"is complete, its Item .*No space left.*--stac"):
        write_item(path)
    assert path.exists()


def test_without_pystac_it_is_said_what_to_install(write, monkeypatch):
    path = write()
    monkeypatch.setitem(__import__("sys").modules, "pystac", None)
    for ask in (lambda: check_item(path, overwrite=False), lambda: model_item(path)):
        with pytest.raises(ExporterMissingError, match=r"needs pystac: run pip install 'flair-eng"):
            ask()


def test_what_is_no_model_has_no_item(tmp_path):
    with pytest.raises(ManifestError, match="no such model file"):
        model_item(Path(tmp_path / "absent.onnx"))


@pytest.mark.parametrize(
    "arguments", [["w.pth", "--stac"], ["m.onnx", "--stac", "--precision", "int8"]]
)
def test_a_file_to_write_is_asked_for(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "Missing option '-o'" in capsys.readouterr().err
