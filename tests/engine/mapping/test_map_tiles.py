"""Maps read as one, by the array they were cut from."""

import numpy as np
import pytest
from doubles.field import write
from hypothesis import given, settings
from hypothesis import strategies as st

from flair_engine.errors import WriteError
from flair_engine.grid import Window
from flair_engine.mapping.map_tiles import TILES_OPEN, MapTiles

SIZE, EDGE = 120, 30


def cut(folder, labels_hw, values="flair"):
    """Write tiles of labels but for one; return them, and the labels without it."""
    tiles = []
    for number, (top, left) in enumerate(
        (t, c) for t in range(0, SIZE, EDGE) for c in range(0, SIZE, EDGE)
    ):
        window = Window(top=top, left=left, height=EDGE, width=EDGE)
        if number == 5:
            labels_hw[window.slices] = 0
            continue
        pixels = labels_hw[window.slices]
        path = folder / f"{number}.tif"
        write(path, (pixels - 1 if values == "zero-based" else pixels)[None], row=top, col=left)
        tiles.append((path, window))
    return tiles


@pytest.mark.parametrize("values", ["flair", "zero-based"])
def test_any_window_is_that_of_the_whole(tmp_path, values):
    labels_hw = np.random.default_rng(1).integers(0, 20, (SIZE, SIZE)).astype(np.uint8)
    tiles = cut(tmp_path, labels_hw, values)
    assert len(tiles) > TILES_OPEN

    edges = st.integers(0, SIZE - 1)

    @given(top=edges, left=edges, height=st.integers(1, SIZE), width=st.integers(1, SIZE))
    @settings(max_examples=40)
    def check(top, left, height, width):
        window = Window(top=top, left=left, height=min(height, SIZE - top),
                        width=min(width, SIZE - left))  # fmt: skip
        found = maps.read("labels", window)
        assert (found[0] == labels_hw[window.slices]).all()
        assert len(maps._opened) <= TILES_OPEN

    with MapTiles(tiles, {"labels": 1}, values) as maps:
        check()


def test_a_map_that_cannot_be_read(tmp_path):
    tiles = cut(tmp_path, np.ones((SIZE, SIZE), np.uint8))
    tiles[0][0].write_bytes(b"no map")
    window = Window(top=0, left=0, height=5, width=5)
    with (
        MapTiles(tiles, {"labels": 1}, "flair") as maps,
        pytest.raises(WriteError, match=r"0.tif: cannot be read .*: delete it, and make it again"),
    ):
        maps.read("labels", window)
