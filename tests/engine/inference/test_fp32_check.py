"""Labels of a run compared with FP32's: which, how many, and what is told of it."""

import datetime as dt

import numpy as np

from flair_engine.agreement import LabelDifference
from flair_engine.inference import fp32_check
from flair_engine.inference.fp32_check import Fp32Check


def test_only_real_tiles_at_the_start_are_compared(monkeypatch):
    monkeypatch.setattr(fp32_check, "COMPARED_PIXELS", 48)
    asked, told = [], []

    def load():
        asked.append("loaded")
        return reference

    def reference(inputs):
        asked.append(len(inputs["image"]))
        return {"labels": np.ones((2, 4, 4), np.uint8)}

    comparison = Fp32Check(load, told.append)
    assert comparison.agreement is None
    labels = np.ones((2, 4, 4), np.uint8)
    labels[0, 0, 0] = 2
    labels[1] = 7
    images = np.ones((2, 1, 8, 8), np.uint8)
    comparison.add(np.zeros_like(images), labels)
    assert asked == []  # FP32 is not even loaded where there is nothing to compare
    images[1] = 0  # what fills up a last batch
    before = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    comparison.add(images, labels)
    assert comparison.found == LabelDifference(pixels=16, different=1, lower=0)
    assert comparison.agreement.difference == comparison.found
    assert comparison.agreement.measured >= before
    assert told == []
    for _ in range(3):
        comparison.add(np.ones_like(images), np.ones_like(labels))
    assert asked == ["loaded", 2, 2]
    assert comparison.found == LabelDifference(pixels=48, different=1, lower=0)
    assert told == [comparison.agreement]
    assert comparison.busy_s > 0
