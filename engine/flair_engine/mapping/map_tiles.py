"""Maps that lie beside one another on one grid, read as one."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
import rasterio

from flair_engine.errors import WriteError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.mapping.targets import output_path
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rasterio.io import DatasetReader

    from flair_engine.grid import Window
    from flair_engine.options import LabelValues

TILES_OPEN = 8
"""Maps that are left open: the next pixels lie on some of the same."""


class MapTiles(AbstractContextManager["MapTiles"]):
    """Finished maps, by path and the window of a raster that each shows; these lie apart.

    `bands` are those of each output, `values` how labels are written.
    """

    def __init__(
        self,
        tiles: Sequence[tuple[Path, Window]],
        bands: Mapping[str, int],
        values: LabelValues,
    ) -> None:
        self._tiles, self._bands, self._values = tiles, bands, values
        self._index = WindowIndex([window for _, window in tiles])
        self._opened: OrderedDict[Path, DatasetReader] = OrderedDict()

    def read(self, name: str, window: Window) -> np.ndarray:
        """Return uint8 [bands, h, w] of an output and a window of the raster.

        Labels are 1..19, and 0 where they are nodata; everything is 0 where no map is. Raises
        WriteError where a map cannot be read.
        """
        pixels_bhw = np.zeros((self._bands[name], window.height, window.width), np.uint8)
        for number in self._index.meeting(window):
            path, own = self._tiles[number]
            common = own.intersection(window)
            rows, cols = common.relative_to(window).slices
            found_bhw = self._read(output_path(path, name), common.relative_to(own))
            if name == "labels" and self._values == "zero-based":
                found_bhw += 1  # 255, nodata, becomes 0
            pixels_bhw[:, rows, cols] = found_bhw
        return pixels_bhw

    def _read(self, path: Path, window: Window) -> np.ndarray:
        edges = (window.top, window.bottom), (window.left, window.right)
        try:
            return np.asarray(self._dataset(path).read(window=edges))
        except GDAL_ERRORS as error:
            raise WriteError(
                f"{path}: cannot be read ({first_line(error)})", "delete it, and make it again"
            ) from error

    def _dataset(self, path: Path) -> DatasetReader:
        if path not in self._opened:
            self._opened[path] = rasterio.open(path, driver="GTiff", sharing=False)
            if len(self._opened) > TILES_OPEN:
                self._opened.popitem(last=False)[1].close()
        self._opened.move_to_end(path)
        return self._opened[path]

    def __exit__(self, *_error: object) -> None:
        while self._opened:
            self._opened.popitem()[1].close()
