"""Crowns on a lattice, where the picture lets them grow."""

from __future__ import annotations

from flair_export.synthetic.palette import CONIFER, DECIDUOUS, GRASS, WATER
from flair_export.synthetic.picture import Picture
from flair_export.synthetic.trees import plant_trees


def planted(ground: int, density: float) -> Picture:
    picture = Picture(120, 120, seed=4, ground=ground)
    picture.tree_density[:] = density
    plant_trees(picture)
    return picture


def test_a_wood_is_closed_and_tall():
    picture = planted(GRASS, 1)
    crowns = (picture.label == DECIDUOUS) | (picture.label == CONIFER)
    assert crowns.mean() > 0.8
    assert picture.height_m[crowns].mean() > 4


def test_nothing_grows_without_density_or_on_water():
    assert (planted(GRASS, 0).label == GRASS).all()
    assert (planted(WATER, 1).label == WATER).all()
