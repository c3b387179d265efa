import numpy as np
import pytest
from doubles.windows import ORIGIN, painted, windows
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.errors import GeometryError
from flair_engine.grid import (
    Cores,
    Grid,
    Window,
    blocks,
    bounds,
    ceil_div,
    cut,
    cut_at,
    cut_to,
    reflected,
    thinned,
    whole_area,
)


@given(height=st.integers(1, 100_000), width=st.integers(1, 100_000), most_px=st.integers(1, 2000))
def test_a_picture_has_the_proportions_of_its_window(height, width, most_px):
    found = thinned(Window(top=3, left=5, height=height, width=width), most_px)
    assert min(found) >= 1
    assert max(found) == min(max(height, width), most_px)
    step = max(1, max(height, width) / most_px)
    assert found[0] == pytest.approx(max(1, height / step), abs=0.5)
    assert found[1] == pytest.approx(max(1, width / step), abs=0.5)


@st.composite
def grids(draw):
    tile_px = 32 * draw(st.integers(1, 4))
    return Grid(
        height=draw(st.integers(1, 300)),
        width=draw(st.integers(1, 300)),
        tile_px=tile_px,
        margin_px=draw(st.integers(0, (tile_px - 1) // 2)),
    )


@given(grids())
def test_cores_cover_every_pixel_exactly_once(grid):
    cover = np.zeros((grid.height, grid.width), int)
    for i in range(grid.rows):
        for j in range(grid.cols):
            cover[grid.core(i, j).slices] += 1
    assert (cover == 1).all()


@given(grids(), st.data())
def test_tile_reaches_margin_past_its_core(grid, data):
    i = data.draw(st.integers(0, grid.rows - 1))
    j = data.draw(st.integers(0, grid.cols - 1))
    core, tile = grid.core(i, j), grid.tile(i, j)
    assert (tile.height, tile.width) == (grid.tile_px, grid.tile_px)
    assert (core.top - tile.top, core.left - tile.left) == (grid.margin_px, grid.margin_px)
    assert core.bottom <= tile.bottom - grid.margin_px
    assert 1 <= core.height <= grid.core_px
    assert 1 <= core.width <= grid.core_px


@given(st.integers(1, 40), st.integers(0, 120), st.integers(0, 120))
def test_reflected_is_numpy_pad(size, before, after):
    axis = np.arange(size)
    expected = np.pad(axis, (before, after), mode="reflect")
    assert (reflected(-before, size + after, size) == expected).all()


@given(grids(), st.data())
def test_cut_is_a_window_of_the_padded_image(grid, data):
    image = np.arange(2 * grid.height * grid.width).reshape(2, grid.height, grid.width)
    i = data.draw(st.integers(0, grid.rows - 1))
    j = data.draw(st.integers(0, grid.cols - 1))
    tile, margin = grid.tile(i, j), grid.margin_px
    after = grid.core_px + margin
    padded = np.pad(image, ((0, 0), (margin, after), (margin, after)), mode="reflect")
    rows = slice(tile.top + margin, tile.bottom + margin)
    cols = slice(tile.left + margin, tile.right + margin)
    assert (cut(image, tile) == padded[:, rows, cols]).all()


def test_cut_inside_is_a_view():
    image = np.zeros((3, 50, 60), np.uint8)
    assert cut(image, Window(top=0, left=10, height=50, width=50)).base is image


@given(
    st.integers(0, 99), st.integers(0, 99), st.integers(1, 99), st.integers(1, 99),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)  # fmt: skip
def test_blocks_cover_the_window_once_and_cross_no_block_edge(top, left, height, width, block_px):
    window = Window(top=top, left=left, height=height, width=width)
    cover = np.zeros((window.bottom, window.right), int)
    for block in blocks(window, block_px):
        cover[block.slices] += 1
        assert block.top // block_px[0] == (block.bottom - 1) // block_px[0]
        assert block.left // block_px[1] == (block.right - 1) // block_px[1]
    assert (cover[window.slices] == 1).all()
    assert cover.sum() == height * width


@given(st.integers(0, 1000), st.integers(1, 50))
def test_ceil_div_covers(whole, part):
    assert ceil_div(whole, part) == len(range(0, whole, part))


@pytest.mark.parametrize(("tile_px", "text"), [(0, "use 32 or 64"), (100, "use 96 or 128")])
def test_tile_that_the_network_cannot_halve(tile_px, text):
    with pytest.raises(GeometryError, match=text):
        Grid(height=9, width=9, tile_px=tile_px, margin_px=0)


def test_tile_that_no_memory_holds():
    Grid(height=9, width=9, tile_px=8192, margin_px=0)
    with pytest.raises(GeometryError, match="tile 8224 px is more than 8192 px.*use 8192 or less"):
        Grid(height=9, width=9, tile_px=8224, margin_px=0)


@pytest.mark.parametrize("margin_px", [-1, 16, 20])
def test_margin_that_leaves_nothing(margin_px):
    with pytest.raises(GeometryError, match="use 0 to 15"):
        Grid(height=9, width=9, tile_px=32, margin_px=margin_px)


def test_empty_raster():
    with pytest.raises(GeometryError, match="has no pixel"):
        Grid(height=0, width=9, tile_px=32, margin_px=0)


@given(windows(0), windows(0))
def test_an_intersection_is_what_both_cover(one, other):
    common = one.intersection(other)
    both = painted(one) & painted(other)
    assert common.pixels == both.sum()
    assert not common.pixels or (painted(common) == both).all()
    moved = common.relative_to(one)
    assert (moved.top, moved.left) == (common.top - one.top, common.left - one.left)
    assert (moved.height, moved.width) == (common.height, common.width)


@given(st.lists(windows(), min_size=1, max_size=6))
def test_bounds_are_the_smallest_window_that_holds_all(some):
    rows, cols = np.nonzero(np.any([painted(window) for window in some], axis=0))
    held = bounds(iter(some)).relative_to(ORIGIN)
    assert (held.top, held.left) == (rows.min(), cols.min())
    assert (held.bottom, held.right) == (rows.max() + 1, cols.max() + 1)


@given(windows(), st.lists(windows(), max_size=5))
def test_a_window_is_cut_where_others_begin_and_end(part, others):
    pieces = list(cut_at(part, iter(others)))
    assert sum(map(painted, pieces)).max() == 1
    assert (np.any([painted(piece) for piece in pieces], axis=0) == painted(part)).all()
    for piece in pieces:
        for other in others:
            covered = (painted(piece) & painted(other)).sum()
            assert covered in (0, piece.pixels)
    assert pieces == sorted(pieces, key=lambda piece: (piece.top, piece.left))
    if not any((painted(part) & painted(other)).any() for other in others):
        assert pieces == [part]


@given(st.integers(1, 99), st.integers(1, 99), st.integers(0, 15), st.data())
def test_an_area_is_the_smallest_rectangle_of_the_chosen_cores(height, width, margin_px, data):
    grid = Grid(height=height, width=width, tile_px=32, margin_px=margin_px)
    cells = st.tuples(st.integers(0, grid.rows - 1), st.integers(0, grid.cols - 1))
    chosen = data.draw(st.lists(cells, min_size=1, max_size=4))
    selected = np.zeros((grid.rows, grid.cols), bool)
    selected[tuple(zip(*chosen, strict=True))] = True
    area = cut_to(whole_area(grid), selected.any(1), selected.any(0))
    rows, cols = zip(*chosen, strict=True)
    assert (area.rows[0], area.rows[-1]) == (min(rows), max(rows))
    assert (area.cols[0], area.cols[-1]) == (min(cols), max(cols))
    cover = np.zeros((height, width), int)
    for i in area.rows:
        cover[area.strip(i).slices] += 1
        assert area.strip(i).left == area.left
    assert (cover[area.window.slices] == 1).all()
    assert area.window.pixels == cover.sum() == sum(area.strip(i).pixels for i in area.rows)
    assert whole_area(grid).window.pixels == height * width


@given(grids(), st.data())
def test_an_area_is_cut_to_the_smallest_rectangle_of_the_chosen_cores(grid, data):
    rows, cols = (
        sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)).filter(distinct)))
        for size in (grid.rows, grid.cols)
    )
    area = Cores(grid=grid, rows=range(*rows), cols=range(*cols))
    shape = len(area.rows), len(area.cols)
    cells = st.tuples(*(st.integers(0, size - 1) for size in shape))
    selected = np.zeros(shape, bool)
    selected[tuple(zip(*data.draw(st.lists(cells, min_size=1, max_size=3)), strict=True))] = True
    kept = cut_to(area, selected.any(1), selected.any(0))
    whole = np.zeros((grid.rows, grid.cols), bool)
    whole[np.ix_(area.rows, area.cols)] = selected
    assert kept == cut_to(whole_area(grid), whole.any(1), whole.any(0))


def distinct(pair):
    return pair[0] != pair[1]
