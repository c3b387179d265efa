"""The best file for a machine: what is tried, what is chosen, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.paths import listing

from flair_engine.api import Model
from flair_engine.cli import command as run_command
from flair_engine.errors import EngineError
from flair_engine.manifest import read_model_spec
from flair_engine.options import RunOptions
from flair_export import trial, tuning
from flair_export.cards import find_card
from flair_export.cli import main
from flair_export.errors import ExportError, ImageError, OptionError
from flair_export.publish import ExportOptions
from flair_export.trial import Trial, Way, parted
from flair_export.tuning import Trials, TuneOptions, arithmetic, best_tile, tune

pytestmark = [pytest.mark.usefixtures("one_thread", "small_tiles")]


@pytest.fixture
def small_tiles(monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "TILE_EDGES_PX", (32, 64))
    monkeypatch.setattr(tuning, "TILE_PX", 32)
    monkeypatch.setattr(tuning, "MARGIN_PX", 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def images(make_raster) -> list[Path]:
    return [Path(make_raster(f"{name}.tif", bands=3, height=90)[0]) for name in "abc"]


def trial_of(rate: float | None, fault: str = "", **changes) -> Trial:
    known = {"model": Path("m.onnx"), "spec": None, "engine": "ort", "device": "cpu"}
    return Trial(way=Way(**{**known, **changes}), new_mpx_per_s=rate, fault=fault)


@pytest.mark.usefixtures("quick_wide")
def test_the_command_makes_the_fastest_file_that_is_right_and_says_how_to_run_it(
    rgb_file, images, tmp_path, capsys
):
    before = listing(tmp_path)
    output = tmp_path / "best.onnx"
    main(["tune", str(rgb_file), *map(str, images), "-o", str(output), "--for", "cpu"])
    shown = capsys.readouterr().out
    for row in ("fp32, ort", "fp32, openvino fp32", "int8, ort", "int8, openvino fp32"):
        assert f"│ {row} " in shown
    spec = read_model_spec(output)
    assert f"{output} is {spec.precision} at tiles of {spec.tile_px} px, margin 8: " in shown
    (said,) = [line for line in shown.splitlines() if line.startswith("Next: flair-run -m ")]
    assert set(listing(tmp_path)) - set(before) - {"cache"} == {"best.onnx"}
    # What is said runs as it is written.
    words = said.removeprefix("Next: flair-run ").split()
    mapped = [*words[:-2], str(images[0]), str(tmp_path / "map.tif"), "--gsd", "0.2", "--quiet"]
    assert run_command.main(mapped, standalone_mode=False) == 0


@pytest.mark.usefixtures("quick_wide")
def test_shares_are_those_of_the_files_on_the_judging_images(rgb_file, images, tmp_path):
    output = tmp_path / "best.onnx"
    options = TuneOptions(hardware="cpu", least_equal=0.0)
    found = tune(rgb_file, images, output, options)
    assert found.trial in found.tried.trials
    assert found.way.model == output
    _, judged = parted(images)
    with rasterio.open(judged[0]) as image:
        pixels = image.read()
    labels = {}
    for entry in (found.tried.trials[0], found.trial):
        ours = RunOptions(engine=entry.way.engine, precision=entry.way.precision)
        model = output if entry is found.trial else tmp_path / "fp32.onnx"
        if entry is not found.trial:
            tuning.export(
                rgb_file, model, ExportOptions(tile_px=found.way.spec.tile_px, margin_px=8)
            )
        with Model(model, ours) as opened:
            labels[model] = opened.predict(pixels)
    chosen, full = labels[output], labels.get(tmp_path / "fp32.onnx", labels[output])
    assert found.trial.difference.pixels == full.size
    assert found.trial.difference.different == np.count_nonzero(chosen != full)


@pytest.mark.usefixtures("quick_wide")
def test_all_of_the_labels_may_be_asked_for(rgb_file, images, tmp_path):
    options = TuneOptions(hardware="cpu", least_equal=1.0)
    found = tune(rgb_file, images, tmp_path / "best.onnx", options)
    assert found.trial.difference.different == 0
    for other in found.tried.trials:
        assert other.difference.different == 0 or other.fault.startswith("fewer than 100.00%")


@pytest.mark.usefixtures("quick_wide")
def test_for_a_gpu_that_is_not_here_fp16_is_made_and_nothing_is_measured(
    rgb_file, images, tmp_path, capsys, monkeypatch
):
    def absent(model, spec, options):
        if options.device == "cuda":
            raise EngineError("there is no GPU", "buy one")
        return load(model, spec, options)

    load = trial.load
    monkeypatch.setattr(trial, "load", absent)
    output = tmp_path / "best.onnx"
    main(["tune", str(rgb_file), *map(str, images), "-o", str(output), "--for", "gpu"])
    shown = capsys.readouterr().out
    assert read_model_spec(output).precision == "fp16"
    assert "margin 8: not measured, as this machine does not run it" in shown
    assert f"Next: flair-run -m {output} --engine trt INPUT.tif OUTPUT.tif" in shown
    assert "there is no GPU" in shown


@pytest.mark.usefixtures("quick_wide")
def test_one_tile_is_judged_by_and_nothing_is_measured_on_it(rgb_file, make_raster, tmp_path):
    image = make_raster(bands=3, height=16, width=16)[0]
    found = tune(rgb_file, [image], tmp_path / "best.onnx", TuneOptions(hardware="cpu"))
    assert found.tried.tiles == 1
    (note,) = found.tried.notes
    assert "no int8 file" in note
    assert "holds one tile" in note
    assert found.way.spec.precision == "fp32"


@pytest.mark.usefixtures("quick_wide")
def test_every_geometry_that_fits_is_tried(rgb_file, images, tmp_path):
    options = TuneOptions(hardware="cpu")
    found = list(tuning.try_geometries(rgb_file, images, tmp_path, options))
    assert [trials.tile_px for trials in found] == [32, 64]
    assert {trials.trials[0].difference.share for trials in found} == {1.0}


def test_images_that_show_nothing_cannot_judge(rgb_file, quick_wide, make_raster, tmp_path):
    image = make_raster(bands=3, height=40, width=40)[0]
    with rasterio.open(image, "r+") as opened:
        opened.write(np.zeros((3, 40, 40), np.uint8))
    with pytest.raises(ImageError, match="every tile that was looked at is 0: give other images"):
        tune(rgb_file, [image], tmp_path / "best.onnx", TuneOptions(hardware="cpu"))
    assert set(listing(tmp_path)) == {"in.tif"}


def test_a_share_that_is_none(rgb_file, images, tmp_path):
    options = TuneOptions(hardware="cpu", least_equal=1.5)
    with pytest.raises(OptionError, match="150% of labels cannot be FP32's: give a share of 0 to"):
        tune(rgb_file, images, tmp_path / "best.onnx", options)


def test_the_output_is_no_input(rgb_file, images):
    with pytest.raises(SystemExit) as caught:
        main(["tune", str(rgb_file), str(images[0]), "-o", str(images[0]), "--overwrite"])
    assert caught.value.code == 2


@pytest.mark.usefixtures("quick_wide")
def test_a_reference_that_does_not_run_ends_it(rgb_file, images, tmp_path, monkeypatch):
    def failing(*_):
        raise EngineError("ONNX Runtime is broken", "mend it")

    monkeypatch.setattr(trial, "load", failing)
    with pytest.raises(EngineError, match="ONNX Runtime is broken"):
        tune(rgb_file, images, tmp_path / "best.onnx", TuneOptions(hardware="cpu"))


def test_what_no_gpu_can_run_is_refused():
    notes = ["no fp16 file: it differs"]
    found = Trials(tile_px=32, tiles=1, trials=[trial_of(1.0)], notes=notes)
    with pytest.raises(ExportError, match="nothing for a gpu: no fp16 file: it differs: use --for"):
        tuning._choice(found, "gpu")
    leaning = trial_of(9.0, "it leans", device="cuda")
    with pytest.raises(ExportError, match="it differs; it leans"):
        tuning._choice(replace(found, trials=[trial_of(1.0), leaning]), "gpu")


@pytest.mark.parametrize(
    ("height", "width", "free_gib", "tile_px"),
    [(512, 512, 64, 1024), (256, 256, 64, 512), (768, 768, 64, 1024), (10_000, 10_000, 64, 2048),
     (10_000, 10_000, 3, 1024), (10_000, 10_000, 1, 512)],
)  # fmt: skip
def test_the_geometry_of_the_least_arithmetic_that_fits(
    height, width, free_gib, tile_px, make_raster, monkeypatch
):
    monkeypatch.setattr(tuning, "TILE_EDGES_PX", (512, 1024, 2048))
    monkeypatch.setattr(tuning, "TILE_PX", 1024)
    monkeypatch.setattr(tuning, "MARGIN_PX", 128)
    monkeypatch.setattr(tuning, "free_memory_bytes", lambda: free_gib * 2**30)
    monkeypatch.setattr(
        rasterio, "open", lambda _: rasterio.MemoryFile().open(
            driver="GTiff", height=height, width=width, count=1, dtype="uint8", sparse_ok=True
        ),
    )  # fmt: skip
    card = find_card("rgb_15cl_resnet34-unet")
    assert best_tile(card, [Path("image.tif")]) == tile_px


def test_arithmetic_is_the_pixels_of_all_tiles(images):
    # 90 x 53 px in cores of 16: 6 x 4 tiles of 32 px each.
    assert arithmetic(images, 32) == 3 * 6 * 4 * 32**2
