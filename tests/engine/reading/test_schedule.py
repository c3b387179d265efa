import numpy as np
import pytest
from doubles.layers import BlockLayer, noise
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.grid import Grid, Window, whole_area
from flair_engine.reading.layers import array_raster
from flair_engine.reading.schedule import LABELLED_STRIPS, needed_bytes, panels, rows_at_once, split


@pytest.mark.parametrize("width", [1, 500, 100_000])
def test_panels_cover_the_cores_and_bound_the_columns_held(width):
    raster = array_raster(np.zeros((5, 300, width), np.uint8))
    area = whole_area(Grid(height=300, width=width, tile_px=64, margin_px=8))
    cut_up = panels(area, raster, 10_000_000)
    assert [j for panel in cut_up for j in panel.cols] == list(area.cols)
    assert {panel.rows for panel in cut_up} == {area.rows}
    widths = {len(panel.cols) for panel in cut_up}
    assert max(widths) - min(widths) <= 1
    # Two canvases of 5 bands and 2 bytes of validity, a tile and a row of blocks high.
    columns = max(widths) * 48 + 16
    assert columns * 2 * 7 * (64 + 256) + LABELLED_STRIPS * 48 * columns <= 10_000_000
    assert needed_bytes(area, raster, max(widths)) <= 10_000_000
    if len(cut_up) > 1:
        assert needed_bytes(area, raster, -(-len(area.cols) // (len(cut_up) - 1))) > 10_000_000


@given(
    st.tuples(st.integers(0, 99), st.integers(0, 99)), st.integers(1, 500), st.integers(1, 500),
    st.integers(1, 99), st.integers(1, 600),
)  # fmt: skip
def test_split_covers_the_window_and_cuts_at_edges_of_blocks(
    corner, height, width, block_height, block_width
):
    window = Window(top=corner[0], left=corner[1], height=height, width=width)
    cover = np.zeros((window.bottom, window.right), int)
    parts = split(window, (block_height, block_width))
    for part in parts:
        cover[part.slices] += 1
        assert part.top == window.top or part.top % block_height == 0
        assert part.left == window.left or part.left % block_width == 0
    assert (cover[window.slices] == 1).all()
    assert cover.sum() == height * width


@pytest.mark.parametrize(
    ("block_px", "shapes"),
    [((512, 512), {(512, 1024)}), ((1, 4096), {(128, 4096)}), ((1024, 1024), {(1024, 1024)})],
)
def test_parts_are_about_as_large_whatever_the_blocks(block_px, shapes):
    parts = split(Window(top=0, left=0, height=1024, width=4096), block_px)
    assert {(part.height, part.width) for part in parts} == shapes


@pytest.mark.parametrize(("block_height", "rows"), [(1, 256), (3, 258), (256, 256), (718, 718)])
def test_rows_are_decoded_in_whole_blocks(block_height, rows):
    assert rows_at_once(BlockLayer(noise(1, 9, 9), (block_height, 9))) == rows
