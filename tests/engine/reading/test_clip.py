"""Pixels in a box or in shapes: the oracles are their centres, and rasterio on the whole raster."""

import math
from itertools import pairwise

import numpy as np
import pytest
from affine import Affine
from doubles.rasters import ORIGIN_M
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.transform import from_origin

from flair_engine.grid import Cores, Grid, Window, bounds, whole_area
from flair_engine.reading.area import area_shapes
from flair_engine.reading.clip import clip_to
from flair_engine.reading.pixel_grid import PixelGrid

shapely = pytest.importorskip("shapely")

X, Y = ORIGIN_M
HEIGHT, WIDTH = 70, 90
WHOLE = Window(top=0, left=0, height=HEIGHT, width=WIDTH)
UPRIGHT = from_origin(X, Y, 0.2, 0.2)
ASKEW = Affine.translation(X, Y) @ Affine.rotation(30) @ Affine.scale(0.2, -0.2)


def pixels(transform=UPRIGHT):
    return PixelGrid(height=HEIGHT, width=WIDTH, crs=CRS.from_epsg(2154), transform=transform)


def centres(pixel_grid):
    """Return the coordinates [H, W] of the middle of every pixel."""
    rows, cols = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return pixel_grid.transform @ (cols, rows)


def box_clip(box, pixel_grid):
    return clip_to(area_shapes(pixel_grid, box, None, print), pixel_grid)


def in_box(box, pixel_grid):
    x, y = centres(pixel_grid)
    return (x > box[0]) & (y > box[1]) & (x < box[2]) & (y < box[3])


def windows(height=HEIGHT, width=WIDTH):
    """Windows of the raster, some of a single pixel."""
    rows, cols = (st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)) for n in (height, width))
    return st.tuples(rows, cols).map(
        lambda edges: bounds(
            Window(top=row, left=col, height=1, width=1) for row, col in zip(*edges, strict=True)
        )
    )


def edges(size_px):
    """Edges of boxes, in pixels: anywhere, but no centre lies on one by a rounding error."""
    return st.floats(-3, size_px + 3).filter(lambda edge: abs(edge % 1 - 0.5) > 1e-6)


@given(edges(WIDTH), edges(WIDTH), edges(HEIGHT), edges(HEIGHT), windows())
def test_a_box_holds_the_pixels_whose_centres_it_holds(col, other_col, row, other_row, window):
    pixel_grid = pixels()
    if col == other_col or row == other_row:
        return
    xs = sorted(X + 0.2 * edge for edge in (col, other_col))
    ys = sorted(Y - 0.2 * edge for edge in (row, other_row))
    if xs[0] == xs[1] or ys[0] == ys[1]:
        return
    box = (xs[0], ys[0], xs[1], ys[1])
    expected, clip = in_box(box, pixel_grid), box_clip(box, pixel_grid)
    assert (clip.inside(WHOLE) == expected).all()
    assert (clip.inside(window) == expected[window.slices]).all()
    assert clip.covers(window) == expected[window.slices].any()
    assert clip.window.pixels == expected.sum(), "nothing around it"


def test_a_box_of_whole_pixels_is_those_whatever_its_last_decimals():
    box = (X + 0.2 * 15, Y - 0.2 * 45, X + 0.2 * 35, Y - 0.2 * 20)
    expected = Window(top=20, left=15, height=25, width=20)
    for by in (-1e-9, 0, 1e-9):
        assert box_clip(tuple(edge + by for edge in box), pixels()).window == expected
    assert box_clip(tuple(edge + 0.09 for edge in box), pixels()).window == expected, "the nearest"


def test_boxes_side_by_side_share_no_pixel_and_leave_none_out():
    plain = PixelGrid(height=HEIGHT, width=WIDTH, crs=None, transform=Affine.identity())
    cuts = [0, 10.5, 31.25, 32.5, 90]  # in the middle of pixels, which floats hold exactly
    found = [box_clip((left, 0, right, HEIGHT), plain).window for left, right in pairwise(cuts)]
    assert sum(window.width for window in found) == WIDTH
    assert [window.left for window in found] == [0, 11, 31, 33]


def test_a_box_without_an_end_is_the_raster():
    everywhere = (-math.inf, -math.inf, math.inf, math.inf)
    assert box_clip(everywhere, pixels()).window == WHOLE
    south = (-math.inf, -math.inf, math.inf, Y - 10)
    assert box_clip(south, pixels()).window == Window(top=50, left=0, height=20, width=WIDTH)


@pytest.mark.parametrize("box", [(1, 1.1, 1.4, 1.4), (30, 0.6, 30.4, 80)])
def test_a_box_between_centres_holds_nothing(box):
    plain = PixelGrid(height=HEIGHT, width=WIDTH, crs=None, transform=Affine.identity())
    clip = box_clip(box, plain)
    assert clip.window.pixels == 0
    assert not clip.covers(WHOLE)
    assert not clip.inside(WHOLE).any()


def test_a_box_on_a_raster_that_lies_askew():
    pixel_grid = pixels(ASKEW)
    x, y = ASKEW @ (40, 30)
    box = (x - 2.03, y - 3.01, x + 2.5, y + 1.7)
    expected, clip = in_box(box, pixel_grid), box_clip(box, pixel_grid)
    assert 0 < expected.sum() < clip.window.pixels
    assert (clip.inside(WHOLE) == expected).all()


def stars(seed, count=3, transform=UPRIGHT):
    """Return polygons of many corners at random, some reaching beyond the raster."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        middle = random.uniform((-5, -5), (WIDTH + 5, HEIGHT + 5))
        turns = np.sort(random.uniform(0, 2 * np.pi, 12))
        reach = random.uniform(1, 40, 12)
        corners = middle + reach[:, None] * np.column_stack([np.cos(turns), np.sin(turns)])
        found.append(shapely.Polygon(np.column_stack(transform @ tuple(corners.T))))
    return found


@given(st.integers(0, 2**32 - 1), windows(), st.sampled_from([UPRIGHT, ASKEW]))
def test_shapes_cover_what_rasterio_burns_on_the_whole_raster(seed, window, transform):
    shapes = stars(seed, transform=transform)
    expected = geometry_mask(shapes, (HEIGHT, WIDTH), transform, invert=True)
    clip = clip_to(shapes, pixels(transform))
    assert (clip.inside(WHOLE) == expected).all()
    assert (clip.inside(window) == expected[window.slices]).all()
    assert clip.covers(window) == expected[window.slices].any()
    around = np.zeros_like(expected)
    around[clip.window.slices] = True
    assert not (expected & ~around).any()


def test_a_pixel_belongs_to_a_polygon_by_its_centre():
    corners = [(3.4, 2.6), (20.7, 2.6), (20.7, 9.4), (3.4, 9.4)]
    shape = shapely.Polygon([UPRIGHT @ corner for corner in corners])
    clip = clip_to([shape], pixels())
    expected = Window(top=3, left=3, height=6, width=18)
    assert clip.window == expected
    assert clip.inside(WHOLE)[expected.slices].all()
    assert clip.inside(WHOLE).sum() == expected.pixels


def test_points_and_lines_cover_the_pixels_they_lie_on():
    point = shapely.Point(UPRIGHT @ (40.9, 12.1))
    line = shapely.LineString([UPRIGHT @ (5.2, 30.5), UPRIGHT @ (9.3, 30.5)])
    clip = clip_to([point, line], pixels())
    rows, cols = np.nonzero(clip.inside(WHOLE))
    assert set(zip(rows.tolist(), cols.tolist(), strict=True)) == {
        (12, 40), *((30, col) for col in range(5, 10))
    }  # fmt: skip
    assert clip.window == Window(top=12, left=5, height=19, width=36)


def test_what_lies_beside_the_raster_widens_no_window():
    inside = shapely.box(*UPRIGHT @ (3, 12), *UPRIGHT @ (9, 5))
    beside = shapely.box(*UPRIGHT @ (WIDTH + 1, 60), *UPRIGHT @ (WIDTH + 3, 50))
    assert clip_to([inside, beside], pixels()).window == Window(top=5, left=3, height=7, width=6)
    assert clip_to([beside], pixels()).window.pixels == 0


def test_no_shapes_cover_nothing():
    clip = clip_to([], pixels())
    assert (clip.window.pixels, clip.covers(WHOLE)) == (0, False)


@given(windows(), windows())
def test_the_cores_that_a_window_meets(window, part):
    grid = Grid(height=HEIGHT, width=WIDTH, tile_px=32, margin_px=8)
    box = shapely.box(
        *UPRIGHT @ (window.left, window.bottom), *UPRIGHT @ (window.right, window.top)
    )
    clip = clip_to([box], pixels())
    assert clip.window == window
    whole = whole_area(grid)
    area = Cores(
        grid=grid,
        rows=whole.rows[part.top // 16 : part.bottom // 16 + 1],
        cols=whole.cols[part.left // 16 : part.right // 16 + 1],
    )
    expected = [
        [grid.core(i, j).intersection(window).pixels > 0 for j in area.cols] for i in area.rows
    ]
    assert (np.outer(*clip.meeting(area)) == np.array(expected)).all()


def test_outputs_become_0_outside():
    shapes = stars(4)
    window = Window(top=16, left=10, height=16, width=60)
    expected = geometry_mask(shapes, (HEIGHT, WIDTH), UPRIGHT, invert=True)[window.slices]
    random = np.random.default_rng(1)
    outputs = {n: random.integers(1, 9, (n, 16, 60)).astype(np.uint8) for n in (1, 3)}
    before = {name: array.copy() for name, array in outputs.items()}
    clip_to(shapes, pixels()).cut(window, outputs)
    assert 0 < expected.sum() < expected.size
    for name, array in outputs.items():
        assert (array == before[name] * expected).all()


def test_a_digest_changes_with_the_pixels():
    clips = [
        clip_to(stars(1), pixels()),
        clip_to(stars(2), pixels()),
        clip_to(stars(1)[:2], pixels()),
        box_clip((X + 1, Y - 3, X + 2, Y - 1), pixels()),
        box_clip((X + 1, Y - 3, X + 2.4, Y - 1), pixels()),
        box_clip((X + 1, Y - 3, X + 2, Y - 1), pixels(ASKEW)),
        clip_to([], pixels()),
    ]
    assert len({clip.digest for clip in clips}) == len(clips)
    assert clip_to(stars(1), pixels()).digest == clips[0].digest
    same = box_clip((X + 1.01, Y - 3.01, X + 2.01, Y - 1.01), pixels())
    assert same.digest == clips[3].digest
