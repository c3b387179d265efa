"""The command line: what it shows, what it refuses, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from doubles.paths import listing

import flair_export.network.checkpoint
from flair_engine.manifest import read_model_spec
from flair_export import cli
from flair_export.cards import CARDS
from flair_export.cli import export_command, inspect_command, main
from flair_export.errors import OptionError

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ["--tile", "32", "--margin", "8"]

pytestmark = pytest.mark.usefixtures("one_thread")


def fails(capsys, arguments: list[str]) -> tuple[int, str]:
    """Run a command that has to fail; return its exit code and its one line on stderr."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    stderr = capsys.readouterr().err.lstrip()  # click ends the line that shows ^C
    assert stderr.count("\n") == 1
    assert stderr.startswith("flair-export: ")
    return caught.value.code, stderr


def test_help_and_version():
    shown = CliRunner().invoke(export_command, ["--help"]).output
    for word in ("CHECKPOINT", "--verify IMAGE...", "--trust-checkpoint", "inspect MODEL.onnx"):
        assert word in shown
    assert "version" in CliRunner().invoke(export_command, ["--version"]).output


def test_list_models_shows_every_card():
    result = CliRunner().invoke(export_command, ["--list-models"])
    assert result.exit_code == 0
    for card in CARDS:
        assert card.short_name in result.output
    assert result.output.count("by analogy") == 1


@pytest.mark.usefixtures("quick")
def test_export_then_inspect(rgb_file, tmp_path, make_raster):
    images = [str(make_raster(f"{n}.tif", bands=3)[0]) for n in "abc"]
    model = tmp_path / "model.onnx"
    arguments = [str(rgb_file), "-o", str(model), *SMALL, "--outputs", "labels,confidence"]
    spread = cli._spread([*arguments, "--verify", *images])
    result = CliRunner().invoke(export_command, spread)
    assert result.exit_code == 0, result.output
    for part in (
        "noise (2 tiles)",
        "tiles of 3 images",
        "greenhouse",
        "100.0000",
        "largest logit difference",
        "largest confidence difference",
        f"Next: flair-run -m {model}",
    ):
        assert part in result.output
    shown = CliRunner().invoke(inspect_command, [str(model)])
    assert shown.exit_code == 0
    spec = read_model_spec(model)
    for part in (spec.name, spec.weights_sha256, "keeps 16 px", "#9999ff", f"flair-run -m {model}"):
        assert part in shown.output
    assert shown.output.count("inactive") == 4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["x", "--verify", "a", "b", "-o", "m"], "x --verify a --verify b -o m"),
        (["x", "--verify", "a", "--verify", "b", "c"], "x --verify a --verify b --verify c"),
        (["x", "--verify=a", "b", "--debug"], "x --verify=a --verify b --debug"),
        (["x", "-o", "m", "--verify"], "x -o m --verify"),
        (
            ["x", "--calibrate", "a", "b", "--verify", "c", "d", "-o", "m"],
            "x --calibrate a --calibrate b --verify c --verify d -o m",
        ),
    ],
)
def test_an_option_takes_what_a_shell_expands(given, expected):
    assert " ".join(cli._spread(given)) == expected


@pytest.mark.parametrize(("given", "crop"), [([], True), (["--no-context-crop"], False)])
def test_the_crop_is_on_unless_told_otherwise(monkeypatch, capsys, given, crop):
    def told(_checkpoint, _output, options, **_):
        raise OptionError(f"crop is {options.context_crop}", "look")

    monkeypatch.setattr(cli, "export", told)
    assert fails(capsys, ["a.pth", "-o", "m.onnx", *given]) == (
        2,
        f"flair-export: crop is {crop}: look\n",
    )


def test_main_reads_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["flair-export", "--list-models"])
    main()
    assert "rgb_12cl_resnet34-unet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'CHECKPOINT'"),
        (["a.pth"], "Missing option '-o'"),
        (["a.pth", "-o", "m.onnx", "--verify"], "'--verify' requires an argument"),
        (["a.pth", "-o", "m.onnx", "--tile", "many"], "'many' is not a valid integer"),
        (["a.pth", "b.pth", "-o", "m.onnx"], "unexpected extra argument"),
        (["a.pth", "-o", "no/m.onnx"], "no/m.onnx: its folder does not exist"),
        (["a.pth", "-o", "m.onnx", "--margin", "600"], "margin 600 px"),
        (["a.pth", "-o", "m.onnx", "--outputs", "labels,logits"], "outputs labels,logits"),
        (["a.pth", "-o", "m.onnx", "--model", "vit"], "model 'vit' is not known"),
        (["a.pth", "-o", "m.onnx"], "a.pth: no such checkpoint"),
        (["inspect"], "Missing argument 'MODEL.onnx'"),
        (["inspect", "m.onnx"], "m.onnx: no such model file"),
    ],
)
def test_refusals_are_one_line_and_exit_2(capsys, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, line = fails(capsys, arguments)
    assert (code, said in line) == (2, True), line
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.onnx", "-o", "x.onnx"], "model.onnx: is exported already: add --precision fp16"),
        (
            ["w.pth", "--engine", "trt"],
            "run flair-export w.pth --precision fp16 -o model.fp16.onnx first",
        ),
        (["w.pth"], "Missing option '-o' / '--output'"),
        (["model.onnx", "--precision", "fp16", "-o", "no/x.onnx"], "no/x.onnx: its folder does"),
        (["absent.onnx", "--precision", "fp16", "-o", "x.onnx"], "absent.onnx: no such model file"),
    ],
)
def test_what_cannot_be_converted_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    stderr = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("precision", "arguments", "message"),
    [
        ("int8", [], "precision int8 has to measure images like those to be mapped"),
        ("fp16", ["--calibrate", "a.tif"], "--calibrate is for --precision int8, not fp16"),
        ("int8", ["--calibrate", "no.tif"], "no.tif: cannot be opened as an image"),
        ("int8", ["--calibrate", "small.tif"], "small.tif: holds one tile of 32 px; calibration"),
    ],
)
@pytest.mark.parametrize("source", ["model.onnx", "checkpoint"])
def test_what_cannot_be_measured_is_one_line(
    source, precision, arguments, message, exported_wide, rgb_file, tmp_path, make_raster, capsys,
    monkeypatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    make_raster("small.tif", height=16, width=16, bands=3)
    given = str(rgb_file if source == "checkpoint" else exported_wide)
    before = listing(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main([given, "--precision", precision, *SMALL, "-o", "new.onnx", *arguments])
    stderr = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in stderr
    assert stderr.count("\n") == 1
    assert listing(tmp_path) == before


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_full_disk_is_one_line(
    exported_wide, make_raster, precision, tmp_path, monkeypatch, capsys
):
    def full_disk(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    calibrate = ["--calibrate", str(make_raster(bands=3)[0])] if precision == "int8" else []
    before = listing(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(
            [
                str(exported_wide),
                "--precision",
                precision,
                "-o",
                str(tmp_path / "x.onnx"),
                *calibrate,
            ]
        )
    assert caught.value.code == 1
    assert "bytes cannot be written ([Errno 28] No space left" in capsys.readouterr().err
    assert listing(tmp_path) == before


@pytest.mark.usefixtures("quick", "broken_graph")
def test_unfaithful_export_shows_the_report_and_exits_1(capsys, rgb_file, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main([str(rgb_file), "-o", str(tmp_path / "m.onnx"), *SMALL])
    out, err = capsys.readouterr()
    assert caught.value.code == 1
    assert "synthetic scene" in out
    assert "is ready" not in out
    assert "m.onnx: not written, the export is not faithful" in err
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: nothing was written"),
        (RuntimeError("out of luck"), 1, "failed with RuntimeError: out of luck: see where with"),
    ],
)
def test_what_comes_unasked(capsys, monkeypatch, rgb_file, tmp_path, error, code, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(flair_export.network.checkpoint, "read_checkpoint", fail)
    exit_code, line = fails(capsys, [str(rgb_file), "-o", str(tmp_path / "m.onnx")])
    assert (exit_code, said in line) == (code, True), line


def test_traceback_only_for_debug(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["absent.pth", "-o", str(tmp_path / "m.onnx"), "--debug"])
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("flair-export: absent.pth: no such checkpoint")


PROBE = """
import sys
sys.modules.update(dict.fromkeys(("torch", "segmentation_models_pytorch", "onnxruntime")))
import flair_export, flair_export.cli
for arguments in (["--list-models"], ["a.pth", "-o", "no/m.onnx"], ["inspect", "absent.onnx"]):
    try:
        flair_export.cli.main(arguments)
    except SystemExit as end:
        assert end.code == 2, end
"""


def test_light_commands_work_without_the_heavy_packages():
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False
    )
    assert probe.returncode == 0, probe.stderr
    assert "no/m.onnx: its folder does not exist" in probe.stderr


@pytest.mark.slow
def test_stand_in_checkpoint_from_file_to_model(standin: Path, tmp_path):
    path = tmp_path / "standin.onnx"
    patches = standin.parents[1] / "flair1" / "Z4_block" / "img"
    images = [str(image) for image in sorted(patches.glob("*.tif"))[:1]]
    main([str(standin), "-o", str(path), "--tile", "128", "--margin", "16", "--verify", *images])
    spec = read_model_spec(path)
    assert spec.name == "standin_rvbie_15cl_resnet34-unet"
    assert spec.weights_sha256.startswith("92ec1674")
    assert len(spec.active_classes) == 15


def test_names_in_the_line_of_what_is_done_are_no_markup():
    with cli._told() as status:
        status("reading [/] [/red] [red].pth")
