"""The network alone is timed with every slot busy, and its answer is checked."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from flair_bench.measure import network_speed
from flair_bench.measure.candidates import list_candidates
from flair_bench.measure.engines import Choice
from flair_bench.measure.network_speed import Batching


def test_slots_are_kept_busy_and_every_batch_counts():
    class Slot:
        def __init__(self):
            self.submitted = self.waited = 0

        def submit(self):
            assert self.submitted == self.waited
            self.submitted += 1

        def wait(self):
            time.sleep(0.001)
            self.waited += 1

    slots = [Slot(), Slot()]
    seconds = network_speed.seconds_per_tile(SimpleNamespace(slots=slots, batch=4), 7)
    assert [slot.submitted for slot in slots] == [slot.waited for slot in slots] == [4, 3]
    assert seconds >= 7 * 0.001 / 28


@pytest.fixture
def timed(exported, monkeypatch):
    """Return the speeds of one engine on one model, beside a network or none."""
    monkeypatch.setattr(network_speed, "NETWORK_S", 0.001)
    image = np.random.default_rng(8).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    candidates = list_candidates([Choice("ort")], [exported(8)])
    batchings = [Batching(batch=1, slots=1), Batching(batch=2, slots=2)]

    def run(net):
        return network_speed.network_alone(candidates, batchings, 1, image, net, lambda _: None)

    return run


def test_every_batching_is_timed_and_right(timed, network):
    first, second = timed(network)
    assert (first.label, second.label) == ("ort batch 1 slots 1", "ort batch 2 slots 2")
    assert (second.batch, second.slots, second.tile_px, second.margin_px) == (2, 2, 32, 8)
    for speed in (first, second):
        least, most = speed.s_per_tile_spread
        assert 0 < least <= speed.s_per_tile <= most
        assert speed.new_mpx_per_s == pytest.approx(256 / 1e6 / speed.s_per_tile)
        assert speed.agreement > 0.99
        assert speed.comparable


def test_without_a_network_nothing_is_said_of_the_answer(timed):
    assert [(speed.agreement, speed.comparable) for speed in timed(None)] == [(None, False)] * 2
