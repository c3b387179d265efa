"""Pixels of a result file that cannot be drawn are refused when it is read."""

from dataclasses import replace

import numpy as np
import pytest
from doubles.figures import parity

from flair_bench.figures import packed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"engine": packed(np.zeros((2, 3), np.uint8))}, "not of one size"),
        ({"image": packed(np.zeros((3, 3, 2), np.uint8))}, "not of one size"),
        ({"image": packed(np.zeros((2, 2), np.uint8))}, "not of one size"),
        ({"colors": {"1": "red"}}, "class 1 of color red"),
        ({"colors": {"1": "#DB0E9A\n"}}, "class 1 of color #DB0E9A"),
        ({"colors": {"256": "#db0e9a"}}, "class 256 of color"),
        ({"colors": {"-1": "#db0e9a"}}, "class -1 of color"),
        ({"colors": {"9" * 400: "#db0e9a"}}, "class 9999999999 of color"),
    ],
)
def test_pixels_that_cannot_be_drawn_are_refused(change, why):
    with pytest.raises(ValueError, match=why):
        replace(parity().map, **change)
