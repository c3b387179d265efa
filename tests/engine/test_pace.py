"""Speed and lines of a log, by a clock that is turned by hand."""

import pytest

from flair_engine.pace import LineProgress, Pace, duration, mpx


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_what_was_there_at_the_first_look_is_no_speed(clock):
    pace = Pace(clock)
    assert pace.at(90_000_000) == 0
    clock.now += 10
    assert pace.at(91_000_000) == pytest.approx(100_000)
    clock.now += 10
    assert pace.at(93_000_000) == pytest.approx(150_000)


def lines_of(clock, steps, total=1_000_000_000, first=0):
    """Return the time of each line, and the lines, of (seconds, pixels) that pass."""
    said = []
    lines = LineProgress(lambda line: said.append((clock.now - 100, line)), clock)
    done = first
    lines.progress(done, total)
    for seconds, pixels in steps:
        clock.now += seconds
        done += pixels
        lines.progress(done, total)
    return said


def test_a_line_a_minute_of_a_long_run(clock):
    said = lines_of(clock, [(1, 100_000)] * 3600)
    assert [when for when, _ in said] == [60.0 * n for n in range(1, 61)]
    assert said[0][1] == "1%, 6.0 of 1000.0 Mpx, 0.10 Mpx/s, 2 h 46 min left"


def test_a_line_each_five_percent_of_a_faster_one(clock):
    said = lines_of(clock, [(1, 2_000_000)] * 499)
    assert [when for when, _ in said] == [25.0 * n for n in range(1, 20)]
    assert [line.split(",")[0] for _, line in said] == [f"{5 * n}%" for n in range(1, 20)]


def test_a_short_run_says_little_and_its_end_is_said_by_others(clock):
    assert [when for when, _ in lines_of(clock, [(3, 100_000_000)] * 10)] == [12, 24]
    assert lines_of(clock, [(0.1, 100_000_000)] * 10) == []


def test_what_was_labelled_before_is_said_and_is_no_speed(clock):
    (_, first), (_, second) = lines_of(clock, [(60, 12_000_000)], first=400_000_000)
    assert first == "note: 40% was labelled before, 600.0 Mpx are left"
    assert second == "41%, 412.0 of 1000.0 Mpx, 0.20 Mpx/s, 49 min left"


def test_a_run_of_nothing_says_nothing(clock):
    assert lines_of(clock, [(100, 0)], total=0) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (40.2, "40 s"), (59.6, "1 min"), (720, "12 min"),
     (3599, "1 h 00 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_durations_as_people_say_them(seconds, said):
    assert duration(seconds) == said


def test_megapixels_have_one_decimal():
    assert mpx(1_250_000) == "1.2"
