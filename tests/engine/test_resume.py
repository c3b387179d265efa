"""Runs killed at any instant and continued: the same bytes as a run that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rasterio

from flair_engine import MapOptions, RunOptions, segment
from flair_engine.errors import WriteError

KILLS = int(os.environ.get("FLAIR_KILLS", "6"))
"""Kills in a row; 50 take a few minutes."""


def run_command(model, source, output, *options):
    command = [sys.executable, "-m", "flair_engine", "-m", model, source, output]
    return [*map(str, command), "--quiet", "--threads", "2", *options]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--cog",)])
def test_killed_at_random_and_resumed_is_byte_identical(make_raster, tiny_path, tmp_path, options):
    source, _ = make_raster(height=3000, width=700, tiled=True, blockxsize=256, blockysize=256)
    rng = random.Random(7)
    output = tmp_path / "killed.tif"
    begin = time.monotonic()
    subprocess.run(run_command(tiny_path, source, tmp_path / "whole.tif", *options), check=True)
    whole_s = time.monotonic() - begin
    kills = 0
    while not (kills >= KILLS and output.exists()):
        if output.exists():
            assert_same_but_for_the_date(tmp_path / "whole.tif", output)
            output.unlink()
        process = subprocess.Popen(run_command(tiny_path, source, output, "--resume", *options))
        try:
            process.wait(timeout=rng.uniform(0.2, 1.1) * whole_s if kills < KILLS else 100)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
        # Killed after the map got its name: the next run says that it is complete.
    assert_same_but_for_the_date(tmp_path / "whole.tif", output)


def assert_same_but_for_the_date(one, other):
    """Both start dates are ISO texts of one length: blank them and compare bytes."""
    contents = []
    for path in (one, other):
        with rasterio.open(path) as dataset:
            tags = dataset.tags()
        content = path.read_bytes()
        for key in ("FLAIR_STARTED", "TIFFTAG_DATETIME"):
            assert tags[key].encode() in content
            content = content.replace(tags[key].encode(), b"-" * len(tags[key]))
        contents.append(content)
    assert contents[0] == contents[1]
    assert Path(f"{one}.aux.xml").read_bytes() == Path(f"{other}.aux.xml").read_bytes()


def test_at_most_the_strip_in_flight_is_repeated(make_raster, tiny_path, tmp_path):
    source, _ = make_raster(height=320, width=64)
    inferred = []

    def stop_after_five(done, _total):
        if done >= 5 * 16 * 64:
            raise KeyboardInterrupt

    def count(done, total):
        inferred.append((done, total))

    with pytest.raises(KeyboardInterrupt):
        segment(
            tiny_path, [source], tmp_path / "map.tif", RunOptions(device="cpu"),
            progress=stop_after_five,
        )  # fmt: skip
    journal = tmp_path / ".map.tif.flair-run" / "strips.bin"
    kept = journal.read_bytes().count(b'{"left"')
    assert kept >= 5
    segment(
        tiny_path, [source], tmp_path / "map.tif", RunOptions(device="cpu"),
        write=MapOptions(resume=True), progress=count,
    )  # fmt: skip
    assert inferred[0] == (kept * 16 * 64, 320 * 64)
    assert len(inferred) - 1 == 20 - kept


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="mounting needs root on Linux")
def test_a_full_disk_keeps_the_work(make_raster, tiny_path, tmp_path):
    source, _ = make_raster(height=2000, width=2000)
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", small]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        output = small / "map.tif"
        with pytest.raises(WriteError, match="free some space|free space of the disk"):
            segment(tiny_path, [source], output, RunOptions(device="cpu"))
        assert not output.exists()
        assert (small / ".map.tif.flair-run" / "strips.bin").exists()
        subprocess.run(["mount", "-o", "remount,size=60m", small], check=True)
        segment(
            tiny_path, [source], output, RunOptions(device="cpu"), write=MapOptions(resume=True)
        )
        segment(tiny_path, [source], tmp_path / "whole.tif", RunOptions(device="cpu"))
        assert_same_but_for_the_date(tmp_path / "whole.tif", output)
    finally:
        subprocess.run(["umount", small], check=False)


def test_the_map_is_assembled_while_strips_come(make_raster, tiny_path, tmp_path):
    source, _ = make_raster(height=320, width=64)
    begun = []

    def look(done, total):
        if 0 < done < total:
            begun.append((tmp_path / ".map.tif.flair-run" / "map.tif").exists())
        assert not (tmp_path / "map.tif").exists() or done == total

    segment(tiny_path, [source], tmp_path / "map.tif", RunOptions(device="cpu"), progress=look)
    assert begun[-1]


def test_where_the_map_cannot_be_written_the_run_ends_at_once(
    make_raster, tiny_path, tmp_path, monkeypatch
):
    def refuse(*_):
        raise WriteError("map.tif: cannot be written", "free the disk")

    monkeypatch.setattr("flair_engine.run.write_maps", refuse)
    source, _ = make_raster(height=3200, width=64)
    progress = []
    with pytest.raises(WriteError, match="cannot be written"):
        segment(
            tiny_path, [source], tmp_path / "map.tif", RunOptions(device="cpu"),
            progress=lambda done, total: progress.append(done / total),
        )  # fmt: skip
    assert progress[-1] < 1
    assert (tmp_path / ".map.tif.flair-run" / "strips.bin").exists()
