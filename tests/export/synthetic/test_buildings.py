"""Buildings on plain ground."""

from __future__ import annotations

import numpy as np

from flair_export.synthetic.buildings import build_greenhouses, build_houses
from flair_export.synthetic.palette import BUILDING, CROP, GRASS, GREENHOUSE
from flair_export.synthetic.picture import Picture


def test_houses_stand_where_plots_are_used():
    picture = Picture(600, 600, seed=2, ground=GRASS)
    build_houses(picture, np.zeros((8, 6), np.bool_))
    assert not (picture.label == BUILDING).any()
    build_houses(picture, np.ones((8, 6), np.bool_))
    roofs = picture.label == BUILDING
    assert roofs.mean() > 0.02
    assert picture.height_m[roofs].min() > 2


def test_greenhouses_stand_on_farmland_only():
    for ground, built in ((CROP, True), (BUILDING, False)):
        picture = Picture(1500, 1500, seed=1, ground=ground)
        build_greenhouses(picture)
        assert (picture.label == GREENHOUSE).any() == built
