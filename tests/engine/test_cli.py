"""flair-run as a user calls it: a process, its two streams and its exit code."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest
from doubles.field import NOTE, WARNING, noise, write
from rich.console import Console

from flair_engine import cli
from flair_engine.options import Inputs, MapOptions, ReadOptions, RunOptions
from flair_engine.report import Report


def flair_run(*arguments):
    command = [sys.executable, "-m", "flair_engine", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_engines_are_listed_without_a_model():
    result = flair_run("--engines")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    places = [line.split("  ")[0] for line in lines]
    assert places == [
        "trt on cuda:0", "ort on cuda:0",
        "openvino on cpu in bf16", "openvino on cpu", "ort on cpu",
    ]  # fmt: skip


def test_with_debug_the_engines_are_listed_before_the_run(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    result = flair_run("-m", tiny_path, path, tmp_path / "map.tif", "--debug", "--engine", "ort")
    assert result.returncode == 0
    assert "note: trt on cuda:0  " in result.stderr


def test_a_map_one_line_and_a_report(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    report = tmp_path / "run.json"
    result = flair_run("-m", tiny_path, path, tmp_path / "map.tif", "--report", report)
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    assert "0.00 Mpx in" in line
    assert "slowest stage: " in line
    figures = json.loads(report.read_text())
    assert figures["model"] == "tiny"
    assert {field.name for field in fields(Report)} <= figures.keys()
    assert str(report) not in line
    assert (tmp_path / "map.tif.aux.xml").exists()


def test_quiet_says_nothing(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    result = flair_run("-m", tiny_path, path, tmp_path / "map.tif", "--quiet", "--bands", "2,1")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


BAD = {
    "wrong bands": (["{raster5}", "map.tif"], "has 5 bands, the model wants 2"),
    "band list": (["{raster}", "map.tif", "--bands", "1,x"], "'1,x' is not a list of band numbers"),
    "box": (["{raster}", "map.tif", "--bbox", "1,2,3"], "'1,2,3' is not xmin,ymin,xmax,ymax"),
    "nodata": (["{raster}", "map.tif", "--nodata", "x"], "neither a number nor none"),
    "mask": (["{raster}", "map.tif", "--mask", "0"], "'0' is neither none, alpha nor the number"),
    "bytes": (["{raster}", "d\udce9p.tif"], "d?p.tif: the name holds bytes that are not UTF-8"),
    "no such input": (["absent.tif", "map.tif"], "no such file"),
    "no such folder": (["{raster}", "no/map.tif"], "does not exist: create it first"),
    "gsd of nothing": (["{raster}", "map.tif", "--gsd", "0"], "--gsd"),
    "gsd that is no number": (["{raster}", "map.tif", "--gsd", "nan"], "--gsd"),
    "foreign map": (["{raster}", "{raster5}", "--overwrite"], "is no map of flair-engine"),
    "foreign report": (
        ["{raster}", "map.tif", "--report", "{raster5}"],
        "exists already and is no report of flair-run",
    ),
    "report is the map": (["{raster}", "map.tif", "--report", "map.tif"], "is two outputs"),
    "report is the preview": (
        ["{raster}", "map.tif", "--preview", "--report", "map.preview.png"],
        "is two outputs",
    ),
    "report is the input": (["{raster}", "map.tif", "--report", "{raster}"], "is no report of"),
    "folder is a file": (["{raster}", "{raster5}", "--per-input"], "--per-input writes a folder"),
    "box beside the images": (
        ["{raster}", "map.tif", "--bbox", "0,0,9,9"],
        "the box 0,0,9,9: does not touch the images",
    ),
    "box and shapes": (
        ["{raster}", "map.tif", "--bbox", "0,0,9,9", "--aoi", "a.gpkg"],
        "both a box and a file say what to map",
    ),
    "creation option": (["{raster}", "map.tif", "--co", "TILED=NO"], "TILED is fixed, or means"),
    "date without an item": (["{raster}", "map.tif", "--acquired", "2023"], "add --stac"),
    "no date": (["{raster}", "map.tif", "--stac", "--acquired", "soon"], "is no day, month, year"),
    "foreign page": (
        ["{raster}", "map.tif", "--report", "other.html"],
        "exists already and is no report of flair-run",
    ),
    "report folder": (["{raster}", "map.tif", "--report", "no/run.json"], "its folder does not"),
    "no input": (["map.tif"], "no image given: name files as INPUT"),
    "nothing": ([], "Missing argument"),
    "engine": (["{raster}", "map.tif", "--engine", "tf"], "is not one of"),
    "precision": (
        ["{raster}", "map.tif", "--engine", "ort", "--precision", "bf16"],
        "use --engine openvino",
    ),
    "option": (["{raster}", "map.tif", "--best"], "No such option"),
    "tensorrt on the cpu": (
        ["{raster}", "map.tif", "--engine", "trt", "--device", "cpu"],
        "engine trt does not run on cpu",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_2(make_raster, tiny_path, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    names = {"raster": make_raster()[0].name, "raster5": make_raster("5.tif", bands=5)[0].name}
    (tmp_path / "other.html").write_text("<!doctype html><p>of somebody else")
    before = set(tmp_path.iterdir())
    arguments, message = BAD[case]
    result = flair_run("-m", tiny_path, *(word.format(**names) for word in arguments))
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


def parsed(monkeypatch, *arguments):
    """Return what `segment` is given by the command line."""
    given = {}

    def segment(model, inputs, output, run, *, read, write, **_listeners):
        given.update(model=model, inputs=inputs, output=output, run=run, read=read, write=write)
        raise click.Abort

    monkeypatch.setattr(cli, "segment", segment)
    with pytest.raises(click.Abort):
        cli.command.main([*arguments, "-m", "model.onnx"], standalone_mode=False)
    return given


def test_every_choice_is_an_option_of_its_name():
    names = {parameter.name for parameter in cli.command.params}
    for kind in (Inputs, RunOptions, ReadOptions, MapOptions):
        wanted = {field.name for field in fields(kind)} - {"images", "plan_sha256"}
        assert wanted <= names
    assert "paths" in names


def test_nothing_is_asked_for_unless_it_is_said(monkeypatch):
    monkeypatch.delenv("FLAIR_PLAN_CACHE", raising=False)
    given = parsed(monkeypatch, "a.tif", "b.tif", "map.tif")
    assert given == {
        "model": Path("model.onnx"),
        "inputs": Inputs(images=("a.tif", "b.tif")),
        "output": "map.tif",
        "run": RunOptions(),
        "read": ReadOptions(),
        "write": MapOptions(),
    }


SAID = [
    (["--mask", "none"], ReadOptions(mask="none")),
    (["--mask", "alpha"], ReadOptions(mask="alpha")),
    (["--mask", "4"], ReadOptions(mask=4)),
    (["--nodata", "none"], ReadOptions(nodata="none")),
    (["--nodata", "-9999"], ReadOptions(nodata=-9999.0)),
    (["--bands", "3, 1"], ReadOptions(bands=(3, 1))),
    (["--gsd", "0.2", "--resample"], ReadOptions(gsd_m=0.2, resample=True)),
    (["--on-error", "skip"], ReadOptions(on_error="skip")),
    (["--bbox", "-1,2.5,3,4e3"], MapOptions(bbox=(-1, 2.5, 3, 4000))),
    (["--aoi", "a.gpkg", "--per-input"], MapOptions(aoi="a.gpkg", per_input=True)),
    (["--report", "run.json"], MapOptions(report=Path("run.json"))),
    (
        ["--co", "COMPRESS=ZSTD", "--co", "BIGTIFF=YES"],
        MapOptions(co=("COMPRESS=ZSTD", "BIGTIFF=YES")),
    ),
    (
        ["--preview", "--stac", "--acquired", "2023"],
        MapOptions(preview=True, stac=True, acquired="2023"),
    ),
    (["--cog", "--labels", "zero-based"], MapOptions(cog=True, labels="zero-based")),
    (["--overwrite", "--resume"], MapOptions(overwrite=True, resume=True)),
    (["--engine", "ort", "--batch", "3"], RunOptions(engine="ort", batch=3)),
]


@pytest.mark.parametrize(("words", "expected"), SAID, ids=lambda said: str(said)[:30])
def test_what_is_said_is_what_is_asked_for(monkeypatch, words, expected):
    monkeypatch.delenv("FLAIR_PLAN_CACHE", raising=False)
    given = parsed(monkeypatch, "a.tif", "map.tif", *words)
    assert expected in given.values()
    others = {"run": RunOptions(), "read": ReadOptions(), "write": MapOptions()}
    assert sum(given[name] != other for name, other in others.items()) == 1


REFUSED = {
    "--mask": ("0", "-1", "1.5", "x", "", "Alpha"),
    "--nodata": ("x", "", "1,5"),
    "--bands": ("0", "1,", "1;2", "-1", "1.0"),
    "--bbox": ("1,2,3", "1,2,3,4,5", "1,2,3,x", ""),
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, texts in REFUSED.items() for value in texts]
)
def test_what_is_no_value_of_an_option_is_refused(option, value):
    said = "is not (a list|xmin)|is neither (a number nor none|none, alpha nor the number)"
    with pytest.raises(click.BadParameter, match=said):
        cli.command.main(
            ["a.tif", "map.tif", "-m", "model.onnx", option, value], standalone_mode=False
        )


def test_one_map_for_each_file_in_its_own_folder(band_model, tmp_path):
    for year in (2019, 2023):
        write(tmp_path / "in" / f"{year}.tif", noise(2, 40, 50, seed=year))
    (tmp_path / "out").mkdir()
    report = tmp_path / "run.json"
    words = ["-m", band_model("red", "green"), tmp_path / "in", tmp_path / "out", "--per-input"]
    result = flair_run(*words, "--report", report)
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tif")) == [
        "2019.tif",
        "2023.tif",
    ]
    assert json.loads(report.read_text())["pixels"] == 2 * 40 * 50
    assert all(line.startswith(NOTE) for line in result.stderr.splitlines())
    result = flair_run(*words)
    assert (result.returncode, result.stdout) == (2, "")
    assert "exists already: use --overwrite" in result.stderr
    result = flair_run(*words, "--overwrite", "--quiet")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", "")


def test_a_terminal_shows_how_far_it_is(monkeypatch):
    """On one line that goes again; notices stay above it."""
    screen = io.StringIO()
    on_terminal = partial(Console, file=screen, force_terminal=True, width=200, height=50)
    monkeypatch.setattr("rich.console.Console", on_terminal)
    with cli.progress_shown(quiet=False) as listener:
        listener.status("building a plan")
        listener.notify("a style is kept on [5] px")
        listener.warn("height is missing on [6] px")
        listener.progress(0, 4_000_000)
        listener.progress(3_000_000, 4_000_000)
    shown = screen.getvalue()
    assert "note: a style is kept on [5] px" in shown
    assert "warning: height is missing on [6] px" in shown
    assert "75 %  3.0 of 4.0 Mpx, " in shown


@pytest.mark.parametrize("no_color", [False, True])
def test_a_bar_fits_in_80_columns_and_keeps_its_colours_to_itself(monkeypatch, no_color):
    """NO_COLOR (no-color.org): escapes that move the cursor stay, colours go."""
    monkeypatch.setenv("NO_COLOR", "1" if no_color else "")
    screen = io.StringIO()
    on_terminal = partial(
        Console, file=screen, force_terminal=True, width=80, height=24, color_system="standard"
    )
    monkeypatch.setattr("rich.console.Console", on_terminal)
    with cli.progress_shown(quiet=False) as listener:
        listener.progress(0, 99_999_000_000)
        listener.progress(88_888_000_000, 99_999_000_000)
    text = screen.getvalue()
    assert bool(re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", text)) != no_color
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()
    assert any("89 %  88888.0 of 99999.0 Mpx, " in line for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("quiet", [False, True])
def test_without_a_terminal_notes_and_warnings_are_shown(capsys, quiet):
    """--quiet hides what is only of interest, not that the map may be wrong."""
    with cli.progress_shown(quiet) as listener:
        listener.status("building a plan")
        listener.progress(3, 4)
        listener.progress(4, 4)
        listener.notify("a style is kept")
        listener.warn("height is missing")
    said = capsys.readouterr()
    notes = f"{NOTE}75% was labelled before, 0.0 Mpx are left\n{NOTE}a style is kept\n"
    warning = f"{WARNING}height is missing\n"
    assert (said.out, said.err) == ("", warning if quiet else notes + warning)


def test_quiet_does_not_hide_a_height_band_that_is_wrong(band_model, tmp_path):
    image = np.full((2, 40, 50), 7, np.uint8)
    write(tmp_path / "in.tif", image)
    words = ["-m", band_model("red", "elevation"), tmp_path / "in.tif", tmp_path / "map.tif"]
    result = flair_run(*words, "-q")
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith(f"{WARNING}the elevation band is 7 everywhere. ")
    assert len(result.stderr.splitlines()) == 1


def test_help_has_every_option_in_one_section():
    said = flair_run("--help").stdout
    assert [line for line in said.splitlines() if line.endswith(":") and line[0] != " "] == [
        f"{title}:" for title in cli.SECTIONS
    ]
    options = [p for p in cli.command.params if isinstance(p, click.Option)]
    for option in options:
        assert len(re.findall(rf"^  .*{option.opts[-1]}\b", said, re.MULTILINE)) >= 1
    named = [name for names in cli.SECTIONS.values() for name in names]
    assert sorted(named) == sorted(option.name for option in options)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["flair-run", "-m", "mod"], "file,mod"),
        (["flair-run", "--rvb", "im"], "file,im"),
        (["flair-run", "-m", "m.onnx", "in"], "file,in"),
        (["flair-run", "--engine", "o"], "plain,ort\nplain,openvino"),
    ],
)
def test_a_shell_completes_files_and_choices(words, expected):
    completing = {
        "_FLAIR_RUN_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    result = subprocess.run(
        [sys.executable, "-m", "flair_engine"], env={**os.environ, **completing},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, expected, "")


def test_a_report_that_fails_is_exit_1_and_the_map_is_there(make_raster, tiny_path, tmp_path):
    """A disk that is full by then."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path, _ = make_raster()
    words = ["-m", tiny_path, path, tmp_path / "map.tif", "--report", "/dev/full"]
    result = flair_run(*words, "--quiet")
    assert (result.returncode, result.stdout) == (1, "")
    assert "the map is complete, its report cannot be written (No space left" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (tmp_path / "map.tif").exists()


def test_debug_shows_the_traceback(tiny_path, tmp_path):
    result = flair_run("-m", tiny_path, "absent.tif", tmp_path / "map.tif", "--debug")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("flair-run: absent.tif: no such file")


@pytest.fixture
def damaged(make_raster):
    path, _ = make_raster(height=600, width=64, tiled=True, blockxsize=64, blockysize=64,
                          compress="deflate")  # fmt: skip
    path.write_bytes(path.read_bytes()[:60_000])
    return path


def test_an_unreadable_block_is_exit_1(damaged, tiny_path, tmp_path):
    result = flair_run("-m", tiny_path, damaged, tmp_path / "map.tif", "--quiet")
    assert result.returncode == 1
    assert "cannot be decoded" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "map.tif").exists()


def test_skipped_blocks_are_exit_3(damaged, tiny_path, tmp_path):
    result = flair_run("-m", tiny_path, damaged, tmp_path / "map.tif", "--on-error", "skip")
    assert result.returncode == 3
    assert "warning: " in result.stderr
    assert "unreadable blocks skipped: nodata there" in result.stderr
    assert (tmp_path / "map.tif").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")],
)
def test_a_run_that_a_signal_ends_can_be_resumed(
    make_raster, tiny_path, tmp_path, name, code, word
):
    path, _ = make_raster(height=8000, width=3000)
    # Of tiles of 20 px ONNX Runtime does several times as many.
    arguments = ["-m", str(tiny_path), str(path), str(tmp_path / "map.tif"), "--engine", "ort"]
    command = [sys.executable, "-m", "flair_engine", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    journal = tmp_path / ".map.tif.flair-run" / "strips.bin"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (
        journal.exists() and journal.stat().st_size > 20_000  # more than what it begins with
    ):
        time.sleep(0.02)
    process.send_signal(signal.Signals[name])
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    line = stderr.decode().splitlines()[-1]
    assert line == f"flair-run: {word}: finished strips are kept, continue with --resume"
    assert not (tmp_path / "map.tif").exists()
    result = flair_run(*arguments)
    assert result.returncode == 2
    assert "holds an unfinished run: continue it with --resume" in result.stderr
    result = flair_run(*arguments, "--resume")
    assert result.returncode == 0, result.stderr
    assert not journal.parent.exists()
