"""The cost of one map of a whole territory, told before it is begun: hours, and much of a disk."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine.errors import OutputError
from flair_engine.grid import Window
from flair_engine.mapping.landcover import write_maps
from flair_engine.mapping.targets import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from flair_engine.mapping.landcover import MapStyle

COSTLY_PX = 2**28
"""Pixels of a map from which its cost is told: less than half a minute before that."""
COST_SAMPLES, SAMPLE_EDGE_PX = 4, 2048
"""Squares of the map that are written to see what that takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a map takes, about."""

    wall_s: float
    size: int
    """Bytes of what is written."""
    disk: int
    """Bytes that have to be free meanwhile."""

    def __str__(self) -> str:
        """Return it for people."""
        size, disk = _gb(self.size), _gb(self.disk)
        return f"about {_time(self.wall_s)}, {size} and, on the way, {disk} of disk"


def cost_of(
    target: Target,
    style: MapStyle,
    parts: Sequence[Window],
    read: Callable[[str, Window], np.ndarray],
) -> Cost:
    """Return what a map of windows of parts costs, by writing some squares of it.

    `read` is as in `write_maps`. Raises WriteError where the disk refuses.
    """
    squares = [_square(part.intersection(target.window)) for part in _spread(parts)]
    squares = [square for square in squares if square.pixels]
    size, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.path.parent, prefix=".flair-job-") as name:
        for number, square in enumerate(squares):
            folder = Path(name) / str(number)
            work = folder / "work"
            work.mkdir(parents=True)
            write_maps(Target(path=folder / "map.tif", window=square), style, read, work)
            size += sum(file.stat().st_size for file in folder.glob("*.tif"))
    wall_s = time.monotonic() - start
    covered = sum(part.intersection(target.window).pixels for part in parts)
    times = covered / sum(square.pixels for square in squares)
    whole = round(size * times)
    # A COG is a copy of the map with its overviews, which is there until the COG is whole.
    return Cost(wall_s=wall_s * times, size=whole, disk=whole * (1 + style.cog))


def check_disk(target: Target, cost: Cost) -> None:
    """Raise OutputError where a map does not fit on its disk."""
    free = shutil.disk_usage(target.path.parent).free
    if free < cost.disk:
        raise OutputError(
            f"{target.path}: takes {cost}, {_gb(free)} are free",
            "give a name on another disk, or OUT.vrt, which takes none",
        )


def _spread(parts: Sequence[Window]) -> Sequence[Window]:
    """Return some of the parts, from all over."""
    return parts[:: max(1, len(parts) // COST_SAMPLES)][:COST_SAMPLES]


def _square(part: Window) -> Window:
    """Return a square in the middle of a window, or what there is of it."""
    height, width = min(part.height, SAMPLE_EDGE_PX), min(part.width, SAMPLE_EDGE_PX)
    top, left = part.top + (part.height - height) // 2, part.left + (part.width - width) // 2
    return Window(top=top, left=left, height=height, width=width)


def _time(wall_s: float) -> str:
    if wall_s < 90:
        return f"{wall_s:.0f} s"
    return f"{wall_s / 60:.0f} min" if wall_s < 5400 else f"{wall_s / 3600:.1f} h"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
