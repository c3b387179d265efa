"""Files for Deepness: made, and compared with FP32 as the plugin feeds them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from doubles.paths import listing

from flair_engine.errors import ManifestError, OutputError
from flair_engine.manifest import read_model_spec
from flair_export import ExportOptions, export, export_deepness
from flair_export.cli import export_command, main
from flair_export.convert import deepness
from flair_export.convert.deepness import DeepnessVerdict, softmax
from flair_export.proof.compare import EqualLabels
from flair_export.proof.deepness import PluginModel

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")
FLAVOUR = ["--flavour", "deepness"]


@pytest.fixture
def without_margin(rgb_file: Path, tmp_path: Path, quick) -> Path:
    """An exported FP32 file of one layer, tile 32, margin 0."""
    path = tmp_path / "model.onnx"
    export(rgb_file, path, ExportOptions(tile_px=32, margin_px=0))
    return path


def test_the_command_makes_one_of_a_checkpoint(rgb_file, tmp_path, quick, make_raster):
    output, image = tmp_path / "deep.onnx", str(make_raster(bands=3)[0])
    arguments = [str(rgb_file), *FLAVOUR, "-o", str(output), "--tile", "32", "--verify", image]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    for part in (
        "Labels of the ONNX file against PyTorch",
        "Labels in the Deepness plugin against FP32",
        "tiles of 1 image",
        "largest probability difference",
        f"{output} is ready. Next: in QGIS, Plugins, Deepness",
    ):
        assert part in result.output
    assert listing(tmp_path) == ["deep.onnx", "in.tif"]
    (fed,) = onnx.load(output).graph.input
    assert [dim.dim_value for dim in fed.type.tensor_type.shape.dim] == [0, 3, 32, 32]


def test_the_command_makes_one_of_an_exported_file(without_margin, tmp_path):
    output = tmp_path / "deep.onnx"
    result = CliRunner().invoke(export_command, [str(without_margin), *FLAVOUR, "-o", str(output)])
    assert result.exit_code == 0, result.output
    assert "against PyTorch" not in result.output
    again = CliRunner().invoke(export_command, [str(without_margin), *FLAVOUR, "-o", str(output)])
    assert isinstance(again.exception, OutputError)
    assert "deep.onnx: exists: give another name, or --overwrite" in str(again.exception)
    result = CliRunner().invoke(
        export_command, [str(without_margin), *FLAVOUR, "-o", str(output), "--overwrite"]
    )
    assert result.exit_code == 0, result.output


def test_the_verdict_counts_labels_and_probabilities(without_margin, tmp_path):
    exported, verdict = export_deepness(without_margin, tmp_path / "deep.onnx")
    assert exported is None
    assert verdict.faults == ()
    assert verdict.total.pixels > 0
    assert verdict.total.share >= 0.999
    assert 0 <= verdict.share_difference < 1e-3


def test_flair_run_refuses_the_flavour_by_name(without_margin, tmp_path, make_raster):
    output = tmp_path / "deep.onnx"
    export_deepness(without_margin, output)
    said = (
        f"{output}: is a file for the Deepness plugin of QGIS: floats in, probabilities out: give"
    )
    with pytest.raises(ManifestError, match="the one that flair-export writes without --flavour"):
        read_model_spec(output)
    image = make_raster(bands=3)[0]
    result = subprocess.run(
        [sys.executable, "-m", "flair_engine", "-m", output, image, tmp_path / "map.tif"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"flair-run: {said}")
    assert result.stderr.count("\n") == 1


def test_a_margin_is_refused(exported, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(exported), *FLAVOUR, "-o", str(tmp_path / "x.onnx")])
    assert caught.value.code == 2
    assert "the model has a margin of 8 px, while the plugin cuts tiles itself" in (
        capsys.readouterr().err
    )
    assert listing(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--margin", "128"], "--margin make"),
        (["--outputs", "labels"], "--outputs make"),
        (["--precision", "fp16", "--stac"], "--precision and --stac make"),
        (["--engine", "trt"], "--engine make"),
    ],
)
def test_what_the_plugin_cannot_use_is_refused(given, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["w.pth", *FLAVOUR, "-o", "x.onnx", *given])
    line = capsys.readouterr().err
    assert caught.value.code == 2
    assert f"{named} no file for Deepness: it is FP32, of probabilities, without a margin" in line
    assert line.count("\n") == 1


def test_a_file_that_answers_otherwise_is_not_written(
    without_margin, tmp_path, monkeypatch, capsys
):
    """As if the metadata said another scale: the labels are those of darker images."""
    made = deepness.to_deepness

    def darker(model):
        changed = made(model)
        for entry in changed.metadata_props:
            if entry.key == "standardization_std":
                entry.value = "[1.0, 1.0, 1.0]"
        return changed

    monkeypatch.setattr(deepness, "to_deepness", darker)
    with pytest.raises(SystemExit) as caught:
        main([str(without_margin), *FLAVOUR, "-o", str(tmp_path / "x.onnx")])
    assert caught.value.code == 1
    line = capsys.readouterr().err
    assert "the file for Deepness is not faithful: " in line
    assert "of labels agree with FP32, at least 99.9% have to; a probability is " in line
    assert listing(tmp_path) == ["model.onnx"]


def verdict_of(different, off):
    counted = EqualLabels(name="noise", pixels=10_000, different=different, lower=0)
    return DeepnessVerdict(sources=(counted,), classes=(), images=(), share_difference=off)


def test_tolerances():
    assert verdict_of(10, 1 / 255).faults == ()
    (labels,) = verdict_of(11, 0).faults
    assert "99.89" in labels
    for off in (1.1 / 255, float("inf"), float("nan")):
        assert len(verdict_of(0, off).faults) == 1


def test_softmax_is_torchs():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(2).normal(0, 30, (2, 7, 5, 4)).astype(np.float32)
    expected = torch.from_numpy(logits).double().softmax(dim=1).numpy()
    assert softmax(logits) == pytest.approx(expected, rel=1e-6)


def test_the_way_of_the_plugin_needs_no_torch(without_margin, tmp_path):
    probe = (
        "import sys; from flair_export import export_deepness;"
        f"export_deepness({str(without_margin)!r}, {str(tmp_path / 'x.onnx')!r});"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"
    assert len(PluginModel(tmp_path / "x.onnx").class_names) == 15
