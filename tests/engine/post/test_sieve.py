import numpy as np
import pytest
from doubles.maps import LOCAL_PLANE, patchy, transform_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import sieve

from flair_engine.post.ground import Ground
from flair_engine.post.regions import measured
from flair_engine.post.sieve import rewritten, sieved


def through(array, rows, pixels):
    strips = [(top, array[top : top + rows]) for top in range(0, len(array), rows)]
    ground = Ground(LOCAL_PLANE, transform_of(0.2), *array.shape)
    regions = measured(strips, 0, ground)
    found = sieved(strips, 0, regions, pixels * 0.2 * 0.2)
    written = [strip_hw for _, strip_hw in rewritten(strips, 0, regions, found.values)]
    return np.concatenate(written), found


SMALL = arrays(
    np.uint8, st.tuples(st.integers(2, 14), st.integers(2, 14)), elements=st.integers(0, 3)
)


@given(SMALL, st.integers(1, 6), st.integers(1, 12))
def test_it_is_gdals_sieve_whatever_the_strips(array, rows, pixels):
    pixels = min(pixels, array.size - 1)
    found, _ = through(array, rows, pixels)
    expected = sieve(array, pixels, mask=array != 0, connectivity=4)
    assert (found[array != 0] == expected[array != 0]).all()
    assert (found[array == 0] == 0).all()


@pytest.mark.parametrize("rows", [1, 13, 100, 300])
def test_parts_are_those_of_the_whole(rows):
    array = patchy(300, 211, seed=3, nodata=False)
    found, _ = through(array, rows, 9)
    assert (found == sieve(array, 9, connectivity=4)).all()


def test_what_touches_nothing_large_stays():
    array = np.zeros((9, 9), np.uint8)
    array[1:3, 1:3], array[5, 5], array[5, 6] = 1, 2, 3
    found, done = through(array, 4, 5)
    assert (found == array).all()
    assert (done.small, done.kept) == (3, 3)


def test_what_is_not_small_stays():
    array = patchy(50, 50)
    found, done = through(array, 50, 0)
    assert (found == array).all()
    assert done.small == 0
