"""Figures of a job under way."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.territory.plan_file import Plan
    from flair_engine.territory.state import PartState


def progress_of(plan: Plan, states: Sequence[PartState]) -> dict[str, Any]:
    """Return counts and ids by state, failures, Mpx/s of all processes and seconds left.

    The rate is that from the start of the first part to the end of the last, so that pauses count.
    """
    records = [state.record for state in states if state.record]
    done_px = sum(state.part.window.pixels for state in states if state.record)
    left_px = sum(state.part.window.pixels for state in states if not state.record)
    wall_s = 0.0
    if records:
        began = min(dt.datetime.fromisoformat(record.started) for record in records)
        ended = max(dt.datetime.fromisoformat(record.ended) for record in records)
        wall_s = max(1.0, (ended - began).total_seconds())
    rate = done_px / wall_s if records else None
    return {
        "job": str(plan.folder),
        "parts": len(states),
        "counts": dict(Counter(state.name for state in states)),
        "failed": {s.part.id: s.failure.reason for s in states if s.failure},
        "missing": [state.part.id for state in states if state.name == "missing"],
        "running": [state.part.id for state in states if state.name == "running"],
        "pixels": done_px + left_px,
        "done_pixels": done_px,
        "mpx_per_s": rate / 1e6 if rate else None,
        "left_s": left_px / rate if rate else None,
    }
