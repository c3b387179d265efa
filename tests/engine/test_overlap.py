import threading
import time

import pytest

from flair_engine.overlap import Stopwatch, alongside, prefetched, written_behind


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
