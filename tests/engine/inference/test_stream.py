import numpy as np
import pytest
from doubles.fake_slot import FakeSlot

from flair_engine.inference.stream import stream


def tiles(count):
    return [(n, np.full((1, 2, 2), n, np.uint8)) for n in range(count)]


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 9, 10])
def test_every_tile_comes_back_in_order(slots, count):
    log = []
    results = [
        (key, int(outputs["labels"]))
        for key, outputs in stream(tiles(count), [FakeSlot(log) for _ in range(slots)])
    ]
    assert results == [(n, n) for n in range(count)]
    assert log.count("submit") == -(-count // 3)


def test_two_slots_keep_one_batch_in_flight():
    log = []
    list(stream(tiles(9), [FakeSlot(log), FakeSlot(log)]))
    assert log == ["submit", "submit", "wait", "submit", "wait", "wait"]


def test_the_last_batch_is_padded_with_zeros():
    slot = FakeSlot([])
    list(stream(tiles(4), [slot]))
    assert slot.images_nchw[0].max() == 3
    assert slot.images_nchw[1:].max() == 0


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("gaps", [range(9), range(0, 9, 2), [0, 1], [7, 8], []])
def test_keys_without_an_image_keep_their_place_and_take_none_in_a_batch(slots, gaps):
    log = []
    items = [(n, None if n in gaps else image) for n, image in tiles(9)]
    found = list(stream(items, [FakeSlot(log) for _ in range(slots)]))
    assert [key for key, _ in found] == list(range(9))
    assert [n for n, outputs in found if outputs] == [n for n in range(9) if n not in gaps]
    assert log.count("submit") == log.count("wait") == -(-(9 - len(gaps)) // 3)


def test_outputs_are_those_of_their_tile():
    items = [(n, None if n % 3 else image) for n, image in tiles(12)]
    found = {key: outputs["labels"] for key, outputs in stream(items, [FakeSlot([])]) if outputs}
    assert found == {0: 0, 3: 3, 6: 6, 9: 9}
