"""flair-run as a user calls it: a process, its two streams and its exit code."""

import json
import signal
import subprocess
import sys
import time

import pytest


def flair_run(*arguments):
    command = [sys.executable, "-m", "flair_engine", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_map_one_line_and_a_report(make_raster, tiny_path, tmp_path):
    path, _ = make_raster()
    report = tmp_path / "run.json"
    result = flair_run("-m", tiny_path, path, tmp_path / "map.tif", "--report", report)
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    assert "0.00 Mpx in" in line
    assert "slowest stage: " in line
    assert json.loads(report.read_text())["model"] == "tiny"
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
    "no such input": (["absent.tif", "map.tif"], "no such file"),
    "no such folder": (["{raster}", "no/map.tif"], "does not exist: create it first"),
    "report folder": (["{raster}", "map.tif", "--report", "no/run.json"], "its folder does not"),
    "no input": (["map.tif"], "no image given: name files as INPUT"),
    "nothing": ([], "Missing argument"),
    "engine": (["{raster}", "map.tif", "--engine", "tf"], "is not one of"),
    "precision": (["{raster}", "map.tif", "--precision", "bf16"], "use --engine openvino"),
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
    before = set(tmp_path.iterdir())
    arguments, message = BAD[case]
    result = flair_run("-m", tiny_path, *(word.format(**names) for word in arguments))
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


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
    assert "note: " in result.stderr
    assert "unreadable blocks skipped: nodata there" in result.stderr
    assert (tmp_path / "map.tif").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_an_interrupt_is_exit_130_and_can_be_resumed(make_raster, tiny_path, tmp_path):
    path, _ = make_raster(height=8000, width=3000)
    arguments = ["-m", str(tiny_path), str(path), str(tmp_path / "map.tif")]
    command = [sys.executable, "-m", "flair_engine", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    journal = tmp_path / ".map.tif.flair-run" / "strips.bin"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"finished strips are kept, continue with --resume" in stderr
    assert not (tmp_path / "map.tif").exists()
    result = flair_run(*arguments)
    assert result.returncode == 2
    assert "holds an unfinished run: continue it with --resume" in result.stderr
    result = flair_run(*arguments, "--resume")
    assert result.returncode == 0, result.stderr
    assert not journal.parent.exists()
