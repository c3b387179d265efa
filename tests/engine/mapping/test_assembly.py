"""Any window of stored strips is that window of the whole array."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.grid import Cores, Grid, Window
from flair_engine.mapping.assembly import assembled


def cuts(count):
    """Ranges that together are 0..count-1."""
    inner = st.sets(st.integers(1, max(1, count - 1)), max_size=3)
    return inner.map(lambda found: sorted({0, count, *(cut for cut in found if cut < count)})).map(
        lambda edges: [range(start, stop) for start, stop in pairwise(edges)]
    )


@given(st.data())
def test_any_window_of_any_panels_is_cut_out_of_the_whole(data):
    """Panels lie anywhere, beside, below and far from one another, and have any numbers."""
    draw = data.draw
    grid = Grid(height=draw(st.integers(1, 90)), width=draw(st.integers(1, 90)), tile_px=32,
                margin_px=draw(st.integers(0, 12)))  # fmt: skip
    every = [(rows, cols) for rows in draw(cuts(grid.rows)) for cols in draw(cuts(grid.cols))]
    chosen = draw(st.lists(st.sampled_from(every), unique_by=str))
    numbers = draw(st.permutations(range(len(chosen) + 3)))
    panels = [
        (number, Cores(grid=grid, rows=rows, cols=cols))
        for number, (rows, cols) in zip(numbers, chosen, strict=False)
    ]
    bands = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    whole = random.integers(1, 256, (bands, grid.height, grid.width), dtype=np.uint8)
    stored = {(n, i): whole[(slice(None), *p.strip(i).slices)] for n, p in panels for i in p.rows}
    top, left = draw(st.integers(0, grid.height - 1)), draw(st.integers(0, grid.width - 1))
    window = Window(
        top=top,
        left=left,
        height=draw(st.integers(1, grid.height - top)),
        width=draw(st.integers(1, grid.width - left)),
    )
    loaded = []

    def load_strip(number, i, name):
        assert name == "confidence"
        loaded.append((number, i))
        return stored[number, i]

    found = assembled(load_strip, "confidence", window, panels, bands)
    expected = np.zeros_like(whole)
    for _, panel in panels:
        place = (slice(None), *panel.window.slices)
        expected[place] = whole[place]
    assert (found == expected[(slice(None), *window.slices)]).all()
    assert found.dtype == np.uint8
    assert sorted(loaded) == sorted(
        (n, i) for n, p in panels for i in p.rows if p.strip(i).intersection(window).pixels
    )


def test_a_window_that_no_strip_touches_has_every_band():
    grid = Grid(height=64, width=64, tile_px=32, margin_px=8)
    panel = Cores(grid=grid, rows=range(1), cols=range(4))
    window = Window(top=40, left=0, height=9, width=7)
    found = assembled(lambda *_: 1 / 0, "probabilities", window, [(0, panel)], 19)
    assert found.shape == (19, 9, 7)
    assert not found.any()
