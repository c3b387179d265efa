import numpy as np
import pytest
from doubles.layers import BlockLayer, noise, raster_of
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.errors import ReadError
from flair_engine.grid import Cores, Grid, Window, cut, whole_area
from flair_engine.reading import schedule
from flair_engine.reading.canvas import Memory
from flair_engine.reading.layers import Product, array_raster
from flair_engine.reading.schedule import ReadCounter
from flair_engine.reading.strips import read_strips, sample_tiles


def all_strips(raster, grid, *, threads=2, cores=None, rows=None, counter=None):
    return list(
        read_strips(
            raster,
            Cores(grid=grid, rows=range(grid.rows), cols=cores or range(grid.cols)),
            range(grid.rows) if rows is None else rows,
            threads=threads,
            counter=counter or ReadCounter(),
        )
    )


def assert_tiles(strips, grid, image_bhw, valid_hw=None):
    for strip in strips:
        for j in strip.cores:
            assert (strip.tile(j) == cut(image_bhw, grid.tile(strip.i, j))).all()
            known = strip.core_valid(j)
            expected = np.ones(image_bhw.shape[1:], bool) if valid_hw is None else valid_hw
            core = expected[grid.core(strip.i, j).slices]
            assert core.all() if known is None else (known == core).all()


@pytest.fixture(autouse=True)
def low_canvas(monkeypatch):
    """Let small rasters need many canvases."""
    monkeypatch.setattr(schedule, "CANVAS_CORES", 1)


@settings(max_examples=60)
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
    layer = BlockLayer(noise(2, height, width), block_px)
    raster = raster_of(height, width, Product(bands=slice(0, 2), layers=[layer]))
    grid = Grid(height=height, width=width, tile_px=64, margin_px=margin_px)
    counter = ReadCounter()
    strips = all_strips(raster, grid, threads=threads, counter=counter)
    assert [strip.i for strip in strips] == list(range(grid.rows))
    assert_tiles(strips, grid, layer.image_bhw)
    assert (layer.reads == 1).all()
    assert counter.blocks == raster.blocks


@settings(max_examples=40)
@given(data=st.data(), margin_px=st.integers(0, 31))
def test_any_panel_and_any_rows_give_the_same_tiles(data, margin_px):
    height, width = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    image = noise(1, height, width)
    grid = Grid(height=height, width=width, tile_px=64, margin_px=margin_px)
    first = data.draw(st.integers(0, grid.cols - 1))
    cores = range(first, data.draw(st.integers(first + 1, grid.cols)))
    rows = sorted(data.draw(st.sets(st.integers(0, grid.rows - 1), min_size=1)))
    layer = BlockLayer(image, (32, 48))
    raster = raster_of(height, width, Product(bands=slice(0, 1), layers=[layer]))
    strips = all_strips(raster, grid, cores=cores, rows=rows)
    assert [strip.i for strip in strips] == rows
    assert_tiles(strips, grid, image)
    assert layer.reads.max() == 1


@settings(max_examples=40)
@given(
    height=st.integers(2, 400),
    width=st.integers(2, 200),
    margin_px=st.integers(0, 31),
    data=st.data(),
)
def test_files_side_by_side_are_one_raster(height, width, margin_px, data):
    image = noise(2, height, width)
    row, col = data.draw(st.integers(1, height - 1)), data.draw(st.integers(1, width - 1))
    layers = [
        BlockLayer(np.ascontiguousarray(image[:, a:b, c:d]), block_px, top=a, left=c)
        for (a, b), (c, d), block_px in (
            ((0, row), (0, col), (16, 16)),
            ((0, row), (col, width), (3, 999)),
            ((row, height), (0, col), (64, 32)),
            ((row, height), (col, width), (1, 50)),
        )
    ]
    raster = raster_of(height, width, Product(bands=slice(0, 2), layers=layers))
    grid = Grid(height=height, width=width, tile_px=64, margin_px=margin_px)
    assert_tiles(all_strips(raster, grid), grid, image)
    assert all((layer.reads == 1).all() for layer in layers)


@settings(max_examples=40)
@given(data=st.data(), margin_px=st.integers(0, 31))
def test_any_panel_of_many_files_gives_the_same_tiles(data, margin_px):
    height, width, size = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300)), 37
    image = noise(1, height, width)
    layers = [
        BlockLayer(image[:, top : top + size, left : left + size], (16, 16), top=top, left=left)
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]
    raster = raster_of(height, width, Product(bands=slice(0, 1), layers=layers))
    grid = Grid(height=height, width=width, tile_px=64, margin_px=margin_px)
    first = data.draw(st.integers(0, grid.cols - 1))
    cores = range(first, data.draw(st.integers(first + 1, grid.cols)))
    rows = sorted(data.draw(st.sets(st.integers(0, grid.rows - 1), min_size=1)))
    assert_tiles(all_strips(raster, grid, cores=cores, rows=rows), grid, image)
    assert max(layer.reads.max() for layer in layers) == 1


def test_invalid_pixels_are_shown_as_fill_and_known_as_invalid():
    image, valid = noise(2, 90, 70), np.ones((90, 70), bool)
    valid[20:50, 30:60] = False
    layer = BlockLayer(image, (16, 16), valid_hw=valid)
    raster = raster_of(90, 70, Product(bands=slice(0, 2), layers=[layer]), fill=7)
    grid = Grid(height=90, width=70, tile_px=64, margin_px=20)
    assert_tiles(all_strips(raster, grid), grid, np.where(valid, image, 7), valid)


def test_the_earlier_file_lies_above_but_not_where_it_is_invalid():
    above, below = np.full((1, 40, 40), 1, np.uint8), np.full((1, 40, 40), 2, np.uint8)
    valid = np.ones((40, 40), bool)
    valid[:, 20:] = False
    layers = [BlockLayer(above, (8, 8), valid_hw=valid), BlockLayer(below, (8, 8))]
    raster = raster_of(40, 40, Product(bands=slice(0, 1), layers=layers))
    grid = Grid(height=40, width=40, tile_px=64, margin_px=0)
    (strip,) = all_strips(raster, grid)
    assert (strip.image_bhw[0, :40, :20] == 1).all()
    assert (strip.image_bhw[0, :40, 20:40] == 2).all()
    assert strip.valid_hw is None


@settings(max_examples=40)
@given(data=st.data(), margin_px=st.integers(0, 31), threads=st.integers(1, 3))
def test_of_files_that_overlap_the_first_valid_pixel_is_seen(data, margin_px, threads):
    height, width = data.draw(st.integers(1, 500)), data.draw(st.integers(1, 120))
    whole, known = np.full((2, height, width), 7, np.uint8), np.zeros((height, width), bool)
    layers = []
    for number in range(data.draw(st.integers(1, 4))):
        top, left = data.draw(st.integers(-20, height)), data.draw(st.integers(-20, width))
        size = data.draw(st.integers(1, 520)), data.draw(st.integers(1, 140))
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (2, *size), dtype=np.uint8)
        valid = rng.random(size) < data.draw(st.sampled_from([0.5, 1.0]))
        block_px = data.draw(st.sampled_from([(1, 999), (16, 16), (64, 48)]))
        layers.append(BlockLayer(image, block_px, top=top, left=left, valid_hw=valid))
        for y, x in np.argwhere(valid) + np.array([top, left]):
            if 0 <= y < height and 0 <= x < width and not known[y, x]:
                whole[:, y, x], known[y, x] = image[:, y - top, x - left], True
    raster = raster_of(height, width, Product(bands=slice(0, 2), layers=layers))
    grid = Grid(height=height, width=width, tile_px=64, margin_px=margin_px)
    assert_tiles(all_strips(raster, grid, threads=threads), grid, whole, known)
    assert all(layer.reads.max() <= 1 for layer in layers)


def test_a_required_product_makes_pixels_invalid_and_another_counts_as_0():
    image = BlockLayer(noise(1, 70, 50), (16, 16))
    infrared = BlockLayer(noise(1, 70, 30), (16, 16))
    height = BlockLayer(noise(1, 40, 50), (16, 16))
    raster = raster_of(
        70,
        50,
        Product(bands=slice(0, 1), layers=[image]),
        Product(bands=slice(1, 2), layers=[infrared]),
        Product(bands=slice(2, 3), layers=[height], required=False),
    )
    grid = Grid(height=70, width=50, tile_px=32, margin_px=8)
    counter = ReadCounter()
    strips = all_strips(raster, grid, counter=counter)
    whole = np.full((3, 70, 50), 7, np.uint8)
    whole[0, :, :30], whole[1, :, :30] = image.image_bhw[0, :, :30], infrared.image_bhw[0]
    whole[2, :40, :30], whole[2, 40:, :30] = height.image_bhw[0, :, :30], 0
    valid = np.zeros((70, 50), bool)
    valid[:, :30] = True
    assert_tiles(strips, grid, whole, valid)
    assert counter.missing == 30 * 30


def test_missing_height_is_counted_once_however_many_canvases_show_it():
    image, height = BlockLayer(noise(1, 900, 40), (16, 16)), BlockLayer(noise(1, 35, 40), (16, 16))
    raster = raster_of(
        900,
        40,
        Product(bands=slice(0, 1), layers=[image]),
        Product(bands=slice(1, 2), layers=[height], required=False),
    )
    grid = Grid(height=900, width=40, tile_px=64, margin_px=24)
    counter = ReadCounter()
    all_strips(raster, grid, counter=counter)
    assert counter.missing == (900 - 35) * 40


def test_lost_height_is_invalid_in_every_strip_and_not_missing():
    lost = np.zeros((900, 40), bool)
    lost[100:420, 5:30] = True  # more rows than one canvas holds
    absent = lost | (np.arange(900) >= 850)[:, None]
    image, height = noise(1, 900, 40), noise(1, 900, 41)[:, :, :40]
    raster = raster_of(
        900,
        40,
        Product(bands=slice(0, 1), layers=[BlockLayer(image, (16, 16))]),
        Product(
            bands=slice(1, 2),
            layers=[BlockLayer(height, (16, 16), valid_hw=~absent, lost_hw=lost)],
            required=False,
        ),
    )
    grid = Grid(height=900, width=40, tile_px=64, margin_px=24)
    counter = ReadCounter()
    strips = all_strips(raster, grid, counter=counter)
    whole = np.concatenate([image, np.where(absent, 0, height)])
    whole[:, lost] = 7
    assert_tiles(strips, grid, whole, ~lost)
    assert counter.missing == 50 * 40


def test_layers_are_closed_when_their_last_row_is_decoded():
    upper, lower = (
        BlockLayer(noise(1, 300, 40), (64, 64)),
        BlockLayer(noise(1, 1000, 40), (64, 64), top=300),
    )
    raster = raster_of(1300, 40, Product(bands=slice(0, 1), layers=[upper, lower]))
    grid = Grid(height=1300, width=40, tile_px=64, margin_px=0)
    for strip in read_strips(
        raster, whole_area(grid), range(grid.rows), threads=1, counter=ReadCounter()
    ):
        if strip.i == 7:
            assert upper.closed
            assert not lower.closed


def test_an_array_is_a_raster():
    image = noise(3, 50, 40)
    grid = Grid(height=50, width=40, tile_px=32, margin_px=4)
    assert_tiles(all_strips(array_raster(image), grid), grid, image)


def test_a_block_that_cannot_be_read_ends_the_strips():
    class Broken(BlockLayer):
        def read(self, part, out_bhw=None):
            if part.bottom > 300:
                raise ReadError("in.tif: rows 256 to 299 cannot be decoded", "fetch it again")
            return super().read(part, out_bhw)

    raster = raster_of(
        600, 40, Product(bands=slice(0, 1), layers=[Broken(noise(1, 600, 40), (64, 64))])
    )
    grid = Grid(height=600, width=40, tile_px=64, margin_px=0)
    whole = whole_area(grid)
    strips = read_strips(raster, whole, whole.rows, threads=2, counter=ReadCounter())
    assert next(strips).i == 0
    with pytest.raises(ReadError, match="cannot be decoded"):
        list(strips)


@pytest.mark.parametrize(("height", "width", "count"), [(300, 200, 4), (1, 5, 4), (64, 40, 99)])
def test_sampled_tiles_are_tiles_of_the_grid(height, width, count):
    image = noise(2, height, width)
    grid = Grid(height=height, width=width, tile_px=64, margin_px=16)
    total = grid.rows * grid.cols
    tiles = sample_tiles([(array_raster(image), whole_area(grid))], count, 2)
    assert len(tiles) == min(count, total)
    for n, tile in enumerate(tiles):
        number = (2 * n + 1) * total // (2 * count) if total > count else n
        assert (tile == cut(image, grid.tile(*divmod(number, grid.cols)))).all()


def test_tiles_are_sampled_from_all_that_is_mapped():
    mapped, expected = [], []
    for height, rows, cols in ((300, range(1, 3), range(2, 5)), (200, range(4), range(1))):
        image = noise(1, height, 250)
        grid = Grid(height=height, width=250, tile_px=64, margin_px=4)
        mapped.append((array_raster(image), Cores(grid=grid, rows=rows, cols=cols)))
        expected += [cut(image, grid.tile(i, j)) for i in rows for j in cols]
    for count in (3, 10, 99):
        tiles = sample_tiles(mapped, count, 1)
        assert len(tiles) == min(count, len(expected))
        numbers = sorted({(2 * n + 1) * len(expected) // (2 * count) for n in range(count)})
        for number, tile in zip(numbers, tiles, strict=True):
            assert (tile == expected[number]).all()


def test_tiles_without_a_valid_pixel_are_not_sampled():
    valid_hw = np.zeros((300, 300), bool)
    valid_hw[-1, -1] = True
    layer = BlockLayer(noise(1, 300, 300), (32, 48), valid_hw=valid_hw)
    raster = raster_of(300, 300, Product(bands=slice(0, 1), layers=[layer]))
    grid = Grid(height=300, width=300, tile_px=64, margin_px=4)
    assert len(sample_tiles([(raster, whole_area(grid))], 99, 1)) == 1


@pytest.mark.parametrize("canvases", [2, 3])
def test_no_more_canvases_are_held_than_there_is_memory_for(canvases, monkeypatch):
    """Each holds one strip: a tile of 32 rows and 16 of blocks, 5 bytes of a pixel."""
    monkeypatch.setattr(schedule, "MIN_ROWS", 16)
    monkeypatch.setattr(schedule, "CANVAS_BYTES", 1)
    image = noise(3, 400, 300)
    raster = raster_of(400, 300, Product(bands=slice(0, 3), layers=[BlockLayer(image, (16, 16))]))
    grid = Grid(height=400, width=300, tile_px=32, margin_px=8)
    memory, lent = [], []
    known = Memory.array

    def array(self, shape):
        found = known(self, shape)
        memory.append(self)
        lent.append(self._owned_bytes // found.size)
        return found

    monkeypatch.setattr(Memory, "array", array)
    area, counter = whole_area(grid), ReadCounter()
    size = canvases * 48 * (304 + 16) * 5
    held = None
    for strip in read_strips(
        raster, area, area.rows, threads=2, counter=counter, memory_bytes=size
    ):
        held = strip  # until the next is there, as whoever labels it does
    assert held is not None
    assert len(lent) > grid.rows - 3, "each but the last holds one strip"
    assert max(lent) == canvases
    assert len(set(map(id, memory))) == 1
    assert counter.blocks == counter.distinct_blocks == 25 * 19


def test_blocks_are_counted_once_and_as_often_as_they_are_decoded():
    layer, counter = BlockLayer(noise(1, 50, 70), (16, 32)), ReadCounter()
    assert counter.decode_factor is None
    counter.count(layer, Window(top=0, left=0, height=17, width=33))
    assert (counter.blocks, counter.distinct_blocks) == (4, 4)
    counter.count(layer, Window(top=16, left=32, height=34, width=38))
    assert (counter.blocks, counter.distinct_blocks) == (10, 9)
    counter.count(BlockLayer(noise(1, 9, 9), (9, 9)), Window(top=0, left=0, height=9, width=9))
    assert counter.decode_factor == 11 / 10
