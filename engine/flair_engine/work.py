"""A job whose inputs and engine are open, and what it has cost so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flair_engine.overlap import Stopwatch
from flair_engine.reading.schedule import ReadCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.core_mask import CoreMask
    from flair_engine.grid import Cores, Window
    from flair_engine.inference.base import Backend
    from flair_engine.manifest import ModelSpec
    from flair_engine.mapping.picture import MapPicture
    from flair_engine.mapping.published import OutputFile
    from flair_engine.mapping.targets import Target
    from flair_engine.options import Job, Listener
    from flair_engine.reading.clip import Clip
    from flair_engine.reading.frame import Excerpt
    from flair_engine.reading.inputs import Opened, Sheet


@dataclass(slots=True)
class Meters:
    """Costs of a run; each is counted by one thread."""

    reading: ReadCounter = field(default_factory=ReadCounter)
    read: Stopwatch = field(default_factory=Stopwatch)
    write: Stopwatch = field(default_factory=Stopwatch)
    assembled_s: float = 0.0
    """Seconds the maps took, without those of waiting for strips."""
    notices: list[str] = field(default_factory=list)
    """What the user was told."""
    warnings: list[str] = field(default_factory=list)
    """What the user was told of that makes the map wrong, or less than it should be."""
    written: list[OutputFile] = field(default_factory=list)
    """What was published."""
    pictures: list[MapPicture] = field(default_factory=list)
    """Of the first maps, where a page shows them."""
    before_s: dict[str, float] = field(default_factory=dict)
    """What the stages of the backend had taken before, where it was lent."""
    inferred_px: int = 0
    """Pixels of the cores that went through the network in this process."""
    resumed_px: int = 0
    """Pixels that were to be labelled and were before the run was resumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A panel of what is mapped of a sheet."""

    number: int
    """Its number in the run, which names it in the journal."""
    sheet: Sheet
    cores: Cores
    selected: CoreMask | None
    """Its cores that are labelled, None for all."""
    clip: Clip | None = None
    """The pixels of the sheet that are mapped, None for all."""

    @property
    def shown(self) -> Window:
        """The pixels that maps show of it."""
        window = self.cores.window
        return window if self.clip is None else window.intersection(self.clip.window)

    def is_wanted(self, i: int, j: int) -> bool:
        """Return whether core (i, j) of the grid is labelled."""
        rows, cols = self.cores.rows, self.cores.cols
        return self.selected is None or self.selected[i - rows.start, j - cols.start]

    def wanted_px(self, i: int) -> int:
        """Return the pixels of row i of cores that are labelled."""
        grid, cols = self.cores.grid, self.cores.cols
        if self.selected is None:
            return self.cores.strip(i).pixels
        return sum(grid.core(i, j).pixels for j in cols if self.is_wanted(i, j))


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetTarget:
    """A map, and the panels it is put together from."""

    target: Target
    sheet: Sheet
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A job whose inputs and engine are open."""

    job: Job
    listener: Listener
    spec: ModelSpec
    opened: Opened
    backend: Backend
    panels: Sequence[Panel]
    """All that is read, in order."""
    targets: Sequence[SheetTarget]
    threads: int
    """CPU threads that decode."""
    memory_mib: int
    """Of decoded pixels."""
    meters: Meters
    excerpt: Excerpt | None = None
    """What is mapped of a larger raster, None where it is whole."""

    @property
    def pixels(self) -> int:
        """Pixels of all panels."""
        return sum(panel.cores.window.pixels for panel in self.panels)
