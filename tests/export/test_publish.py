"""Exports from end to end: what is put in place, and what is refused."""

from __future__ import annotations

import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from doubles.networks import small_spec
from doubles.paths import listing

import flair_export.network.checkpoint
from flair_engine.errors import EngineError, GeometryError, OutputError, WriteError
from flair_engine.manifest import read_model_spec
from flair_export import publish
from flair_export.errors import (
    CardError,
    CheckpointError,
    ExporterMissingError,
    ExportError,
    ImageError,
    OptionError,
)
from flair_export.graph.flops import gflop_per_tile
from flair_export.proof.verify import VerificationError
from flair_export.publish import ExportOptions, export, export_fp16, export_int8

SMALL = {"tile_px": 32, "margin_px": 8}


@pytest.mark.usefixtures("quick")
def test_what_is_published(rgb, rgb_file, tmp_path, make_raster):
    image, _ = make_raster(bands=3)
    steps: list[str] = []
    options = ExportOptions(**SMALL, verify=(image,), model=rgb.short_name)
    verdict = export(str(rgb_file), tmp_path / "model.onnx", options, steps.append)
    assert verdict.faults == ()
    assert listing(tmp_path) == ["in.tif", "model.onnx"]
    spec = read_model_spec(tmp_path / "model.onnx")
    assert spec.weights_sha256 == hashlib.sha256(rgb_file.read_bytes()).hexdigest()
    assert spec.name == rgb_file.stem.removesuffix("_weights")
    assert spec.exporter.startswith("flair-export 0")
    assert steps[:2] == [f"reading {rgb_file}", "building the graph"]
    assert steps[-1].startswith("verifying on images: tile ")


@pytest.mark.usefixtures("quick")
def test_the_margin_is_computed_only_where_asked(rgb, rgb_file, tmp_path):
    work = []
    for crop in (True, False):
        path = tmp_path / f"{crop}.onnx"
        options = ExportOptions(**SMALL, context_crop=crop, model=rgb.short_name)
        assert export(rgb_file, path, options).faults == ()
        work.append(gflop_per_tile(onnx.load(path)))
    assert work[0] == pytest.approx(work[1] / 4), "one layer, and a quarter of the tile is kept"


@pytest.mark.parametrize(
    ("output", "options", "error", "said"),
    [
        ("no/model.onnx", {}, OutputError, "its folder does not exist"),
        (".", {}, OutputError, "is a folder"),
        ("there.onnx", {}, OutputError, "there.onnx: exists already and is no model of flair-ex"),
        ("there.onnx", {"overwrite": True}, OutputError, "no model .*: give a name that does not"),
        ("link.onnx", {"overwrite": True}, OutputError, "link.onnx: .* no model of flair-export"),
        ("m.onnx", {"tile_px": 100}, GeometryError, "tile 100 px is not a positive multiple"),
        ("m.onnx", {"margin_px": 512}, GeometryError, "margin 512 px leaves nothing"),
        (
            "m.onnx",
            {"outputs": ("confidence",)},
            OptionError,
            "outputs confidence are not an export: name labels first",
        ),
        ("m.onnx", {"outputs": ("labels", "logits")}, OptionError, "outputs labels,logits"),
        ("m.onnx", {"outputs": ()}, OptionError, "outputs none"),
        ("m.onnx", {"model": "unet"}, CardError, "'unet' is not known"),
        ("m.onnx", {}, CheckpointError, "absent.pth: no such checkpoint"),
    ],
)
def test_refused_before_anything_is_done(tmp_path, output, options, error, said):
    (tmp_path / "there.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("absent.onnx")
    with pytest.raises(error, match=said) as caught:
        export("absent.pth", tmp_path / output, ExportOptions(**options))
    assert caught.value.exit_code == 2
    assert "--overwrite" not in str(caught.value)
    assert listing(tmp_path) == ["link.onnx", "there.onnx"]
    assert (tmp_path / "there.onnx").read_bytes() == b"old"


def test_a_model_is_replaced_only_where_that_is_asked_for(tiny_path, tmp_path):
    there = tmp_path / "there.onnx"
    shutil.copy(tiny_path, there)
    with pytest.raises(
        OutputError, match=r"there\.onnx: exists: give another name, or --overwrite"
    ):
        export("absent.pth", there)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        export("absent.pth", there, ExportOptions(overwrite=True))
    assert there.read_bytes() == tiny_path.read_bytes()


@pytest.mark.parametrize("link", [Path.hardlink_to, Path.symlink_to])
@pytest.mark.parametrize("given", ["source", "verify", "calibrate"])
@pytest.mark.parametrize("make", [export, export_fp16, export_int8])
def test_an_input_is_no_output(tiny_path, tmp_path, link, given, make):
    """Even a model of ours, under each of its names."""
    source, image = tmp_path / "w.onnx", tmp_path / "image.tif"
    shutil.copy(tiny_path, source)
    image.write_bytes(b"pixels")
    (tmp_path / "sub").mkdir()
    named = source if given == "source" else image
    link(tmp_path / "link.onnx", named)
    before = named.read_bytes()
    images = {"calibrate": (image,), **({} if given == "source" else {given: (image,)})}
    options = ExportOptions(overwrite=True, **images)
    for output in (named, tmp_path / "link.onnx", tmp_path / "sub" / ".." / named.name):
        with pytest.raises(OutputError, match=r": is the input .*: give the output another") as it:
            make(source, output, options)
        assert it.value.exit_code == 2
    assert named.read_bytes() == before
    assert listing(tmp_path) == ["image.tif", "link.onnx", "sub", "w.onnx"]


@pytest.mark.parametrize(
    ("memory_gib", "remedy"), [(3, "use --tile 1024"), (2, "use --tile 512"), (1, "on another")]
)
def test_tiles_that_need_more_memory_than_is_free(
    monkeypatch, rgb, rgb_file, tmp_path, memory_gib, remedy
):
    monkeypatch.setattr(publish, "free_memory_bytes", lambda: memory_gib * 2**30)
    said = rf"{rgb.short_name} at tiles of 2048 px takes about 4\.8 GiB, {memory_gib}\.0 are free: "
    with pytest.raises(OptionError, match=rf"{said}.*{remedy}") as raised:
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(tile_px=2048, model=rgb.short_name))
    assert raised.value.exit_code == 2
    assert not list(tmp_path.glob("*.onnx"))


def test_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(
        publish.importlib.util, "find_spec", lambda name: None if "t" in name else find_spec(name)
    )
    with pytest.raises(
        ExporterMissingError,
        match=r"torch, segmentation_models_pytorch, safetensors not installed.*\[export\]'",
    ):
        export("a.pth", tmp_path / "m.onnx")


def test_missing_onnxruntime_is_named_before_the_checkpoint_is_read(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install 'flair-engine\[cpu\]'"):
        export("absent.pth", tmp_path / "m.onnx")


def test_image_of_other_bands_is_refused_before_loading(rgb_file, tmp_path, make_raster):
    image, _ = make_raster(bands=5)
    with pytest.raises(ImageError, match="has 5 bands: give the 3 that the model reads"):
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(verify=(image,)))
    assert listing(tmp_path) == ["in.tif"]


@pytest.mark.usefixtures("quick", "broken_graph")
def test_unfaithful_export_leaves_nothing(rgb_file, tmp_path):
    with pytest.raises(VerificationError, match=r"m.onnx: not written.*99.99%") as caught:
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(**SMALL))
    assert caught.value.exit_code == 1
    assert caught.value.verdict.total.different > 0
    assert listing(tmp_path) == []


@pytest.mark.usefixtures("quick", "broken_graph")
def test_unfaithful_export_keeps_what_was_there(tiny_path, rgb_file, tmp_path):
    shutil.copy(tiny_path, tmp_path / "m.onnx")
    with pytest.raises(VerificationError, match=r"m.onnx: not written, the export is not faithful"):
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(**SMALL, overwrite=True))
    assert (tmp_path / "m.onnx").read_bytes() == tiny_path.read_bytes()
    assert listing(tmp_path) == ["m.onnx"]


@pytest.mark.usefixtures("quick")
def test_overwrite_replaces(tiny_path, rgb_file, tmp_path):
    shutil.copy(tiny_path, tmp_path / "m.onnx")
    export(rgb_file, tmp_path / "m.onnx", ExportOptions(**SMALL, overwrite=True))
    assert read_model_spec(tmp_path / "m.onnx").tile_px == 32


@pytest.mark.usefixtures("quick")
def test_interrupt_leaves_nothing(rgb_file, tmp_path):
    def interrupt(step: str) -> None:
        if step.startswith("verifying"):
            assert len(listing(tmp_path)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(**SMALL), interrupt)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("method", "said"), [("write_bytes", "bytes cannot be written"), ("replace", "cannot be put")]
)
@pytest.mark.usefixtures("quick")
def test_disk_that_refuses(monkeypatch, rgb_file, tmp_path, method, said):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(WriteError, match=f"{said}.*No space left"):
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(**SMALL))
    assert listing(tmp_path) == []


@pytest.mark.usefixtures("quick")
def test_file_that_reads_back_differently(monkeypatch, rgb, rgb_file, tmp_path):
    monkeypatch.setattr(publish, "read_model_spec", lambda _: small_spec(rgb))
    with pytest.raises(ExportError, match="reads back as another model: check the disk"):
        export(rgb_file, tmp_path / "m.onnx", ExportOptions(**SMALL))
    assert listing(tmp_path) == []


def test_hub_id_of_a_published_model_names_it(monkeypatch, rgb, tmp_path):
    """Without class weights in the file, the id alone settles 12 or 15 classes."""
    named = []

    def choose(_, model):
        named.append(model)
        raise KeyboardInterrupt

    monkeypatch.setattr(flair_export.network.checkpoint, "read_checkpoint", lambda *_, **__: None)
    monkeypatch.setattr(flair_export.network.checkpoint, "choose_card", choose)
    for source, options in (
        (rgb.hub_id, ExportOptions()),
        (rgb.hub_id, ExportOptions(model="rgb_12cl_resnet34-unet")),
        ("someone/else", ExportOptions()),
    ):
        with pytest.raises(KeyboardInterrupt):
            export(source, tmp_path / "m.onnx", options)
    assert named == [rgb.hub_id, "rgb_12cl_resnet34-unet", None]
