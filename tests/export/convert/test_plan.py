"""Plans built ahead of their first run, with a TensorRT that is a stand-in."""

from __future__ import annotations

import json
from hashlib import sha256
from unittest.mock import Mock

import numpy as np
import pytest
from doubles import fake_tensorrt
from doubles.networks import small_spec

from flair_export.cli import main
from flair_export.convert import plan
from flair_export.convert.fp16 import convert_to_fp16
from flair_export.convert.plan import PrebuildOptions, prebuild_plan
from flair_export.errors import ImageError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_images_of_other_bands_are_refused_before_anything_is_built(exported, make_raster):
    options = PrebuildOptions(verify=(make_raster(bands=5)[0],))
    with pytest.raises(ImageError, match="has 5 bands: give the 3 that the model reads"):
        prebuild_plan(exported, options, print, print)


def test_tiles_to_judge_on_are_spread_over_the_images(rgb, make_raster):
    spec = small_spec(rgb)
    images = [make_raster(name, height=64, width=64, bands=3) for name in ("a.tif", "b.tif")]
    tiles = plan._tiles(spec, [path for path, _ in images], 4)
    assert len(tiles) == 4
    for tile, (_, image) in zip(tiles[::2], images, strict=True):
        np.testing.assert_array_equal(tile[:, 8:, 8:], image[:, :24, :24])


@pytest.mark.parametrize("release", fake_tensorrt.RELEASES)
@pytest.mark.parametrize("with_image", [False, True])
def test_a_plan_is_built_ahead(
    release, with_image, exported, tmp_path, monkeypatch, make_raster, capsys
):
    machine = fake_tensorrt.Machine(release).install(monkeypatch)
    output = tmp_path / "model.fp16.onnx"
    convert_to_fp16(exported, output)
    arguments = [str(output), "--engine", "trt", "--batch", "2",
                 "--plan-cache", str(tmp_path / "plans")]  # fmt: skip
    if with_image:
        arguments += ["--verify", str(make_raster(bands=3)[0])]
    for _ in range(2):
        main(arguments)
    assert f"The plan for {machine.title} on NVIDIA Stand-in (cuda:0), plan " in (
        capsys.readouterr().out
    )
    assert machine.builds == 1
    assert not machine.memory
    (sidecar,) = (tmp_path / "plans").glob("*.json")
    assert ('"origin": "images"' if with_image else '"origin": "noise"') in sidecar.read_text()


@pytest.fixture
def half(exported, tmp_path):
    """An FP16 file."""
    path = tmp_path / "model.fp16.onnx"
    convert_to_fp16(exported, path)
    return path


def ahead(half, *more):
    """Run `flair-export` for a plan file; return its exit code."""
    try:
        main([str(half), "--engine", "trt", *map(str, more)])
    except SystemExit as end:
        return end.code
    return 0


def test_a_plan_for_several_cards_is_built_without_a_gpu(half, tmp_path, capsys):
    trt = pytest.importorskip(
        "tensorrt_rtx_bindings",
        reason="TensorRT for RTX cannot be imported here: pip install 'flair-engine[rtx]'",
        exc_type=ImportError,
    )
    path = tmp_path / "model.plan"
    assert ahead(half, "--for", "sm89, sm80", "--batch", 2, "-o", path) == 0
    said = capsys.readouterr().out
    assert f"TensorRT for RTX {trt.__version__} for compute capability 8.0, 8.9 and batches" in said
    assert said.endswith(
        "of 2; not judged before it meets a GPU. Next: "
        f"flair-run -m {half} --plan {path} INPUT.tif OUTPUT.tif\n"
    )
    description = json.loads((tmp_path / "model.plan.json").read_text())
    assert description["key"]["compute_capabilities"] == ["8.0", "8.9"]
    assert description["key"]["onnx_sha256"] == sha256(half.read_bytes()).hexdigest()
    assert description["plan_sha256"] == sha256(path.read_bytes()).hexdigest()
    assert description["facts"]["agreement"] == "not judged"
    before = path.read_bytes()
    assert ahead(half, "--for", "sm80", "-o", path) == 2
    assert "model.plan: exists: give another name, or --overwrite" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert ahead(half, "--for", "sm80", "-o", path, "--overwrite") == 0
    assert path.read_bytes() != before
    assert sorted(entry.name for entry in tmp_path.iterdir() if "plan" in entry.name) == [
        "model.plan", "model.plan.json",
    ]  # fmt: skip


REFUSED = {
    "an unknown card": (
        ["--for", "sm90,sm75,volta", "-o", "{folder}/model.plan"],
        "does not build for 'sm90', 'volta': use some of sm75, sm80, sm86, sm89, sm120, sm121",
    ),
    "no card": (["--for", "", "-o", "{folder}/model.plan"], "does not build for '': use some of"),
    "no file": (["--for", "sm89"], "--for writes a file: name it with -o MODEL.plan"),
    "no cards for a file": (
        ["-o", "{folder}/model.plan"],
        "is kept in the plan folder, not in {folder}/model.plan: leave out -o, or name cards",
    ),
    "rasters": (
        ["--for", "sm89", "-o", "{folder}/model.plan", "--verify", "a.tif"],
        "--verify is for a plan that is judged on this machine's GPU, one built with --for is",
    ),
    "a name of something else": (
        ["--for", "sm89", "-o", "{folder}/model.onnx"],
        "model.onnx: is no name for a plan: use model.plan",
    ),
    "a folder that is not there": (
        ["--for", "sm89", "-o", "{folder}/none/model.plan"],
        "none/model.plan: its folder does not exist: create it first",
    ),
    "a folder": (["--for", "sm89", "-o", "{folder}/f.plan"], "f.plan: is a folder, or its sidecar"),
    "no tile in a batch": (
        ["--for", "sm89", "-o", "{folder}/model.plan", "--batch", "0"],
        "batch 0 ",
    ),
    "a kernel source it lacks": (
        ["--for", "sm89", "-o", "{folder}/model.plan", "--tactic-sources", "+CUDNN"],
        "tactic source CUDNN does not exist in TensorRT for RTX 1.7.1.116: leave out +CUDNN",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_plan_file_that_cannot_be_is_one_line(name, half, tmp_path, monkeypatch, capsys):
    fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch)
    (tmp_path / "f.plan").mkdir()
    arguments, line = REFUSED[name]
    assert ahead(half, *(each.format(folder=tmp_path) for each in arguments)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line.format(folder=tmp_path) in said
    assert not list(tmp_path.glob("model.plan*"))


def test_a_card_the_library_refuses(half, tmp_path, monkeypatch, capsys):
    machine = fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch)
    machine.fail.add("capability")
    assert ahead(half, "--for", "sm89", "-o", tmp_path / "model.plan") == 2
    assert "refuses to build for compute capability 8.9 (it does not" in capsys.readouterr().err


def test_a_plan_file_needs_fp16_the_library_and_space(
    exported, half, tmp_path, monkeypatch, capsys
):
    for_it = ["--for", "sm89", "-o", tmp_path / "model.plan"]
    assert ahead(exported, *for_it) == 2
    assert (
        "is fp32, TensorRT is given FP16 graphs here: run flair-export" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        main([str(half), *map(str, for_it)])
    assert "--for names the cards of a plan: add --engine trt" in capsys.readouterr().err
    fake_tensorrt.Machine("11.4.0.106").install(monkeypatch)
    assert ahead(half, *for_it) == 2
    assert "TensorRT for RTX is not installed: run pip install 'flair-engine[rtx]'" in (
        capsys.readouterr().err
    )
    fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch)
    monkeypatch.setattr(
        "flair_engine.inference.gpu.ahead.write_whole",
        Mock(side_effect=OSError(28, "No space left on device")),
    )
    assert ahead(half, *for_it) == 1
    assert "MB cannot be written ([Errno 28] No space left on device)" in capsys.readouterr().err
