import numpy as np
import pytest
from doubles.layers import BlockLayer, noise, raster_of
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.grid import Window
from flair_engine.reading.layers import ArrayLayer, Product, array_raster


def test_an_array_is_read_as_a_view_or_into_a_buffer():
    image = noise(2, 9, 7)
    layer = ArrayLayer(image)
    part = Window(top=2, left=1, height=3, width=4)
    pixels, valid, lost = layer.read(part)
    assert pixels.base is image
    assert valid is None is lost
    buffer = np.empty((2, 3, 4), np.uint8)
    assert layer.read(part, buffer).image_bhw is buffer
    assert (buffer == image[:, 2:5, 1:5]).all()
    assert (layer.count, len(layer.skipped), layer.block_px) == (2, 0, (1, 7))
    layer.close()


def test_an_array_raster_is_its_array():
    raster = array_raster(noise(3, 9, 7))
    assert (raster.height, raster.width, raster.count, raster.fill) == (9, 7, 3, (0, 0, 0))
    assert raster.products[0].required


@pytest.mark.parametrize(("block_px", "blocks"), [((4, 4), 3 * 2), ((1, 7), 9), ((64, 64), 1)])
def test_blocks_of_a_raster_are_those_of_its_layers(block_px, blocks):
    layer = BlockLayer(noise(1, 9, 7), block_px)
    raster = raster_of(20, 20, Product(bands=slice(0, 1), layers=[layer, layer]))
    assert raster.blocks == 2 * blocks


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
    product = Product(bands=slice(0, 1), layers=layers)
    assert product.stacked.tolist() == expected
    assert product.stacked is product.stacked
    for layer, cover in zip(layers, covers, strict=True):
        met = [n for n, other in enumerate(covers) if (other & cover).any()]
        assert product.index.meeting(layer.window) == met
