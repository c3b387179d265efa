"""The road frame, pieces of the picture and its noise."""

from __future__ import annotations

import numpy as np
import pytest

from flair_export.synthetic.picture import Picture


@pytest.fixture
def picture():
    return Picture(60, 80, seed=1, ground=10)


def test_every_pixel_starts_as_ground(picture):
    assert (picture.label == 10).all()
    assert not picture.color.any()
    assert not picture.height_m.any()


def test_a_place_lies_where_the_frame_says(picture):
    row, col, _ = picture.place(5.0, -8.0)
    pixel = round(row), round(col)
    assert picture.along[pixel] == pytest.approx(5.0, abs=1)
    assert picture.across[pixel] == pytest.approx(-8.0, abs=1)


def test_painting_a_piece_paints_the_picture(picture):
    piece, u, v, mask = picture.box((30.0, 40.0, 0.0), 4, 2)
    piece.fill(mask, 1, (10, 20, 30, 40), 3.0)
    assert mask.sum() == 9 * 5
    assert (np.abs(u[mask]) <= 4).all()
    assert (np.abs(v[mask]) <= 2).all()
    assert (picture.label[28:33, 36:45] == 1).all()
    assert (picture.label == 1).sum() == 9 * 5
    assert picture.height_m[30, 40] == 3.0
    assert picture.color[:, 30, 40].tolist() == [10, 20, 30, 40]


def test_noise_is_smooth_and_centred(picture):
    noise = picture.noise(20)
    assert noise.shape == (60, 80)
    assert abs(noise.mean()) < 1
    assert np.abs(np.diff(noise, axis=0)).max() < 0.5


def test_things_outside_the_picture_are_cut_off():
    picture = Picture(20, 30, seed=0, ground=10)
    piece, u, v, mask = picture.box((-500.0, -500.0, 0.3), 10, 5)
    assert piece.label.size == u.size == v.size == mask.size == 0
    piece, _, _, mask = picture.box((0.0, 0.0, 0.0), 4, 2)
    assert mask.any()
    assert mask.shape == piece.label.shape
