import threading

import numpy as np
import pytest
from doubles.layers import BlockLayer
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.grid import Window
from flair_engine.reading.mosaic import KEPT_OPEN, Mosaic


@st.composite
def sources(draw, count):
    """Draw overlapping layers of pixels that are valid, void or lost."""
    made = []
    for number in range(draw(count)):
        rng = np.random.default_rng(number)
        size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
        image = rng.integers(1, 256, (2, *size)).astype(np.float32)
        state = rng.integers(0, 3, size)
        image[:, state > 0] = 0  # as a file's layer does with heights
        valid, lost = draw(
            st.sampled_from([(None, None), (state == 0, None), (state == 0, state == 1)])
        )
        top, left = draw(st.integers(-15, 15)), draw(st.integers(-15, 15))
        made.append(BlockLayer(image, top=top, left=left, valid_hw=valid, lost_hw=lost))
    return made


def pixel(layers, row, col):
    """Return the bands, and whether valid and lost, of one pixel of layers put together."""
    lost = False
    for layer in layers:
        y, x = row - layer.window.top, col - layer.window.left
        if 0 <= y < layer.window.height and 0 <= x < layer.window.width:
            if layer.valid_hw is None or layer.valid_hw[y, x]:
                return layer.image_bhw[:, y, x], True, False
            lost |= layer.lost_hw is not None and bool(layer.lost_hw[y, x])
    return np.zeros(2), False, lost


@given(sources(st.integers(1, 5)), st.data())
def test_the_first_valid_pixel_is_read(layers, data):
    top, left = data.draw(st.integers(-20, 20)), data.draw(st.integers(-20, 20))
    height, width = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    part = Window(top=top, left=left, height=height, width=width)
    image, valid, lost = Mosaic(layers).read(part)
    valid = np.ones(image.shape[1:], bool) if valid is None else valid
    lost = np.zeros(image.shape[1:], bool) if lost is None else lost
    assert image.dtype == np.float32
    for row in range(height):
        for col in range(width):
            bands, known, gone = pixel(layers, top + row, left + col)
            assert valid[row, col] == known
            assert lost[row, col] == gone
            if known:
                assert (image[:, row, col] == bands).all()
    assert max(layer.reads.max() for layer in layers) <= 1


def test_a_mosaic_is_what_its_sources_are():
    layers = [BlockLayer(np.ones((2, 4, 6), np.uint8), top=top, left=3) for top in (-5, 7)]
    layers[1].skipped, layers[0].skipped = {("b", 0, 0), ("b", 0, 6)}, {("a", 0, 0)}
    mosaic = Mosaic(layers)
    assert mosaic.window == Window(top=-5, left=3, height=16, width=6)
    assert (mosaic.name, mosaic.count, mosaic.dtype) == ("blocks", 2, np.uint8)
    assert mosaic.skipped == {("a", 0, 0), ("b", 0, 0), ("b", 0, 6)}
    mosaic.close()
    assert [layer.closed for layer in layers] == [1, 1]


@pytest.fixture
def row_of_layers():
    return [BlockLayer(np.ones((1, 1, 2), np.uint8), left=2 * n) for n in range(KEPT_OPEN + 3)]


def test_layers_of_long_ago_are_closed(row_of_layers):
    mosaic = Mosaic(row_of_layers)
    whole = Window(top=0, left=0, height=1, width=2 * len(row_of_layers))
    assert (mosaic.read(whole).image_bhw == 1).all()
    assert [layer.closed_mine for layer in row_of_layers] == [1] * 3 + [0] * KEPT_OPEN
    mosaic.read(Window(top=0, left=6, height=1, width=1))  # used again, so it is not next
    mosaic.read(Window(top=0, left=0, height=1, width=1))
    assert [layer.closed_mine for layer in row_of_layers][3:5] == [0, 1]
    mosaic.close_mine()
    assert sum(layer.closed_mine for layer in row_of_layers) == len(row_of_layers) + 1
    mosaic.close_mine()
    assert sum(layer.closed_mine for layer in row_of_layers) == len(row_of_layers) + 1


def test_each_thread_closes_what_it_has_opened(row_of_layers):
    mosaic = Mosaic(row_of_layers)
    mosaic.read(Window(top=0, left=0, height=1, width=1))
    thread = threading.Thread(target=mosaic.close_mine)
    thread.start()
    thread.join()
    assert row_of_layers[0].closed_mine == 0
