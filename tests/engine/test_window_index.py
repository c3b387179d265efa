"""Windows that meet, against pixels painted one by one; and how long many of them take."""

import math
from unittest import mock

import numpy as np
import pytest
from doubles.windows import painted, window_at, windows
from hypothesis import given
from hypothesis import strategies as st

from flair_engine import window_index
from flair_engine.window_index import WindowIndex, meeting, union_px

FAN_OUTS = st.sampled_from([2, 3, 64])


@given(st.lists(windows(least_px=0), max_size=9), FAN_OUTS)
def test_windows_that_meet_are_those_that_share_a_pixel(some, fan_out):
    pixels = [painted(window) for window in some]
    expected = [
        (one, other)
        for other in range(len(some))
        for one in range(other)
        if (pixels[one] & pixels[other]).any()
    ]
    with mock.patch.multiple(window_index, FAN_OUT=fan_out, AT_ONCE=fan_out):
        found = list(meeting(some))
    assert found == sorted(expected)
    assert all(type(number) is int for pair in found for number in pair)


@given(st.lists(windows(least_px=0), max_size=9), windows(), FAN_OUTS)
def test_an_index_finds_the_windows_that_meet_another(some, other, fan_out):
    expected = [n for n, window in enumerate(some) if (painted(window) & painted(other)).any()]
    with mock.patch.object(window_index, "FAN_OUT", fan_out):
        index = WindowIndex(some)
        assert index.meeting(other) == expected
        assert index.windows_meeting(other) == [some[number] for number in expected]


@given(st.lists(windows(least_px=0), max_size=8))
def test_windows_cover_together_what_one_counts(some):
    everything = np.logical_or.reduce([painted(window) for window in some] or [False])
    assert union_px(some) == np.count_nonzero(everything)


@pytest.mark.parametrize("down", [lambda _: 1, math.isqrt, lambda number: number])
def test_what_is_looked_at_grows_no_faster_than_the_number_of_windows(down, monkeypatch):
    looked_at = []
    meet = window_index._meet
    monkeypatch.setattr(
        window_index, "_meet", lambda one, other: looked_at.append(one.shape[1]) or meet(one, other)
    )
    counts = []
    for number in (4_096, 16_384):
        rows = down(number)
        tiles = [window_at(8 * (n % rows), 8 * (n // rows), 9, 9) for n in range(number)]
        looked_at.clear()
        assert sum(1 for _ in meeting(tiles)) >= number - 1
        counts.append(sum(looked_at))
    assert counts[1] < 6 * counts[0]
