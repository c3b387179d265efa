"""Parts of a territory: each equal to the same pixels of one run, whoever makes them and when."""

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from doubles.field import noise, write
from doubles.position_model import position_labels, write_position_model
from doubles.territory import CPU, labels_of, put_together

from flair_engine import Inputs, Model, segment
from flair_engine.reading import files
from flair_engine.territory.part import Worker, run_part
from flair_engine.territory.plan import plan
from flair_engine.territory.seeing import Sight


@pytest.fixture
def model(territory):
    with Model(territory.model, CPU) as model:
        yield model


def run_all(plan, model):
    return [run_part(plan, part.id, model=model) for part in plan.parts]


def test_parts_equal_the_whole(planned, whole, territory, model):
    plan = planned()
    records = run_all(plan, model)
    assert len(plan.parts) == 16
    assert {record.state for record in records} == {"done"}
    assert (put_together(plan) == labels_of(whole)).all()
    assert (labels_of(whole) == position_labels(territory.image_bhw)).all()


def test_a_frame_that_is_moved_by_a_pixel_gives_other_labels(planned, whole, model):
    plan = planned()
    grid = plan.frame.pixel_grid
    moved = replace(grid, transform=grid.transform @ Affine.translation(1, 0))
    plan = replace(plan, frame=replace(plan.frame, pixel_grid=moved))
    part = plan.parts[5]
    run_part(plan, part.id, model=model)
    found = labels_of(plan.folder / "parts" / f"{part.id}.tif")
    assert (found != labels_of(whole)[part.window.slices]).mean() > 0.9


def test_a_part_opens_the_files_that_it_sees_alone(planned, model, monkeypatch):
    opened = []
    real = files.open_dataset
    monkeypatch.setattr(files, "open_dataset", lambda name: opened.append(name) or real(name))
    plan = planned()
    opened.clear()
    with Worker(plan, model=model) as worker:
        worker.run(plan.parts[0])
    assert sorted({name[-7:-4] for name in opened}) == ["t00", "t01", "t10", "t11"]


@pytest.fixture
def delivery(tmp_path):
    """RVB of which two tiles lie on grids of their own, IRC, a surface and a terrain; a model."""
    image = noise(4, 1300, 1300, seed=3)
    for number, (top, left) in enumerate((t, c) for t in (0, 650) for c in (0, 650)):
        part = image[:, top : top + 650, left : left + 650]
        off = 0.4 if number in (1, 2) else 0.0
        write(tmp_path / "rvb" / f"{number}.tif", part[:3], row=top + off, col=left - off)
        write(tmp_path / "irc" / f"{number}.tif", part[3:], row=top, col=left)
    # 1 m and 5 m, in tiles of which the first of the terrain covers little.
    surface = noise(1, 280, 280, seed=4).astype(np.float32)
    terrain = noise(1, 60, 60, seed=5).astype(np.float32) / 8
    for number, rows in enumerate((slice(0, 140), slice(140, 280))):
        path = tmp_path / "dsm" / f"{number}.tif"
        write(path, surface[:, rows], row=rows.start - 2.3, col=-2.3, gsd_m=1.0)
    for number, rows in enumerate((slice(0, 6), slice(6, 30), slice(30, 60))):
        path = tmp_path / "dtm" / f"{number}.tif"
        write(path, terrain[:, rows], row=rows.start - 1.7, col=-1.7, gsd_m=5.0)
    inputs = {product: (str(tmp_path / product),) for product in ("rvb", "irc", "dsm", "dtm")}
    bands = ("red", "green", "blue", "nir", "elevation")
    return Inputs(**inputs), write_position_model(tmp_path, *bands)


def test_parts_of_what_is_warped_and_of_heights_equal_the_whole(delivery, tmp_path):
    inputs, path = delivery
    segment(path, inputs, tmp_path / "whole.tif", CPU)
    made = plan(path, inputs, tmp_path / "job", CPU, part_px=512)
    assert len(made.parts) == 9
    assert [len(grids) for grids in made.frame.own_grids.values()] == [1, 0, 1, 1]
    with Model(path, CPU) as model:
        run_all(made, model)
    assert (put_together(made) == labels_of(tmp_path / "whole.tif")).all()
    sight = Sight(made)
    seen = [sight.numbers(part)["rvb"] for part in made.parts]
    assert seen[0] != (0, 1, 2, 3), "no part opens less than all"
