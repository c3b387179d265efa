"""The synthetic scene: the same every time, in range, and with exact labels at any size."""

import numpy as np
import pytest

from flair_engine.manifest import COUNTS_PER_METRE
from flair_export.cards import find_card
from flair_export.synthetic.scene import synthetic_orthophoto

ACTIVE = find_card("rgbie_15cl_resnet34-unet").active
SIZES = [(1, 1), (1, 40), (33, 7), (64, 64), (101, 250), (512, 511)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_size_is_drawn_with_active_classes_only(height, width):
    image, labels = synthetic_orthophoto(height, width, seed=3)
    assert image.shape == (5, height, width)
    assert labels.shape == (height, width)
    assert image.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) <= set(ACTIVE)


def test_the_same_arguments_give_the_same_scene():
    first, again = synthetic_orthophoto(200, 180, 5), synthetic_orthophoto(200, 180, 5)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_scene():
    image, labels = synthetic_orthophoto(200, 180, 5)
    other_image, other_labels = synthetic_orthophoto(200, 180, 6)
    assert (image != other_image).mean() > 0.5
    assert (labels != other_labels).any()


def test_a_large_scene_shows_nearly_every_class():
    _, labels = synthetic_orthophoto(1536, 1536, 2)
    assert set(np.unique(labels)) >= {1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13}


def test_even_a_small_scene_shows_several_classes():
    _, labels = synthetic_orthophoto(64, 64, 0)
    assert len(np.unique(labels)) >= 3


def test_bands_tell_the_classes_apart():
    image, labels = synthetic_orthophoto(768, 768, 2)
    red, _, _, nir, elevation = image.astype(np.float32)
    assert nir[labels == 5].mean() < 60 < nir[labels == 10].mean()
    assert elevation[labels == 1].mean() > 12
    assert elevation[labels == 7].mean() > 12
    assert elevation[labels == 3].mean() < 3
    assert red[labels == 11].mean() > red[labels == 7].mean() + 40


def test_elevation_is_five_counts_per_metre():
    image, labels = synthetic_orthophoto(512, 512, 2)
    roofs = image[4][labels == 1] / COUNTS_PER_METRE
    assert 2 < np.percentile(roofs, 5) < np.percentile(roofs, 95) < 10


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (-1, 5)])
def test_a_scene_without_pixels_is_refused(height, width):
    with pytest.raises(ValueError, match=f"{height} x {width} px has no pixel"):
        synthetic_orthophoto(height, width, seed=0)
