import threading
import time

import numpy as np
import pytest

from flair_engine.inference.stream import stream
from flair_engine.overlap import Stopwatch, alongside, prefetched, written_behind


class FakeSlot:
    """Answers the mean of each tile; refuses misuse of its buffers."""

    def __init__(self, log, batch=3):
        self.images_nchw = np.zeros((batch, 1, 2, 2), np.uint8)
        self.log = log
        self.in_flight = None

    def submit(self):
        assert self.in_flight is None, "submitted twice"
        self.in_flight = self.images_nchw.copy()
        self.log.append("submit")

    def wait(self):
        assert (self.in_flight == self.images_nchw).all(), "touched while in flight"
        means, self.in_flight = self.in_flight.mean((1, 2, 3)), None
        self.log.append("wait")
        return {"labels": means.astype(np.uint8)}


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


def test_prefetched_works_ahead_and_no_further():
    made = []

    def numbers():
        for n in range(10):
            made.append(n)
            yield n

    ahead = prefetched(numbers(), depth=2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert list(ahead) == list(range(1, 10))


def test_prefetched_passes_on_what_is_raised():
    def failing():
        yield 1
        raise ValueError("broken")

    ahead = prefetched(failing())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_prefetched_leaves_no_thread_when_closed_early():
    ahead = prefetched(iter(range(100)))
    next(ahead)
    ahead.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]


def test_written_behind_writes_in_order_in_one_other_thread():
    written, threads = [], set()

    def write(item):
        written.append(item)
        threads.add(threading.current_thread())

    assert list(written_behind(range(5), write, depth=2)) == list(range(5))
    assert written == list(range(5))
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_written_behind_passes_on_what_is_raised():
    def write(item):
        if item == 2:
            raise OSError("disk full")

    done = written_behind(range(10), write)
    with pytest.raises(OSError, match="disk full"):
        list(done)


def test_alongside_waits_for_the_work():
    done = threading.Event()

    def work():
        time.sleep(0.05)
        done.set()

    with alongside(work, cancel=lambda: None) as check:
        check()
        assert not done.is_set()
    assert done.is_set()


def test_alongside_passes_on_what_the_work_raises():
    failed = threading.Event()

    def work():
        failed.set()
        raise OSError("disk full")

    def hopeful():
        with alongside(work, cancel=lambda: None) as check:
            failed.wait()
            while True:
                check()

    with pytest.raises(OSError, match="disk full"):
        hopeful()

    with pytest.raises(OSError, match="disk full"), alongside(work, cancel=lambda: None):
        pass


def test_alongside_ends_the_work_where_the_block_raises():
    cancelled = threading.Event()
    with (
        pytest.raises(KeyError, match="strip"),
        alongside(lambda: cancelled.wait(10), cancel=cancelled.set),
    ):
        raise KeyError("strip")
    assert cancelled.is_set()


def test_stopwatch_counts_the_producer_alone():
    def slow():
        for n in range(3):
            time.sleep(0.02)
            yield n

    watch = Stopwatch()
    for _ in watch.time(slow()):
        time.sleep(0.03)
    assert 0.06 <= watch.busy_s < 0.12
    watch.timed(lambda _: time.sleep(0.02))(None)
    assert watch.busy_s >= 0.08
