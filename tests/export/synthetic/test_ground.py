"""Ground before anything stands on it."""

from __future__ import annotations

import numpy as np
import pytest

from flair_export.synthetic.ground import paint_fields, paint_gardens, paint_river, paint_roads
from flair_export.synthetic.palette import CROP, GRASS, IMPERVIOUS, SOIL, WATER
from flair_export.synthetic.picture import Picture


@pytest.fixture
def picture():
    return Picture(600, 600, seed=2, ground=GRASS)


def test_fields_cover_everything_and_woods_may_grow(picture):
    paint_fields(picture)
    assert (picture.color > 0).all()
    assert (picture.label == CROP).mean() > 0.1
    assert picture.tree_density.min() > 0
    assert picture.tree_density.max() <= 1


def test_a_river_has_sandy_banks_and_no_trees_in_it(picture):
    paint_river(picture)
    assert (picture.label == WATER).any()
    assert (picture.label == SOIL).any()
    assert not picture.tree_density[picture.label == WATER].any()


def test_the_main_road_runs_along_the_frame_and_keeps_trees_off(picture):
    paint_roads(picture)
    road = np.abs(picture.across) < 20
    assert (picture.label[road] == IMPERVIOUS).all()
    assert not picture.tree_density[road].any()


def test_plots_are_used_in_the_middle(picture):
    village = paint_gardens(picture)
    columns, lines = village.shape
    assert lines == 6
    assert village[columns // 2, 2:4].all()
