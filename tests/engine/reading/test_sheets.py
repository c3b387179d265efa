import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.errors import SourceError
from flair_engine.grid import Grid, Window
from flair_engine.reading.sheets import (
    apart_from_one_another,
    check_box,
    check_no_rivals,
    check_placed,
    covered_areas,
    covering,
)
from flair_engine.tolerances import SEAM_SHARE


class File:
    """A file of which only its name and whether it is placed are asked."""

    def __init__(self, name="a.tif", placed=True):
        self.name, self.placed = name, placed


def named(*names, placed=True):
    return [File(name, placed) for name in names]


def box(top, left, height=100, width=100):
    return Window(top=top, left=left, height=height, width=width)


@st.composite
def boxes(draw, most=12, least=1):
    edge, size = st.integers(0, 60), st.integers(1, 30)
    drawn = draw(st.lists(st.tuples(edge, edge, size, size), min_size=least, max_size=most))
    return [box(*edges) for edges in drawn]


def share(one, other):
    """Return how much of the smaller of two windows both cover, counted pixel by pixel."""
    pixels = np.zeros((2, 120, 120), bool)
    pixels[0][one.slices], pixels[1][other.slices] = True, True
    return (pixels[0] & pixels[1]).sum() / min(pixels[0].sum(), pixels[1].sum())


@given(boxes())
def test_files_that_cover_one_another_by_more_than_a_seam(windows):
    expected = [
        (one, other)
        for other in range(len(windows))
        for one in range(other)
        if share(windows[one], windows[other]) > SEAM_SHARE
    ]
    assert sorted(covering(windows)) == sorted(expected)


@pytest.mark.parametrize(("left", "found"), [(100, []), (90, []), (89, [(0, 1)]), (0, [(0, 1)])])
def test_a_seam_is_a_tenth_of_the_smaller(left, found):
    assert covering([box(0, 0), box(0, left)]) == found
    assert covering([box(0, 0), box(0, left, width=1000)]) == found


@given(boxes())
def test_on_no_sheet_do_two_cover_one_another(windows):
    files = [File(str(number)) for number in range(len(windows))]
    sheets = apart_from_one_another(files, windows)
    numbers = [[int(file.name) for file in sheet] for sheet in sheets]
    assert sorted(number for sheet in numbers for number in sheet) == list(range(len(files)))
    assert all(sheet == sorted(sheet) and sheet for sheet in numbers)
    for sheet in numbers:
        pairs = [(one, other) for other in sheet for one in sheet if one < other]
        assert all(share(windows[one], windows[other]) <= SEAM_SHARE for one, other in pairs)
    if not covering(windows):
        assert numbers == [list(range(len(files)))]
    # No file is on a later sheet than need be.
    for before, sheet in itertools.pairwise(numbers):
        for number in sheet:
            assert any(
                share(windows[number], windows[n]) > SEAM_SHARE for n in before if n < number
            )


def test_two_dates_of_a_country_come_to_two_sheets():
    windows = [box(0, 100 * n) for n in range(50)] * 2
    files = [File(str(n)) for n in range(100)]
    assert apart_from_one_another(files, windows) == [files[:50], files[50:]]


def test_files_without_a_place_are_alone():
    files = named("a", "b", "c", placed=False)
    assert apart_from_one_another(files, [box(0, 0)] * 3) == [[file] for file in files]


@pytest.mark.parametrize("apart", [False, True])
def test_files_that_are_placed_and_one_that_is_alone_make_a_raster(apart):
    check_placed(named("a", "b"), apart=apart)
    check_placed(named("a", placed=False), apart=apart)


def test_files_without_a_place_can_only_be_mapped_apart():
    files = named("a.tif", "b.tif", placed=False)
    check_placed(files, apart=True)
    with pytest.raises(SourceError, match=r"2 files without a georeference \(first a.tif\) cannot"):
        check_placed(files, apart=False)


@pytest.mark.parametrize("apart", [False, True])
def test_a_file_without_a_place_among_others(apart):
    with pytest.raises(SourceError, match="b.tif: has no georeference while other files have one"):
        check_placed([*named("a.tif"), *named("b.tif", placed=False)], apart=apart)


def test_products_that_do_not_cover_one_another_have_no_rivals():
    check_no_rivals("irc", named("a.tif", "b.tif"), [box(0, 0), box(0, 90)])
    check_no_rivals("irc", named("a.tif"), [box(0, 0)])


@pytest.mark.parametrize("placed", [True, False])
def test_products_of_which_it_is_not_known_where_they_belong(placed):
    files = named("a.tif", "b.tif", placed=placed)
    with pytest.raises(
        SourceError, match="irc: files of the leading .* to which of them a.tif and b.tif belong"
    ):
        check_no_rivals("irc", files, [box(0, 0), box(0, 50)])


def test_files_that_lie_far_apart_are_one_map_no_more():
    near, far = [box(0, 10_000 * n, 10_000, 10_000) for n in range(5)], box(0, 10**9, 1000, 1000)
    files = named("a", "b", "c", "d", "far.tif", "e")
    check_box(files[:4], near[:4])
    message = r"would be 1,000,001,000 x 10,000 px and all but void; farthest off lies far\.tif"
    with pytest.raises(SourceError, match=message):
        check_box(files, [*near[:4], far, near[4]])


def test_a_small_map_may_be_void():
    check_box(named("a", "b"), [box(0, 0, 1, 1), box(30_000, 30_000, 1, 1)])  # 0.9 Gpx


@given(boxes(), st.integers(0, 15))
def test_areas_hold_all_files_and_lie_apart(windows, margin_px):
    grid = Grid(height=100, width=100, tile_px=32, margin_px=margin_px)
    areas = covered_areas(grid, windows)
    held = np.zeros((grid.rows, grid.cols), int)
    for area in areas:
        held[np.ix_(area.rows, area.cols)] += 1
    assert held.max() == 1
    assert areas == sorted(areas, key=lambda area: (area.rows.start, area.cols.start))
    touched = [cores(grid, window) for window in windows]
    for area in areas:
        inside = np.zeros((grid.rows, grid.cols), bool)
        inside[np.ix_(area.rows, area.cols)] = True
        own = [cells for cells in touched if (cells & inside).any()]
        assert all((cells <= inside).all() for cells in own)
        # An area is no larger than what lies in it.
        rows, cols = np.nonzero(np.any(own, axis=0))
        assert (area.rows[0], area.rows[-1]) == (rows.min(), rows.max())
        assert (area.cols[0], area.cols[-1]) == (cols.min(), cols.max())
        # Between two there is a row or a column of cores that neither holds.
        wider = np.zeros((grid.rows + 2, grid.cols + 2), bool)
        for down in range(3):
            for right in range(3):
                wider[down : down + grid.rows, right : right + grid.cols] |= inside
        assert not (wider[1:-1, 1:-1] & (held > 0) & ~inside).any()
    assert (held[np.any(touched, axis=0)] == 1).all()


def cores(grid, window):
    """Return bool [rows, cols], True for the cores that share a pixel with a window."""
    pixels = np.zeros((grid.height, grid.width), bool)
    pixels[window.slices] = True
    return np.array(
        [[pixels[grid.core(i, j).slices].any() for j in range(grid.cols)] for i in range(grid.rows)]
    )


def test_what_lies_between_files_far_apart_costs_nothing():
    grid = Grid(height=10**6, width=10**7, tile_px=512, margin_px=64)
    windows = [box(0, 0), box(0, 9_000_000), box(900_096, 0), box(900_146, 90)]
    areas = covered_areas(grid, windows)
    assert [(len(area.rows), len(area.cols)) for area in areas] == [(1, 1), (1, 1), (1, 1)]


def test_many_files_that_touch_are_one_area():
    grid = Grid(height=64 * 60, width=64 * 60, tile_px=64, margin_px=0)
    windows = [box(64 * row, 64 * col, 64, 64) for row in range(60) for col in range(60)]
    (area,) = covered_areas(grid, windows)
    assert (area.rows, area.cols) == (range(60), range(60))
