from flair_engine.inference.clock import Clock


def test_work_that_overlaps_counts_once():
    clock = Clock()
    clock.start()
    clock.start()
    clock.stop()
    assert clock.busy_s == 0
    clock.stop()
    assert 0 < clock.busy_s < 1
