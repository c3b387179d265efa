import networkx as nx
import numpy as np
import pytest
from doubles.maps import LOCAL_PLANE, patchy, transform_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import shapes

from flair_engine.post.ground import Ground
from flair_engine.post.regions import NO_REGION, components, labelled, measured


def in_strips(array, rows):
    return [(top, array[top : top + rows]) for top in range(0, len(array), rows)]


def plane(array, gsd_m=1.0):
    return Ground(LOCAL_PLANE, transform_of(gsd_m), *array.shape)


def numbered(array, rows):
    """Return what is measured, and the region of each pixel."""
    regions = measured(in_strips(array, rows), 0, plane(array))
    found = [strip.spread(regions.of(strip)) for strip in labelled(in_strips(array, rows), 0)]
    return regions, np.concatenate(found)


SMALL = arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3)
)


@given(SMALL, st.integers(1, 5))
def test_regions_are_those_of_gdal(array, rows):
    regions, of_pixels = numbered(array, rows)
    expected = [(value, shape) for shape, value in shapes(array, mask=array != 0, connectivity=4)]
    assert regions.count == len(expected)
    assert sorted(regions.values) == sorted(value for value, _ in expected)
    assert ((of_pixels == NO_REGION) == (array == 0)).all()
    for number in range(regions.count):
        where = of_pixels == number
        assert set(array[where]) == {regions.values[number]}
        assert regions.pixels[number] == where.sum()
        assert regions.last_rows[number] == np.flatnonzero(where.any(axis=1)).max()
        (one,) = [s for s, _ in shapes(where.astype(np.uint8), mask=where, connectivity=4)]
        assert one["type"] == "Polygon"


def test_confidence_is_the_mean_of_the_pixels():
    array = patchy(60, 40)
    confidence = np.random.default_rng(2).integers(0, 256, array.shape, np.uint8)
    regions = measured(in_strips(array, 7), 0, plane(array), in_strips(confidence, 7))
    _, of_pixels = numbered(array, 60)
    whole = measured(in_strips(array, 60), 0, plane(array), in_strips(confidence, 60))
    expected = [confidence[of_pixels == n].mean() / 255 for n in range(whole.count)]
    assert np.allclose(whole.confidences, expected)
    assert np.allclose(np.sort(regions.confidences), np.sort(expected))


def test_areas_are_on_the_ground():
    array = patchy(60, 40)
    regions = measured(in_strips(array, 9), 0, plane(array, gsd_m=0.5))
    assert np.allclose(regions.areas_m2, regions.pixels * 0.25)


def test_a_map_of_nodata_alone_has_no_region():
    regions, of_pixels = numbered(np.zeros((5, 4), np.uint8), 2)
    assert regions.count == 0
    assert (of_pixels == NO_REGION).all()


@given(st.integers(1, 30), st.data())
def test_components_are_the_smallest_of_what_is_linked(count, data):
    node = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(node, node), max_size=40))
    graph = nx.Graph(links)
    graph.add_nodes_from(range(count))
    pairs = np.array(links, np.int64).reshape(-1, 2)
    found = components(count, pairs[:, 0], pairs[:, 1])
    for group in nx.connected_components(graph):
        assert {found[each] for each in group} == {min(group)}


@pytest.mark.parametrize("turns", [3, 40])
def test_a_spiral_is_one_region(turns):
    size = 2 * turns + 3
    array = np.full((size, size), 2, np.uint8)
    row = col = turns + 1
    step, length = (0, 1), 1
    while 0 < row < size - 1 and 0 < col < size - 1:
        for _ in range(length):
            if not (0 <= row < size and 0 <= col < size):
                break
            array[row, col] = 1
            row, col = row + step[0], col + step[1]
        step, length = (step[1], -step[0]), length + 1
    regions, _ = numbered(array, 4)
    expected = list(shapes(array, connectivity=4))
    assert regions.count == len(expected)
