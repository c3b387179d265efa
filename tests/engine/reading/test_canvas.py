import numpy as np
import pytest
from doubles.layers import BlockLayer, raster_of
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.grid import Window
from flair_engine.reading.canvas import Canvas, Memory, Part
from flair_engine.reading.layers import ArrayLayer, Product


def test_memory_is_used_again_when_no_view_is_left():
    memory = Memory(2**20)
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
    return Canvas(raster, rows, cols, Memory(2**20))


def test_what_another_canvas_holds_is_taken_over():
    image = np.random.default_rng(1).integers(0, 256, (2, 60, 40), dtype=np.uint8)
    raster = raster_of(60, 40, Product(bands=slice(0, 2), layers=[ArrayLayer(image)]))
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
def test_of_overlapping_layers_the_first_is_taken_over(reverse):
    layers = [
        ArrayLayer(np.full((1, size, 8), value, np.uint8)) for value, size in ((1, 6), (2, 8))
    ]
    raster = raster_of(8, 8, Product(bands=slice(0, 1), layers=layers))
    canvas = blank(raster, range(8), range(8))
    canvas.put(part(top=0, height=6, width=8, order=1))
    canvas.put(part(top=0, height=4, width=8))
    below = blank(raster, range(2, 8), range(8))
    steps = [
        lambda: below.take(canvas, part(top=2, height=4, width=8, order=1)),
        lambda: below.take(canvas, part(top=2, height=2, width=8)),
        lambda: below.put(part(top=4, height=2, width=8)),
        lambda: below.put(part(top=6, height=2, width=8, order=1)),
    ]
    for step in reversed(steps) if reverse else steps:
        step()
    below.finish(8)
    assert below.image(range(2, 8), range(8))[0, :, 0].tolist() == [1, 1, 1, 1, 2, 2]


@settings(max_examples=60)
@given(st.data())
def test_of_overlapping_layers_the_first_valid_pixel_is_seen_whatever_the_order(data):
    whole, known = np.full((9, 9), 7, np.uint8), np.zeros((9, 9), bool)
    layers = []
    for number in range(data.draw(st.integers(1, 4))):
        rng = np.random.default_rng(number)
        size = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
        top, left = data.draw(st.integers(0, 9 - size[0])), data.draw(st.integers(0, 9 - size[1]))
        image, valid = rng.integers(8, 256, (1, *size), np.uint8), rng.random(size) < 0.6
        layers.append(BlockLayer(image, top=top, left=left, valid_hw=valid))
        seen = np.zeros((9, 9), bool)
        seen[layers[-1].window.slices] = valid
        seen &= ~known
        whole[seen] = image[0][seen[layers[-1].window.slices]]
        known |= seen
    raster = raster_of(9, 9, Product(bands=slice(0, 1), layers=layers))
    canvas = blank(raster, range(9), range(9))
    for order in data.draw(st.permutations(range(len(layers)))):
        _, height, width = layers[order].image_bhw.shape
        canvas.put(part(top=0, height=height, width=width, order=order))
    canvas.finish(9)
    assert (canvas.image(range(9), range(9))[0] == whole).all()
    valid = canvas.valid(range(9), range(9))
    assert known.all() if valid is None else (valid == known).all()


LOST = np.zeros((20, 8), bool)
LOST[6:9, 2:5] = True


@pytest.mark.parametrize("taken", [False, True], ids=["put", "taken over"])
@pytest.mark.parametrize("required", [True, False])
def test_what_could_not_be_decoded_is_invalid_in_any_product(required, taken):
    hole = LOST.copy()
    hole[12:15, :4] = True  # nothing there, and that could be read
    layers = [
        BlockLayer(np.full((1, 20, 8), 9, np.uint8)),
        BlockLayer(np.full((1, 20, 8), 5, np.uint8), valid_hw=~hole, lost_hw=LOST),
    ]
    raster = raster_of(
        20, 8,
        Product(bands=slice(0, 1), layers=layers[:1]),
        Product(bands=slice(1, 2), layers=layers[1:], required=required),
    )  # fmt: skip
    window = Window(top=0, left=0, height=20, width=8)
    canvas = blank(raster, range(20), range(8))
    for number in range(2):
        canvas.put(Part(product=number, order=0, window=window))
    if taken:
        first, canvas = canvas, blank(raster, range(20), range(8))
        for number in range(2):
            canvas.take(first, Part(product=number, order=0, window=window))
    missing = canvas.finish(20)
    invalid = hole if required else LOST
    assert (canvas.valid(range(20), range(8)) == ~invalid).all()
    image, height = canvas.image(range(20), range(8))
    assert (image == np.where(invalid, 7, 9)).all()
    assert (height == np.where(invalid, 7, np.where(hole, 0, 5))).all()
    assert (missing is None) if required else (missing == (hole & ~LOST)).all()


@pytest.mark.parametrize("first", [0, 1])
def test_what_another_layer_covers_is_not_lost(first):
    layers = [
        BlockLayer(np.full((1, 20, 8), 5, np.uint8), valid_hw=~LOST, lost_hw=LOST),
        BlockLayer(np.full((1, 7, 8), 6, np.uint8)),
    ]
    raster = raster_of(20, 8, Product(bands=slice(0, 1), layers=layers, required=False))
    canvas = blank(raster, range(20), range(8))
    for order in (first, 1 - first):
        canvas.put(part(top=0, height=(20, 7)[order], width=8, order=order))
    canvas.finish(20)
    uncovered = LOST.copy()
    uncovered[:7] = False
    assert (canvas.valid(range(20), range(8)) == ~uncovered).all()
    covered = np.where(LOST, 6, 5)
    assert (canvas.image(range(20), range(8))[0] == np.where(uncovered, 7, covered)).all()


def test_holes_of_a_layer_are_taken_over():
    valid = np.ones((20, 8), bool)
    valid[6:9, 2:5] = False
    layer = BlockLayer(np.ones((1, 20, 8), np.uint8), (4, 4), valid_hw=valid)
    raster = raster_of(20, 8, Product(bands=slice(0, 1), layers=[layer]))
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
    layers = [
        BlockLayer(np.full((1, 6, 4), value, np.uint8), left=left)
        for value, left in ((1, 0), (2, 4), (3, 5))
    ]
    raster = raster_of(6, 10, Product(bands=slice(0, 1), layers=layers))
    canvas = blank(raster, range(6), range(10))
    for order in range(3):
        canvas.put(part(top=0, height=6, width=4, order=order))
    canvas.finish(6)
    assert canvas.image(range(6), range(10))[0, 0].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 3, 7]
    assert canvas.valid(range(6), range(10))[0].tolist() == [True] * 9 + [False]


def test_what_nothing_covers_is_invalid_and_filled_and_so_is_its_mirror():
    image = np.ones((1, 10, 8), np.uint8)
    raster = raster_of(10, 9, Product(bands=slice(0, 1), layers=[ArrayLayer(image)]))
    canvas = blank(raster, range(10), range(12))
    canvas.put(part(top=0, height=10, width=8))
    canvas.finish(10)
    expected = np.ones((10, 12), bool)
    expected[:, 8] = False
    assert (canvas.valid(range(10), range(12)) == expected).all()
    assert (canvas.image(range(10), range(12))[0] == np.where(expected, 1, 7)).all()
