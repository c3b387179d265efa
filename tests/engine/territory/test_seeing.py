"""Files that parts see, by a count of pixels over the whole raster."""

from dataclasses import replace

import numpy as np
from doubles.territory import SIZE_PX, TILE_PX
from doubles.tiny_model import TILE

from flair_engine.territory.seeing import Sight


def test_a_part_sees_what_its_tiles_reach(planned):
    made = planned()
    sight = Sight(made)
    owner = np.add.outer(np.arange(SIZE_PX) // TILE_PX * 6, np.arange(SIZE_PX) // TILE_PX)
    for part in made.parts:
        w, reach = part.window, TILE
        rows = slice(max(0, w.top - reach), w.bottom + reach)
        cols = slice(max(0, w.left - reach), w.right + reach)
        assert set(sight.numbers(part)["images"]) == set(np.unique(owner[rows, cols]).tolist())


def test_what_is_warped_is_seen_from_as_far_as_its_blocks_reach(planned):
    made = planned()
    warped = tuple(replace(file, warped_px=25) for file in made.files["images"])
    far = Sight(replace(made, files={"images": warped})).numbers(made.parts[0])["images"]
    assert set(far) == {6 * row + col for row in range(6) for col in range(6)
                        if max(row, col) * TILE_PX < 512 + TILE + 1024 + 100}  # fmt: skip


def test_of_a_product_that_is_not_seen_the_first_file_stands_for_all(planned):
    made = planned()
    files = {**made.files, "irc": made.files["images"][30:]}
    sight = Sight(replace(made, files=files))
    assert sight.numbers(made.parts[0])["irc"] == (0,)
    inputs, excerpt = sight.excerpt(made.parts[0])
    assert inputs.irc == (files["irc"][0].name,)
    assert excerpt.numbers["irc"] == (0,)


def test_keys_change_with_what_a_map_is_made_of_and_nothing_else(planned):
    made = planned()
    first, last = made.parts[0], made.parts[-1]
    key, far = Sight(made).key(first), Sight(made).key(last)
    assert key != far
    file = made.files["images"][0]
    touched = replace(file, facts={name: [1, 2] for name in file.facts})
    other = Sight(replace(made, files={"images": (touched, *made.files["images"][1:])}))
    assert other.key(first) != key
    assert other.key(last) == far
    for changed in (
        replace(made, model_sha256="other"),
        replace(made, run=replace(made.run, threads=7)),
        replace(made, frame=replace(made.frame, counts=not made.frame.counts)),
    ):
        assert Sight(changed).key(first) != key
    assert Sight(replace(made, started="later", digest="other")).key(first) == key
