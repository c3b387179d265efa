"""Labels of a run compared with those of the same model in FP32, whole batches at a time."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

from flair_engine.agreement import LabelDifference, difference_of
from flair_engine.inference.kept_agreement import MeasuredAgreement
from flair_engine.manifest import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    Infer = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

COMPARED_PIXELS = 2**18
"""Labels that are computed in FP32 too, whole tiles: four at 512/128, one of a larger tile. A count
of tiles would cost a run of 2048 px tiles more than it saves."""


class Fp32Check:
    """The first labels of a run, in whole batches, against those of the same model in FP32.

    `load` gives that model once there are labels to compare: called with
    {image: uint8 [N, bands, T, T]} it returns the outputs by name. It is let go after
    COMPARED_PIXELS labels, which frees its memory, and `done` is told what was found.
    """

    def __init__(
        self, load: Callable[[], Infer], done: Callable[[MeasuredAgreement], None]
    ) -> None:
        self.busy_s = 0.0
        self.found = LabelDifference()
        """Of no pixels before the first tile."""
        self._load = load
        self._done = done
        self._reference: Infer | None = None
        self._measured: str | None = None

    @property
    def agreement(self) -> MeasuredAgreement | None:
        """What was found so far; None before the first tile."""
        if self._measured is None:
            return None
        return MeasuredAgreement(difference=self.found, measured=self._measured)

    @property
    def is_complete(self) -> bool:
        """Whether as many labels were compared as are wanted."""
        return self.found.pixels >= COMPARED_PIXELS

    def add(self, images_nchw: np.ndarray, labels: np.ndarray) -> None:
        """Compare one batch, labels uint8 [N, C, C]; does nothing once there were enough."""
        is_tile = images_nchw.any(axis=(1, 2, 3))  # the last batch is filled up with zeros
        if self.is_complete or not is_tile.any():
            return
        start = time.perf_counter()
        self._reference = self._reference or self._load()
        expected = self._reference({INPUT_NAME: images_nchw})["labels"]
        self.found += difference_of(expected[is_tile], labels[is_tile])
        self._measured = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        self.busy_s += time.perf_counter() - start
        if self.is_complete and self.agreement:
            self._reference = None
            self._done(self.agreement)
