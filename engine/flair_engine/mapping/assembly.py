"""Windows of the raster put together from finished strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Grid, Window, ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def assembled(
    load_strip: Callable[[int, int, str], np.ndarray],
    name: str,
    window: Window,
    grid: Grid,
    rows: range,
    cores: Sequence[range],
) -> np.ndarray:
    """Return uint8 [bands, h, w] of raster `window` from stored strips, 0 outside them."""
    size = grid.core_px
    touched = range(
        max(rows.start, window.top // size), min(rows.stop, ceil_div(window.bottom, size))
    )
    lefts = [
        panel.start * size
        for panel in cores
        if panel.start * size < window.right and panel.stop * size > window.left
    ]
    parts = [(i * size, left, load_strip(left, i, name)) for left in lefts for i in touched]
    bands = parts[0][2].shape[0] if parts else 1
    pixels = np.zeros((bands, window.height, window.width), np.uint8)
    for top, left, strip in parts:
        _, height, width = strip.shape
        first, last = max(top, window.top), min(top + height, window.bottom)
        start, stop = max(left, window.left), min(left + width, window.right)
        pixels[
            :, first - window.top : last - window.top, start - window.left : stop - window.left
        ] = strip[:, first - top : last - top, start - left : stop - left]
    return pixels
