"""Windows of the raster put together from finished strips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flair_engine.grid import Cores, Window, ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def assembled(
    load_strip: Callable[[int, int, str], np.ndarray],
    name: str,
    window: Window,
    panels: Sequence[tuple[int, Cores]],
    bands: int,
) -> np.ndarray:
    """Return uint8 [bands, h, w] of raster `window` from the strips of panels, 0 outside them.

    Panels come with their numbers. `load_strip` returns output `name` of a strip, uint8 [bands, h,
    w], by the panel's number and the row of cores.
    """
    parts = [
        (panel.strip(i), load_strip(number, i, name))
        for number, panel in panels
        if panel.window.left < window.right and panel.window.right > window.left
        for i in _rows(panel, window)
    ]
    pixels_bhw = np.zeros((bands, window.height, window.width), np.uint8)
    for strip, strip_bhw in parts:
        common = strip.intersection(window)
        rows, cols = common.relative_to(window).slices
        from_rows, from_cols = common.relative_to(strip).slices
        pixels_bhw[:, rows, cols] = strip_bhw[:, from_rows, from_cols]
    return pixels_bhw


def _rows(panel: Cores, window: Window) -> range:
    """Return the rows of cores of a panel that touch a window."""
    size = panel.grid.core_px
    first, stop = window.top // size, ceil_div(window.bottom, size)
    return range(max(panel.rows.start, first), min(panel.rows.stop, stop))
