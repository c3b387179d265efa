from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.errors import ReadError
from flair_engine.grid import Grid, Window, cut
from flair_engine.strips import ArraySource, band_height, read_strips, sample_tiles, split


class BlockSource:
    """An array that says it is stored in blocks and counts how often each pixel is read."""

    def __init__(self, height, width, block_px):
        rng = np.random.default_rng(height)
        self.image_bhw = rng.integers(0, 256, (2, height, width), dtype=np.uint8)
        self.count, self.height, self.width = self.image_bhw.shape
        self.block_px = block_px
        self.reads = np.zeros((height, width), int)

    def read(self, window):
        self.reads[window.slices] += 1
        return self.image_bhw[(slice(None), *window.slices)]


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 700),
    width=st.integers(1, 200),
    block_px=st.tuples(st.sampled_from([1, 3, 16, 64, 512]), st.sampled_from([16, 64, 999])),
    margin_px=st.integers(0, 31),
    threads=st.integers(1, 3),
)
def test_strips_are_the_tiles_and_no_pixel_is_read_twice(
    height, width, block_px, margin_px, threads
):
    source = BlockSource(height, width, block_px)
    grid = Grid(height=height, width=width, tile_px=64, margin_px=margin_px)
    strips = list(read_strips(source, grid, threads))
    assert [strip.i for strip in strips] == list(range(grid.rows))
    for strip in strips:
        for j in range(grid.cols):
            assert (strip.tile(j) == cut(source.image_bhw, grid.tile(strip.i, j))).all()
    assert (source.reads == 1).all()


@given(
    st.integers(1, 500), st.integers(1, 500), st.integers(1, 99), st.integers(1, 600),
    st.integers(1, 9),
)  # fmt: skip
def test_split_covers_the_band_in_whole_blocks(height, width, block_height, block_width, parts):
    band = Window(top=block_height * 3, left=0, height=height, width=width)
    cover = np.zeros((band.bottom, width), int)
    for part in split(band, (block_height, block_width), parts):
        cover[part.slices] += 1
        assert part.top % block_height == 0
        assert part.left % block_width == 0
    assert (cover[band.top :] == 1).all()
    assert (cover[: band.top] == 0).all()


@pytest.mark.parametrize(("block_height", "rows"), [(1, 256), (3, 258), (256, 256), (718, 718)])
def test_bands_are_whole_blocks(block_height, rows):
    assert band_height(BlockSource(9, 9, (block_height, 9))) == rows


def test_a_block_that_cannot_be_read_ends_the_strips():
    @dataclass(frozen=True)
    class Broken(ArraySource):
        def read(self, window):
            if window.bottom > 300:
                raise ReadError("in.tif: rows 256 to 299 cannot be decoded")
            return super().read(window)

    source = Broken(np.zeros((1, 600, 40), np.uint8))
    grid = Grid(height=600, width=40, tile_px=64, margin_px=0)
    strips = read_strips(source, grid, 2)
    assert next(strips).i == 0
    with pytest.raises(ReadError, match="cannot be decoded"):
        list(strips)


@pytest.mark.parametrize(("height", "width", "count"), [(300, 200, 4), (1, 5, 4), (64, 40, 99)])
def test_sampled_tiles_are_tiles_of_the_grid(height, width, count):
    source = BlockSource(height, width, (16, 16))
    grid = Grid(height=height, width=width, tile_px=64, margin_px=16)
    total = grid.rows * grid.cols
    tiles = sample_tiles(source, grid, count)
    assert len(tiles) == min(count, total)
    for n, tile in enumerate(tiles):
        number = n * total // count if total > count else n
        assert (tile == cut(source.image_bhw, grid.tile(*divmod(number, grid.cols)))).all()
