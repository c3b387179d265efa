"""Ground that the pixels of a map cover, in square metres."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.crs import ground_px_m
from flair_engine.errors import SourceError
from flair_engine.grid import ceil_div

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.crs import CRS

SQUARE_PX = 256
"""Edge of the squares over which a pixel's ground is taken for constant, as a run does over a row
of cores: in Lambert-93 it changes by less than a millionth over 256 px of 0.2 m."""


class Ground:
    """Square metres on the ground by pixel: geodesic, constant over squares of the map.

    Every figure of flair-post comes from these, so that sums of parts are those of the whole.
    """

    def __init__(self, crs: CRS, transform: Affine, height: int, width: int) -> None:
        self._crs, self._transform = crs, transform
        self._height, self._width = height, width
        self._rows: dict[int, np.ndarray] = {}
        self._sums: dict[int, np.ndarray] = {}

    def row_m2(self, row: int) -> np.ndarray:
        """Return float64 [width], what each pixel of a row covers. Raises SourceError."""
        number = row // SQUARE_PX
        if number not in self._rows:
            squares = [self._square_m2(number, j) for j in range(ceil_div(self._width, SQUARE_PX))]
            # One is kept: rows come in order.
            self._rows = {number: np.repeat(squares, SQUARE_PX)[: self._width]}
        return self._rows[number]

    def sums_m2(self, row: int) -> np.ndarray:
        """Return float64 [width + 1], what the pixels of a row left of each column cover."""
        number = row // SQUARE_PX
        if number not in self._sums:
            self._sums = {number: np.concatenate([[0.0], np.cumsum(self.row_m2(row))])}
        return self._sums[number]

    def middle_px_m(self) -> tuple[float, float]:
        """Return width and height in metres of the pixel in the middle. Raises SourceError."""
        return self._px_m(self._width / 2, self._height / 2)

    def _square_m2(self, i: int, j: int) -> float:
        col = (j * SQUARE_PX + min((j + 1) * SQUARE_PX, self._width)) / 2
        row = (i * SQUARE_PX + min((i + 1) * SQUARE_PX, self._height)) / 2
        across_m, down_m = self._px_m(col, row)
        return across_m * down_m

    def _px_m(self, col: float, row: float) -> tuple[float, float]:
        across_m, down_m = ground_px_m(self._crs, self._transform, col, row)
        if not (math.isfinite(across_m) and math.isfinite(down_m)):
            raise SourceError(
                f"the map at column {col:.0f}, row {row:.0f} lies outside what {self._crs} "
                "describes, so its ground is not known",
                "mend the CRS of the map",
            )
        return across_m, down_m
