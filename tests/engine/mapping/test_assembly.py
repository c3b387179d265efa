"""Any window of stored strips is that window of the whole array."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.grid import Cores, Grid, Window
from flair_engine.mapping.assembly import assembled


@given(st.data())
def test_any_window_of_any_panels_is_cut_out_of_the_whole(data):
    draw = data.draw
    grid = Grid(height=draw(st.integers(1, 90)), width=draw(st.integers(1, 90)), tile_px=32,
                margin_px=draw(st.integers(0, 12)))  # fmt: skip
    first, last = sorted(draw(st.tuples(*[st.integers(0, grid.rows - 1)] * 2)))
    cuts = sorted({0, grid.cols, *draw(st.lists(st.integers(0, grid.cols), max_size=3))})
    panels = [
        Cores(grid=grid, rows=range(first, last + 1), cols=range(start, stop))
        for start, stop in pairwise(cuts)
    ]
    bands = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    whole = random.integers(1, 256, (bands, grid.height, grid.width), dtype=np.uint8)
    stored = {(p.left, i): whole[(slice(None), *p.strip(i).slices)] for p in panels for i in p.rows}
    mapped = Window(top=panels[0].window.top, left=0, height=panels[0].window.height,
                    width=grid.width)  # fmt: skip
    top, left = draw(st.integers(0, grid.height - 1)), draw(st.integers(0, grid.width - 1))
    window = Window(
        top=top,
        left=left,
        height=draw(st.integers(1, grid.height - top)),
        width=draw(st.integers(1, grid.width - left)),
    )
    found = assembled(lambda left, i, _: stored[left, i], "labels", window, panels)
    expected = np.zeros_like(whole)
    expected[(slice(None), *mapped.slices)] = whole[(slice(None), *mapped.slices)]
    expected = expected[(slice(None), *window.slices)]
    assert (found == expected).all()
    assert found.shape[1:] == (window.height, window.width)
