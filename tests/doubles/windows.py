"""Windows at random, and the pixels they cover."""

import numpy as np
from hypothesis import strategies as st

from flair_engine.grid import Window

AROUND_PX = 20
"""What windows of these tests reach past the origin, on each side."""


def windows(least_px=1):
    edge, size = st.integers(-AROUND_PX, AROUND_PX - 8), st.integers(least_px, 8)
    return st.builds(window_at, edge, edge, size, size)


def window_at(top, left, height, width):
    return Window(top=top, left=left, height=height, width=width)


def painted(window):
    """Return bool, True on the pixels of a window around the origin."""
    pixels = np.zeros((2 * AROUND_PX, 2 * AROUND_PX), bool)
    pixels[window.relative_to(ORIGIN).slices] = True
    return pixels


ORIGIN = Window(top=-AROUND_PX, left=-AROUND_PX, height=0, width=0)
