import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.canvas import Canvas, overlapping
from flair_engine.grid import Window
from flair_engine.layers import ArrayLayer, Product, Raster


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


def test_what_is_kept_when_scrolling_is_not_decoded_or_finished_again():
    image = np.random.default_rng(1).integers(0, 256, (2, 60, 40), dtype=np.uint8)
    canvas = Canvas(image_raster(image), range(-4, 30), range(-4, 44))
    canvas.put(0, 0, Window(top=0, left=0, height=28, width=40))
    assert canvas.finish(26) is None
    below = canvas.scrolled(range(20, 70), until=28)
    assert below.finished_to == 26
    below.put(0, 0, Window(top=28, left=0, height=32, width=40))
    below.finish(64)
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
    assert (canvas.image(range(-4, 26), range(-4, 44)) == padded[:, :30]).all()
    assert (below.image(range(20, 64), range(-4, 44)) == padded[:, 24:68]).all()
    assert below.valid(range(20, 64), range(-4, 44)) is None


def test_what_nothing_covers_is_invalid_and_filled_and_so_is_its_mirror():
    image = np.ones((1, 10, 8), np.uint8)
    product = Product(bands=slice(0, 1), layers=[ArrayLayer(image)])
    raster = Raster(height=10, width=9, count=1, products=[product], fill=(7,))
    canvas = Canvas(raster, range(10), range(12))
    canvas.put(0, 0, Window(top=0, left=0, height=10, width=8))
    canvas.finish(10)
    expected = np.ones((10, 12), bool)
    expected[:, 8] = False
    assert (canvas.valid(range(10), range(12)) == expected).all()
    assert (canvas.image(range(10), range(12))[0] == np.where(expected, 1, 7)).all()
