"""FP16 files: made, compared with FP32, and refused where they differ too much."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner
from doubles.paths import listing

from flair_engine.manifest import read_model_spec
from flair_export.cli import export_command, main
from flair_export.convert import fp16
from flair_export.proof.compare import Comparison, EqualLabels

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_command_converts_a_model(exported, tmp_path, make_raster):
    output = tmp_path / "model.fp16.onnx"
    image = str(make_raster(bands=3)[0])
    arguments = [str(exported), "--precision", "fp16", "-o", str(output), "--verify", image]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    for part in (
        "weights only: a CPU computes in FP32",
        "tiles of 1 image",
        "where FP16 ends at 65,504",
        "layers kept in FP32 between Casts: none",
        f"Next: flair-run -m {output}",
    ):
        assert part in result.output
    assert read_model_spec(output).precision == "fp16"


def test_a_checkpoint_is_exported_proven_and_converted(rgb_file, tmp_path, quick):
    output = tmp_path / "model.fp16.onnx"
    arguments = [str(rgb_file), "--precision", "fp16", "-o", str(output), "--tile", "32",
                 "--margin", "8"]  # fmt: skip
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    assert "Labels of the ONNX file against PyTorch" in result.output
    assert "Labels of FP16 against FP32" in result.output
    assert read_model_spec(output).precision == "fp16"
    assert listing(tmp_path) == ["model.fp16.onnx"]


def test_too_few_equal_labels_leave_no_file(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fp16, "FP16_FILE_EQUAL", 1.01)
    with pytest.raises(SystemExit) as caught:
        main([str(exported), "--precision", "fp16", "-o", str(tmp_path / "x.onnx")])
    assert caught.value.code == 1
    assert "of labels of the FP16 file agree with FP32, at least 101.0% have" in (
        capsys.readouterr().err
    )
    assert "x.onnx" not in listing(tmp_path)


def test_labels_that_lean_leave_no_file(exported, tmp_path, monkeypatch, capsys):
    def leaning(spec, *_):
        sources = (EqualLabels(name="images", pixels=10**6, different=2000, lower=1999),)
        return Comparison(sources=sources, classes=(), images=())

    monkeypatch.setattr(fp16, "compare_files", leaning)
    with pytest.raises(SystemExit) as caught:
        main([str(exported), "--precision", "fp16", "-o", str(tmp_path / "x.onnx")])
    assert caught.value.code == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert "the FP16 file beside FP32: 100% of the 2,000 labels" in shown
    assert "x.onnx" not in listing(tmp_path)


def test_converting_needs_no_torch(exported, tmp_path):
    probe = (
        "import sys; from pathlib import Path; from flair_export import export_fp16;"
        f"export_fp16({str(exported)!r}, {str(tmp_path / 'x.onnx')!r});"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"
