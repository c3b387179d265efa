import numpy as np
import pytest
from doubles.fake_slot import FakeSlot

from flair_engine.inference.stream import AHEAD_PER_SLOT, stream


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


class Line:
    """Devices that end their batches after so many looks each."""

    def __init__(self, **looks):
        self.looks, self.log = looks, []

    def slots(self, count):
        return [self.slot(name) for _ in range(count) for name in self.looks]

    def slot(self, name):
        left = 0

        def submit():
            nonlocal left
            left = self.looks[name]
            self.log.append(name)
            known()

        def ready():
            nonlocal left
            left -= 1
            return left < 0

        slot = FakeSlot([], device=name, ready=ready)
        known, slot.submit = slot.submit, submit
        return slot


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("looks", [{"a": 1, "b": 1}, {"a": 0, "b": 9}, {"a": 9, "b": 0, "c": 3}])
@pytest.mark.parametrize("count", [1, 4, 40, 100])
def test_of_several_devices_all_tiles_come_back_in_order(slots, looks, count):
    line = Line(**looks)
    items = [(n, None if n % 5 == 2 else image) for n, image in tiles(count)]
    found = []
    for key, outputs in stream(items, line.slots(slots)):
        found.append((key, int(outputs["labels"]) if outputs else None))
    assert found == [(n, None if n % 5 == 2 else n) for n in range(count)]


def test_a_device_that_is_ready_sooner_gets_more_batches():
    line = Line(fast=1, slow=5)
    assert len(list(stream(tiles(240), line.slots(2)))) == 240
    assert line.log.count("fast") > 2 * line.log.count("slow")


def test_one_device_never_asks_whether_it_is_ready():
    def ready():
        raise AssertionError("asked")

    slots = [FakeSlot([], ready=ready) for _ in range(2)]
    assert len(list(stream(tiles(20), slots))) == 20


def test_no_device_gets_further_ahead_than_outputs_are_kept():
    line = Line(fast=0, stuck=10**9)
    found = list(stream(tiles(150), line.slots(2)))
    assert [key for key, _ in found] == list(range(150))
    first = line.log.index("stuck")
    assert line.log[first:].index("stuck", 2) <= 2 + AHEAD_PER_SLOT * 4 + 4
