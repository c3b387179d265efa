from dataclasses import replace

import numpy as np
import pytest
from doubles.layers import BlockLayer
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.grid import Window
from flair_engine.reading.canvas import Canvas, Memory, Part, overlapping
from flair_engine.reading.layers import ArrayLayer, Product, Raster


class Place:
    """A layer of which only its place is asked."""

    def __init__(self, top, left, height, width):
        self.window = Window(top=top, left=left, height=height, width=width)


@given(
    st.lists(
        st.builds(
            Place,
            st.integers(-9, 9),
            st.integers(-9, 9),
            st.integers(1, 9),
            st.integers(1, 9),
        ),
        max_size=6,
    )
)
def test_layers_that_overlap_are_those_that_share_a_pixel(layers):
    covers = []
    for layer in layers:
        cover = np.zeros((40, 40), int)
        w = layer.window
        cover[w.top + 20 : w.bottom + 20, w.left + 20 : w.right + 20] = 1
        covers.append(cover)
    total = sum(covers)
    expected = [bool((total[cover == 1] > 1).any()) for cover in covers]
    assert overlapping(layers).tolist() == expected


def image_raster(image):
    product = Product(bands=slice(0, len(image)), layers=[ArrayLayer(image)])
    _, height, width = image.shape
    return Raster(
        height=height, width=width, count=len(image), products=[product], fill=(7,) * len(image)
    )


def test_memory_is_used_again_when_no_view_is_left():
    memory = Memory()
    first = memory.array((2, 3, 4))
    address = first.ctypes.data
    view = first[:, 1:]
    del first
    other = memory.array((2, 3, 4))
    assert other.ctypes.data != address
    del view
    assert memory.array((4, 6)).ctypes.data == address


def part(top, height, width, order=0):
    window = Window(top=top, left=0, height=height, width=width)
    return Part(product=0, order=order, window=window)


def blank(raster, rows, cols):
    stacked = [overlapping(product.layers) for product in raster.products]
    return Canvas(raster, rows, cols, stacked, Memory())


def test_what_another_canvas_holds_is_taken_over():
    image = np.random.default_rng(1).integers(0, 256, (2, 60, 40), dtype=np.uint8)
    raster = image_raster(image)
    canvas = blank(raster, range(-4, 30), range(-4, 44))
    canvas.put(part(top=0, height=28, width=40))
    assert canvas.finish(26) is None
    below = blank(raster, range(20, 70), range(-4, 44))
    below.put(part(top=28, height=32, width=40))
    below.take(canvas, part(top=20, height=8, width=40))
    below.finish(64)
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
    assert (canvas.image(range(-4, 26), range(-4, 44)) == padded[:, :30]).all()
    assert (below.image(range(20, 64), range(-4, 44)) == padded[:, 24:68]).all()
    assert below.valid(range(20, 64), range(-4, 44)) is None


@pytest.mark.parametrize("reverse", [False, True])
def test_of_overlapping_layers_the_upper_is_taken_over(reverse):
    layers = [ArrayLayer(np.full((1, 8, 8), value, np.uint8)) for value in (1, 2)]
    product = Product(bands=slice(0, 1), layers=layers)
    raster = Raster(height=8, width=8, count=1, products=[product], fill=(7,))
    canvas = blank(raster, range(8), range(8))
    canvas.put(part(top=0, height=6, width=8))
    canvas.put(part(top=0, height=4, width=8, order=1))
    below = blank(raster, range(2, 8), range(8))
    steps = [
        lambda: below.take(canvas, part(top=2, height=4, width=8)),
        lambda: below.take(canvas, part(top=2, height=2, width=8, order=1)),
        lambda: below.put(part(top=4, height=3, width=8, order=1)),
        lambda: below.put(part(top=6, height=2, width=8)),
    ]
    for step in reversed(steps) if reverse else steps:
        step()
    below.finish(8)
    assert below.image(range(2, 8), range(8))[0, :, 0].tolist() == [2, 2, 2, 2, 2, 1]


def test_holes_of_a_layer_are_taken_over():
    valid = np.ones((20, 8), bool)
    valid[6:9, 2:5] = False
    layer = BlockLayer(np.ones((1, 20, 8), np.uint8), (4, 4), valid_hw=valid)
    product = Product(bands=slice(0, 1), layers=[layer])
    raster = Raster(height=20, width=8, count=1, products=[product], fill=(7,))
    canvas, below = blank(raster, range(12), range(8)), blank(raster, range(4, 20), range(8))
    canvas.put(part(top=0, height=12, width=8))
    canvas.finish(10)
    below.take(canvas, part(top=4, height=8, width=8))
    below.put(part(top=12, height=8, width=8))
    below.finish(20)
    assert (canvas.valid(range(10), range(8)) == valid[:10]).all()
    assert (below.valid(range(4, 20), range(8)) == valid[4:]).all()
    assert (below.image(range(4, 20), range(8))[0] == np.where(valid, 1, 7)[4:]).all()


def test_a_layer_alone_and_layers_that_overlap_cover_one_product():
    alone, lower, upper = (ArrayLayer(np.full((1, 6, 4), v, np.uint8)) for v in (1, 2, 3))
    moved = [Moved(alone, left=0), Moved(lower, left=4), Moved(upper, left=5)]
    product = Product(bands=slice(0, 1), layers=moved)
    raster = Raster(height=6, width=10, count=1, products=[product], fill=(7,))
    canvas = blank(raster, range(6), range(10))
    for order in range(3):
        canvas.put(part(top=0, height=6, width=4, order=order))
    canvas.finish(6)
    assert canvas.image(range(6), range(10))[0, 0].tolist() == [1, 1, 1, 1, 2, 3, 3, 3, 3, 7]
    assert canvas.valid(range(6), range(10))[0].tolist() == [True] * 9 + [False]


class Moved:
    """A layer at another column."""

    def __init__(self, layer, left):
        self.window = replace(layer.window, left=left)
        self.read = layer.read


def test_what_nothing_covers_is_invalid_and_filled_and_so_is_its_mirror():
    image = np.ones((1, 10, 8), np.uint8)
    product = Product(bands=slice(0, 1), layers=[ArrayLayer(image)])
    raster = Raster(height=10, width=9, count=1, products=[product], fill=(7,))
    canvas = blank(raster, range(10), range(12))
    canvas.put(part(top=0, height=10, width=8))
    canvas.finish(10)
    expected = np.ones((10, 12), bool)
    expected[:, 8] = False
    assert (canvas.valid(range(10), range(12)) == expected).all()
    assert (canvas.image(range(10), range(12))[0] == np.where(expected, 1, 7)).all()
