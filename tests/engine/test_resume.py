"""Runs killed at any instant and continued: the same bytes as a run that was left alone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.field import noise, write

from flair_engine import MapOptions, RunOptions, run, segment
from flair_engine.errors import OutputError, WriteError
from flair_engine.mapping.journal import unfinished

KILLS = int(os.environ.get("FLAIR_KILLS", "6"))
"""Kills in a row; 50 take a few minutes."""
CPU = RunOptions(engine="ort", device="cpu", threads=2)
STRIP = b'{"panel"'
"""Beginning of a record of the journal."""


def run_command(model, source, output, *options):
    command = [sys.executable, "-m", "flair_engine", "-m", model, source, output]
    return [*map(str, command), "--quiet", "--engine", "ort", "--threads", "2", *options]


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
            assert_same_map(tmp_path / "whole.tif", output)
            output.unlink()
        process = subprocess.Popen(run_command(tiny_path, source, output, "--resume", *options))
        try:
            process.wait(timeout=rng.uniform(0.2, 1.1) * whole_s if kills < KILLS else 100)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
        # Killed after the map got its name: the next run says that it is complete.
    assert_same_map(tmp_path / "whole.tif", output)


def two_dates(folder, size):
    """Two tiles beside one another, at two dates: two sheets."""
    for seed, (name, col) in enumerate(
        (("1_west", 0), ("1_east", size), ("2_west", 0), ("2_east", size))
    ):
        write(folder / f"{name}.tif", noise(2, 2 * size, size, seed), col=col)


def scattered(folder, size):
    """Tiles far from one another: one sheet with panels of its own for each."""
    for seed, (row, col) in enumerate(((0, 0), (10 * size, 90 * size), (70 * size, 5 * size))):
        write(folder / f"{seed}.tif", noise(2, 2 * size, size, seed), row=row, col=col)


def scattered_at_two_dates(folder, size):
    """Both, at the second date half a tile off."""
    scattered(folder / "first", size)
    for path in (folder / "first").iterdir():
        path.rename(folder / f"first_{path.name}")
    (folder / "first").rmdir()
    write(folder / "second.tif", noise(2, 2 * size, size, 9), row=size // 2)


LAYOUTS = [two_dates, scattered, scattered_at_two_dates]


def assert_same_maps(one, other):
    """Compare folders of maps; the hidden folder of a run is not among them."""
    names = {path.name for path in one.glob("[!.]*")}
    assert {path.name for path in other.glob("[!.]*")} == names
    for path in one.glob("*.tif"):
        assert_same_map(path, other / path.name)


def is_complete(folder, files):
    """Return whether each file has its map and no run is under way."""
    maps = {path.name for path in folder.glob("*.tif")}
    return maps == {path.name for path in files} and not unfinished(folder / ".flair-run")


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_several_maps_killed_at_random_and_resumed_are_byte_identical(tiny_path, tmp_path, layout):
    layout(tmp_path / "in", 480)
    files = list((tmp_path / "in").glob("*.tif"))
    whole, output = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    output.mkdir()
    rng = random.Random(11)
    begin = time.monotonic()
    options = ("--per-input",)
    subprocess.run(run_command(tiny_path, tmp_path / "in", whole, *options), check=True)
    whole_s = time.monotonic() - begin
    kills = 0
    while not (kills >= KILLS and is_complete(output, files)):
        if is_complete(output, files):  # killed in the very end, or not in time
            assert_same_maps(whole, output)
            shutil.rmtree(output)
            output.mkdir()
        process = subprocess.Popen(
            run_command(tiny_path, tmp_path / "in", output, "--resume", *options)
        )
        try:
            process.wait(timeout=rng.uniform(0.3, 1.1) * whole_s if kills < KILLS else 100)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
    assert_same_maps(whole, output)
    assert not (output / ".flair-run").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9])
def test_several_maps_stopped_and_resumed_are_byte_identical(
    tiny_path, tmp_path, layout, share, cog
):
    """Whatever maps are complete by then: they are made again, and the same."""
    layout(tmp_path / "in", 60)
    write_options = {"per_input": True, "cog": cog}
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = segment(
        tiny_path, [tmp_path / "in"], tmp_path / "whole", CPU, write=MapOptions(**write_options)
    )

    def stop(done, total):
        if done >= share * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(
            tiny_path, [tmp_path / "in"], tmp_path / "stopped", CPU, progress=stop,
            write=MapOptions(**write_options),
        )  # fmt: skip
    journal = tmp_path / "stopped" / ".flair-run" / "strips.bin"
    kept = journal.read_bytes().count(STRIP)
    assert kept >= 1
    progress = []
    resumed = segment(
        tiny_path, [tmp_path / "in"], tmp_path / "stopped", CPU,
        write=MapOptions(resume=True, **write_options),
        progress=lambda *done: progress.append(done),
    )  # fmt: skip
    assert_same_maps(tmp_path / "whole", tmp_path / "stopped")
    assert progress[-1] == (whole.pixels, whole.pixels)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert whole.inferred_pixels == whole.pixels
    assert resumed.resumed_pixels == progress[0][0] > 0
    assert resumed.inferred_pixels == whole.pixels - resumed.resumed_pixels
    for name in ("pixels", "pixels_by_class", "hectares_by_class", "nodata_pixels", "tiles"):
        assert getattr(resumed, name) == getattr(whole, name), name


def test_strips_of_every_sheet_are_kept(tiny_path, tmp_path, monkeypatch):
    """Two sheets of one panel each: stopped in the second, the first is not read again."""
    two_dates(tmp_path / "in", 64)
    (tmp_path / "out").mkdir()
    read = []
    known = run.read_strips

    def noting(raster, panel, rows, **options):
        read.append(list(rows))
        return known(raster, panel, rows, **options)

    def stop(done, total):
        if done >= 0.75 * total:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "read_strips", noting)
    with pytest.raises(KeyboardInterrupt):
        segment(
            tiny_path, [tmp_path / "in"], tmp_path / "out", CPU, progress=stop,
            write=MapOptions(per_input=True),
        )  # fmt: skip
    assert read == [[*range(8)], [*range(8)]]
    kept = (tmp_path / "out" / ".flair-run" / "strips.bin").read_bytes().count(STRIP)
    assert 12 <= kept < 16
    read.clear()
    segment(
        tiny_path, [tmp_path / "in"], tmp_path / "out", CPU,
        write=MapOptions(per_input=True, resume=True),
    )  # fmt: skip
    assert read == [[*range(kept - 8, 8)]]


def test_files_given_in_another_order_are_another_run(tiny_path, tmp_path):
    """Where files cover one another the first wins, and has the first sheet."""
    two_dates(tmp_path / "in", 64)
    (tmp_path / "out").mkdir()
    files = sorted((tmp_path / "in").iterdir())

    def stop(done, total):
        if done >= 0.5 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(
            tiny_path, files, tmp_path / "out", CPU, progress=stop,
            write=MapOptions(per_input=True),
        )  # fmt: skip
    options = MapOptions(per_input=True, resume=True)
    for others in (files[::-1], files[:-1]):
        with pytest.raises(OutputError, match=r"the unfinished run differs in .*inputs[:;] "):
            segment(tiny_path, others, tmp_path / "out", CPU, write=options)
    segment(tiny_path, files, tmp_path / "out", CPU, write=options)
    assert is_complete(tmp_path / "out", files)


def assert_same_map(one, other):
    for beside in ("", ".aux.xml"):
        assert Path(f"{one}{beside}").read_bytes() == Path(f"{other}{beside}").read_bytes()


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
    kept = journal.read_bytes().count(STRIP)
    assert kept >= 5
    segment(
        tiny_path, [source], tmp_path / "map.tif", RunOptions(device="cpu"),
        write=MapOptions(resume=True), progress=count,
    )  # fmt: skip
    assert inferred[0] == (kept * 16 * 64, 320 * 64)
    assert len(inferred) - 1 == 20 - kept


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
