import numpy as np
import pytest
import shapely
from doubles.maps import LOCAL_PLANE, patchy, transform_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import shapes

from flair_engine.post.ground import Ground
from flair_engine.post.regions import NO_REGION, labelled, measured
from flair_engine.post.rings import Corners, corners, joined, traced


def outlines(array, rows):
    """Return values and polygons of all regions, from corners of strips."""
    strips = [(top, array[top : top + rows]) for top in range(0, len(array), rows)]
    regions = measured(strips, 0, Ground(LOCAL_PLANE, transform_of(1), *array.shape))
    above = np.full((1, array.shape[1]), NO_REGION, np.int32)
    found = []
    for strip in labelled(strips, 0):
        regions_hw = strip.spread(regions.of(strip))
        found.append(corners(strip.top - 1, np.concatenate([above, regions_hw])))
        above = regions_hw[-1:]
    end = np.concatenate([above, np.full_like(above, NO_REGION)])
    numbers, polygons = traced(joined([*found, corners(len(array) - 1, end)]))
    assert numbers.tolist() == list(range(regions.count))
    return regions.values, polygons


def plain(values, polygons):
    """Return what is equal for polygons of equal outlines."""
    bare = shapely.normalize(shapely.simplify(polygons, 0))
    return sorted((int(v), shape.wkt) for v, shape in zip(values, bare, strict=True))


def gdals(array):
    found = list(shapes(array, mask=array != 0, connectivity=4))
    return [value for _, value in found], [shapely.geometry.shape(s) for s, _ in found]


SMALL = arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)
)


@given(SMALL, st.integers(1, 5))
def test_outlines_are_those_of_gdal_and_a_valid_coverage(array, rows):
    values, polygons = outlines(array, rows)
    assert plain(values, polygons) == plain(*gdals(array))
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    assert shapely.area(polygons).sum() == np.count_nonzero(array)


def test_gdals_own_are_no_coverage():
    array = patchy(40, 40)
    assert not shapely.coverage_is_valid(gdals(array)[1])
    assert shapely.coverage_is_valid(outlines(array, 40)[1])


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_parts_are_those_of_the_whole(rows):
    array = patchy(150, 90, seed=4)
    assert plain(*outlines(array, rows)) == plain(*outlines(array, 150))
    assert plain(*outlines(array, rows)) == plain(*gdals(array))


def test_outer_rings_go_around_the_left_of_the_walk():
    _, (polygon,) = outlines(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8), 3)
    # Rows go down, so that what is counter-clockwise on the ground is clockwise in pixels.
    assert not polygon.exterior.is_ccw
    assert polygon.interiors[0].is_ccw


def test_a_ring_that_touches_itself_at_a_corner_is_two():
    _, polygons = outlines(np.array([[1, 1, 2], [1, 2, 1], [1, 1, 1]], np.uint8), 2)
    assert shapely.is_valid(polygons).all()
    assert sorted(shapely.area(polygons)) == [1, 1, 7]


def test_places_that_no_key_holds_are_sorted_too():
    far = 2**31 - 1
    found = Corners(
        region=np.zeros(4, np.int32),
        row=np.array([0, 0, far, far], np.int32),
        col=np.array([0, far, 0, far], np.int32),
        across=np.array([1, -1, 1, -1], np.int8),
        down=np.array([1, 1, -1, -1], np.int8),
        leaves=np.array([False, True, True, False]),
    )
    _, (polygon,) = traced(found)
    assert polygon.equals(shapely.box(0, 0, far, far))
