"""INT8 files: measured, made, compared with FP32, and refused where they differ too much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from doubles.paths import listing

from flair_engine.manifest import read_model_spec
from flair_export.cli import export_command, main
from flair_export.convert import int8
from flair_export.errors import ExportError
from flair_export.proof.compare import Comparison, EqualLabels

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def image(make_raster):
    return str(make_raster(bands=3)[0])


def test_the_command_measures_converts_and_keeps_the_agreement(
    exported_wide, image, tmp_path, capsys, make_raster
):
    output = tmp_path / "model.int8.onnx"
    second = str(make_raster("second.tif", bands=3)[0])
    main([str(exported_wide), "--precision", "int8", "-o", str(output),
          "--calibrate", image, second, "--verify", image])  # fmt: skip
    shown = capsys.readouterr().out
    for part in (
        "Labels of INT8 against FP32",
        "calibration images, other tiles",
        "tiles of 1 image)",
        "ranges measured on ",
        "tiles of 2 images",
        "1 of 3 convolutions compute in INT8, in FP32 stay:",
        f"Next: flair-run -m {output}",
    ):
        assert " ".join(part.split()) in " ".join(shown.replace("│", " ").split())
    spec = read_model_spec(output)
    assert spec.precision == "int8"
    assert 0.99 <= spec.agreement_fp32 <= 1
    main(["inspect", str(output)])
    assert f"labels of FP32   {spec.agreement_fp32:.2%} on the images it was made with" in (
        capsys.readouterr().out
    )


def test_a_checkpoint_is_exported_proven_and_converted(rgb_file, quick_wide, image, tmp_path):
    output = tmp_path / "int8.onnx"
    arguments = [str(rgb_file), "--precision", "int8", "-o", str(output), "--tile", "32",
                 "--margin", "8", "--calibrate", image]  # fmt: skip
    before = listing(tmp_path)
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    assert "Labels of the ONNX file against PyTorch" in result.output
    assert "Labels of INT8 against FP32" in result.output
    assert listing(tmp_path) == sorted([*before, "int8.onnx"])


def test_too_few_equal_labels_leave_no_file(exported_wide, image, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(int8, "INT8_FILE_EQUAL", 1.01)
    with pytest.raises(SystemExit) as caught:
        main([str(exported_wide), "--precision", "int8", "-o", str(tmp_path / "i.onnx"),
              "--calibrate", image])  # fmt: skip
    assert caught.value.code == 1
    assert "of labels of the INT8 file agree with FP32, at least 101% have to" in (
        capsys.readouterr().err
    )
    assert "i.onnx" not in listing(tmp_path)


def equal(name, pixels, different, lower=None):
    return EqualLabels(name=name, pixels=pixels, different=different, lower=lower or different // 2)


@pytest.mark.parametrize(
    ("total", "of_class", "of_image", "fault"),
    [
        (equal("images", 10**6, 9000), equal("water", 10**4, 500), equal("a", 10**4, 300), ""),
        (equal("images", 10**6, 10001), None, None, "99.00% of labels of the INT8 file agree"),
        (equal("images", 10**6, 9000, 6000), None, None, "67% of the 9,000 labels that differ"),
        (
            equal("images", 10**6, 9000), equal("water", 10**4, 501), None,
            "94.99% of the labels of water agree with FP32, at least 95% have to",
        ),
        (
            equal("images", 10**6, 9000), None, equal("a.tif", 10**4, 301),
            "96.99% of the labels of a.tif agree with FP32, at least 97% have to",
        ),
        (equal("images", 10**6, 9000), equal("water", 9999, 9999), equal("a", 9999, 9999), ""),
    ],
)  # fmt: skip
def test_a_file_that_is_bad_on_one_land_is_refused(
    exported_wide, image, tmp_path, monkeypatch, total, of_class, of_image, fault
):
    found = Comparison(
        sources=(total,),
        classes=(of_class,) if of_class else (),
        images=(of_image,) if of_image else (),
    )
    monkeypatch.setattr(int8, "compare_files", lambda *_: found)
    target = tmp_path / "i.onnx"
    if not fault:
        int8.convert_to_int8(exported_wide, target, [Path(image)])
        return
    with pytest.raises(ExportError, match=fault):
        int8.convert_to_int8(exported_wide, target, [Path(image)])


def test_converting_needs_no_torch(exported_wide, image, tmp_path):
    probe = (
        "import sys; from pathlib import Path; from flair_export import ExportOptions, export_int8;"
        f"options = ExportOptions(calibrate=(Path({image!r}),));"
        f"export_int8({str(exported_wide)!r}, {str(tmp_path / 'i.onnx')!r}, options);"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"
