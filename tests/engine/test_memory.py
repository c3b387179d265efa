"""Memory that pixels take, of a new run and of one that is continued, and what does not fit."""

from types import SimpleNamespace

import numpy as np
import pytest
from doubles.field import noise, write
from doubles.paths import TINY
from doubles.tiny_model import SPEC

from flair_engine import MapOptions, RunOptions, memory, segment
from flair_engine.errors import EngineError, OutputError
from flair_engine.grid import Grid, whole_area
from flair_engine.memory import check_fits, pixel_memory_mib
from flair_engine.options import Inputs, Job
from flair_engine.reading.layers import array_raster
from flair_engine.reading.schedule import needed_bytes, panels

MIB = 2**20


def job_of(tmp_path, memory_mib=None, **write):
    return Job(
        model=TINY,
        inputs=Inputs(images=("in.tif",)),
        output=tmp_path / "map.tif",
        run=RunOptions(engine="ort", memory_mib=memory_mib),
        write=MapOptions(**write),
    )


@pytest.mark.parametrize(
    ("free_mib", "given", "used"),
    [(2000, None, 500), (10**6, None, 1024), (0, None, 1), (8000, 3000, 3000), (10, 3000, 3000)],
)
def test_pixels_take_a_quarter_of_what_is_free_or_what_is_given(
    tmp_path, monkeypatch, free_mib, given, used
):
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: free_mib * MIB)
    assert pixel_memory_mib(job_of(tmp_path, given)) == used
    assert pixel_memory_mib(job_of(tmp_path, given, resume=True)) == used


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    """Map a raster of 40 columns of cores, each a panel where MiB are as few as bytes."""
    path = write(tmp_path / "in.tif", noise(2, 40, 640))
    grid = Grid(height=40, width=640, tile_px=SPEC.tile_px, margin_px=SPEC.margin_px)
    raster = array_raster(noise(2, 40, 640))
    unit = needed_bytes(whole_area(grid), raster, 2)
    monkeypatch.setattr("flair_engine.coverage.panels_of", lambda area, raster, size, bands: panels(
        area, raster, size // MIB * unit, bands
    ))  # fmt: skip

    def mapped(output, memory_mib=None, free_mib=4, share=2.0, **options):
        monkeypatch.setattr(memory, "free_memory_bytes", lambda: free_mib * memory.SHARE * MIB)

        def stop(done, total):
            if done >= share * total:
                raise KeyboardInterrupt

        run = RunOptions(engine="ort", device="cpu", threads=1, memory_mib=memory_mib)
        return segment(
            TINY, path, tmp_path / output, run, write=MapOptions(**options), progress=stop
        )

    return mapped


@pytest.mark.parametrize("now", [{"free_mib": 1}, {"free_mib": 99}, {"memory_mib": 99}])
def test_a_run_is_continued_to_the_same_bytes_whatever_is_free(mapped, tmp_path, now):
    whole = mapped("whole.tif")
    with pytest.raises(KeyboardInterrupt):
        mapped("map.tif", share=0.4)
    report = mapped("map.tif", resume=True, **now)
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert report.blocks_requested < whole.blocks_requested


def test_other_panels_make_the_same_bytes(mapped, tmp_path):
    few, many = mapped("few.tif", 99), mapped("many.tif", 1)
    assert many.blocks_requested > few.blocks_requested == few.blocks
    assert few.decode_factor == 1 < many.decode_factor
    assert (tmp_path / "few.tif").read_bytes() == (tmp_path / "many.tif").read_bytes()


def test_a_run_is_not_continued_in_less_memory_than_its_strips_need(mapped):
    with pytest.raises(KeyboardInterrupt):
        mapped("map.tif", share=0.4)
    with pytest.raises(OutputError, match=r"memory \(4, now 1\)"):
        mapped("map.tif", memory_mib=1, resume=True)
    mapped("map.tif", memory_mib=1, overwrite=True)


def panel_of(height, width):
    raster = array_raster(np.zeros((2, height, width), np.uint8))
    grid = Grid(height=height, width=width, tile_px=512, margin_px=128)
    return SimpleNamespace(cores=whole_area(grid), sheet=SimpleNamespace(raster=raster))


def test_what_does_not_fit_is_refused_and_what_takes_more_is_told(monkeypatch):
    narrow, wide = panel_of(2000, 400), panel_of(2000, 20_000)
    needed = -(-needed_bytes(wide.cores, wide.sheet.raster, len(wide.cores.cols)) // MIB)
    told = []
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: needed * MIB)
    check_fits([narrow, wide], SPEC, needed, told.append)
    assert told == []
    check_fits([narrow, wide], SPEC, needed - 1, told.append)
    (line,) = told
    assert line == (
        f"79 of 512 px tiles beside each other and the blocks they lie in take {needed:,} MiB, "
        f"more than the {needed - 1:,} MiB that pixels were to take (--memory)"
    )
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: (needed - 1) * MIB)
    with pytest.raises(EngineError, match=f"take {needed:,} MiB, {needed - 1:,} are free: free"):
        check_fits([narrow, wide], SPEC, needed - 1, told.append)
