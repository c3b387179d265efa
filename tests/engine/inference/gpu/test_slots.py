"""Slots on a CUDA device: their memory, and the order of events on their streams."""

import numpy as np
import pytest
from doubles import fake_cuda, fake_tensorrt

from flair_engine.errors import EngineError


def test_the_order_of_tiles_does_not_matter(machine, ask):
    backend = ask()
    tiles = np.random.default_rng(1).integers(0, 256, (6, 2, 32, 32), dtype=np.uint8)

    def labels(order):
        found = {}
        for slot, group in zip(backend.slots, (order[:3], order[3:]), strict=True):
            slot.images_nchw[...] = tiles[group]
            slot.submit()
        for slot, group in zip(backend.slots, (order[:3], order[3:]), strict=True):
            found.update(zip(group, slot.wait()["labels"].copy(), strict=True))
        return [found[number] for number in range(6)]

    assert np.array_equal(labels([0, 1, 2, 3, 4, 5]), labels([5, 3, 1, 0, 2, 4]))
    backend.close()


def test_touching_a_slot_in_flight_is_caught(one_machine, ask):
    backend = ask()
    slot, _ = backend.slots
    slot.submit()
    slot.images_nchw[0] = 7
    with pytest.raises(fake_cuda.Hazard, match="changed while in flight"):
        slot.wait()


def test_device_memory_that_runs_out_names_a_batch(ask, monkeypatch):
    machine = fake_tensorrt.Machine("10.4.0", memory=40_000).install(monkeypatch)
    with pytest.raises(EngineError, match=r"out of memory for 2 slots of 10 tiles.*try --batch 5$"):
        ask(batch=10)
    assert not machine.memory
    machine.memory_bytes = 1000
    with pytest.raises(EngineError, match=r"1 slots of 1 tiles.*try --slots 1, or another device"):
        ask(batch=1, slots=1)
