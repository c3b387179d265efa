"""Figures of a job under way, from records whose times are known."""

from types import SimpleNamespace

import pytest

from flair_engine.grid import Window
from flair_engine.territory.plan_file import JobPart
from flair_engine.territory.progress import progress_of
from flair_engine.territory.state import Failure, PartState

PLAN = SimpleNamespace(folder="job")


def part(number):
    return JobPart(id=f"p{number}", window=Window(top=0, left=0, height=1000, width=1000))


def at(minute):
    return f"2026-01-01T00:{minute:02}:00+00:00"


def test_rate_and_time_left():
    records = [SimpleNamespace(started=at(m), ended=at(m + 2)) for m in (0, 1)]
    failure = Failure(reason="why", exit_code=1, tries=3, at=at(4))
    found = progress_of(PLAN, [
        PartState(part=part(0), name="done", record=records[0]),
        PartState(part=part(1), name="empty", record=records[1]),
        PartState(part=part(2), name="failed", failure=failure),
        PartState(part=part(3), name="running"),
        PartState(part=part(4), name="missing"),
    ])  # fmt: skip
    assert found["counts"] == {"done": 1, "empty": 1, "failed": 1, "running": 1, "missing": 1}
    assert (found["failed"], found["running"], found["missing"]) == ({"p2": "why"}, ["p3"], ["p4"])
    assert found["mpx_per_s"] == pytest.approx(2 / 180)
    assert found["left_s"] == pytest.approx(3 * 90)


def test_nothing_is_known_before_the_first_part_is_done():
    found = progress_of(PLAN, [PartState(part=part(0), name="missing")])
    assert (found["mpx_per_s"], found["left_s"], found["done_pixels"]) == (None, None, 0)
