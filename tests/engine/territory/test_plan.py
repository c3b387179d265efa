"""Plans: parts that end with cores and blocks, and what is refused before anything is written."""

import math
from dataclasses import replace

import pytest
from doubles.field import X, Y, write
from doubles.territory import CPU, SIZE_PX
from hypothesis import given
from hypothesis import strategies as st

from flair_engine import MapOptions
from flair_engine.errors import EngineError, OutputError, SourceError, WriteError
from flair_engine.territory.plan import plan, step_px
from flair_engine.territory.plan_file import read_plan


@given(core=st.integers(1, 4096), part=st.integers(1, 100_000))
def test_parts_are_whole_cores_and_whole_blocks(core, part):
    step = step_px(core, part)
    assert step % core == step % 512 == 0
    least = math.lcm(core, 512)
    assert step <= max(part, least)
    assert step + least > part or step == least


def test_parts_cover_every_pixel_of_the_files_once(planned):
    made = planned()
    windows = [part.window for part in made.parts]
    assert sum(window.pixels for window in windows) == SIZE_PX**2
    assert len({(w.top, w.left) for w in windows}) == len(windows) == 16
    assert [part.id for part in made.parts][:5] == ["r0_c0", "r0_c1", "r0_c2", "r0_c3", "r1_c0"]
    assert made.part("r1_c0").window.top == 512
    with pytest.raises(SourceError, match="r9_c9: is no part of .*: name one of its 16, such as"):
        made.part("r9_c9")


def test_a_box_leaves_out_parts(planned):
    box = (X + 0.2 * 600, Y - 0.2 * 900, X + 0.2 * 700, Y - 0.2 * 530)
    assert [part.id for part in planned(write={"bbox": box}).parts] == ["r1_c1"]


def test_nothing_is_planned_where_no_file_lies(planned, territory, tmp_path):
    far = write(tmp_path / "far.tif", territory.image_bhw[:, :600, :600], row=3000, col=3000)
    made = planned(inputs=(str(territory.tiles), str(far)))
    assert {part.id for part in made.parts} == {
        *(f"r{row}_c{col}" for row in range(4) for col in range(4)),
        *(f"r{row}_c{col}" for row in (5, 6, 7) for col in (5, 6, 7)),
    }


def test_names_mean_the_same_in_every_folder(planned, territory, monkeypatch):
    monkeypatch.chdir(territory.tiles.parent)
    made = planned(inputs="tiles")
    assert made.files["images"][0].name == str(territory.tiles / "t00.tif")
    assert made == planned(inputs="tiles/*.tif")


def test_what_differs_between_machines_is_settled(territory, tmp_path):
    said = []
    run = replace(CPU, threads=None)
    made = plan(territory.model, territory.tiles, tmp_path / "job", run, notify=said.append)
    assert made.run.threads >= 1
    assert f"parts use {made.run.threads} threads" in said[0]


@pytest.mark.parametrize("name", ["whole_cores", "preview", "overwrite", "resume"])
def test_what_is_not_for_parts(planned, name, tmp_path):
    write = {name: True} | ({"bbox": (0.0, 0.0, 1.0, 1.0)} if name == "whole_cores" else {})
    with pytest.raises(OutputError, match=f"{name} is not for the parts of a job: leave it out"):
        planned(write=write)
    assert not (tmp_path / "job").exists()


def test_a_plan_built_ahead_is_not_for_parts(territory, tmp_path):
    run = replace(CPU, plan=tmp_path / "a.plan")
    with pytest.raises(EngineError, match=r"a\.plan: a plan built ahead is not for the parts of a"):
        plan(territory.model, territory.tiles, tmp_path / "job", run)
    assert not (tmp_path / "job").exists()


def test_parts_without_a_pixel(planned):
    with pytest.raises(OutputError, match="parts of 0 px hold nothing"):
        planned(part_px=0)


def test_files_of_the_same_ground(territory, tmp_path):
    names = [write(tmp_path / n, territory.image_bhw[:, :64, :64]) for n in ("a.tif", "b.tif")]
    with pytest.raises(SourceError, match=r"b.tif: shows ground that another file shows too"):
        plan(territory.model, names, tmp_path / "job", CPU, write=MapOptions(per_input=True))


def test_a_folder_that_cannot_be_made(territory, tmp_path):
    with pytest.raises(WriteError, match="the job's folder cannot be made"):
        plan(territory.model, territory.tiles, tmp_path / "no" / "job", CPU)


def test_the_plan_is_read_as_it_was_written(planned):
    made = planned()
    assert read_plan(made.folder) == made
