"""Shadows, and heights as a camera's fifth band shows them."""

from __future__ import annotations

import numpy as np

from flair_export.synthetic.light import cast_shadow, expose
from flair_export.synthetic.picture import Picture


def test_shadows_fall_north_west_of_what_is_tall_and_not_on_its_top():
    height_m = np.zeros((80, 80), np.float32)
    height_m[40:50, 40:50] = 6
    shadow = cast_shadow(height_m)
    assert shadow[34, 34] == 1
    assert shadow[45, 45] == 0
    assert shadow[56, 56] == 0
    assert shadow.min() == 0


def test_the_elevation_band_is_height_in_counts_cut_at_255():
    picture = Picture(40, 40, seed=0, ground=10)
    picture.height_m[:20] = 10
    picture.height_m[20:] = 100
    elevation = expose(picture)[4].astype(int)
    assert abs(elevation[:20] - 50).max() <= 4
    assert elevation[20:].min() >= 250
