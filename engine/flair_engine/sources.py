"""Input rasters: what is accepted, and how windows of them are read."""

from __future__ import annotations

import math
import threading
import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import rasterio
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import ReadError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy as np
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

    from flair_engine.grid import Window
    from flair_engine.manifest import ModelSpec

GSD_TOLERANCE = 0.01
"""Relative. Delivered files round the pixel size (0.200000000000001) and true sizes differ by more
than this where it matters (0.15, 0.25 m)."""


class RasterSource(AbstractContextManager["RasterSource"]):
    """A file GDAL opens, read through one dataset handle per thread.

    Raises SourceError where it cannot be opened.
    """

    def __init__(self, path: Path, band_numbers: Sequence[int] | None = None) -> None:
        self.path = path
        self._handles: list[DatasetReader] = []
        self._local = threading.local()
        dataset = self._dataset()
        self.height: int = dataset.height
        self.width: int = dataset.width
        self.crs: CRS | None = dataset.crs
        self.transform: Affine = dataset.transform
        self.band_numbers = tuple(band_numbers or range(1, dataset.count + 1))
        self.count = len(self.band_numbers)
        if outside := [n for n in self.band_numbers if not 1 <= n <= dataset.count]:
            self.close()
            raise SourceError(
                f"{path}: band {outside[0]} was asked for but the file has {dataset.count}: "
                f"choose from 1 to {dataset.count}"
            )
        self.dtypes: tuple[str, ...] = tuple(dataset.dtypes[n - 1] for n in self.band_numbers)
        self.block_px: tuple[int, int] = dataset.block_shapes[self.band_numbers[0] - 1]

    def read(self, window: Window) -> np.ndarray:
        """Return uint8 [bands, height, width] of `window`; see Source."""
        where = RasterioWindow(window.left, window.top, window.width, window.height)
        try:
            return self._dataset().read(self.band_numbers, window=where)  # type: ignore[no-any-return]
        except RasterioError as error:
            raise ReadError(self._unreadable(window, error)) from error

    def close(self) -> None:
        """Close the handles of every thread; a second call does nothing."""
        while self._handles:
            self._handles.pop().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _dataset(self) -> DatasetReader:
        """Return the calling thread's own handle: GDAL datasets must not be shared."""
        if not hasattr(self._local, "dataset"):
            self._local.dataset = _open(self.path)
            self._handles.append(self._local.dataset)
        return self._local.dataset

    def _unreadable(self, window: Window, error: RasterioError) -> str:
        block_height, block_width = self.block_px
        reason = str(error.__cause__ or error).splitlines()[0]
        return (
            f"{self.path}: rows {window.top} to {window.bottom - 1}, columns {window.left} to "
            f"{window.right - 1} cannot be decoded (blocks of {block_height} x {block_width} from "
            f"block row {window.top // block_height}, column {window.left // block_width}): "
            f"{reason}. Fetch the file again"
        )


def open_source(
    path: Path,
    spec: ModelSpec,
    *,
    band_numbers: Sequence[int] | None = None,
    gsd_m: float | None = None,
) -> RasterSource:
    """Open a raster and check that `spec` can be run on it.

    `band_numbers` name the file's bands (from 1) in the order the model wants them; None takes
    all. `gsd_m` is the ground sampling distance where the file does not say it, or says it wrongly.
    Raises SourceError with the one thing to mend first.
    """
    if band_numbers is not None and len(band_numbers) != len(spec.bands):
        raise SourceError(
            f"{len(band_numbers)} band numbers given, the model wants {len(spec.bands)} "
            f"({', '.join(spec.bands)}): name one for each"
        )
    source = RasterSource(path, band_numbers)
    try:
        _check_bands(source, spec)
        _check_ground_sampling(source, spec, gsd_m)
    except SourceError:
        source.close()
        raise
    return source


def _open(path: Path) -> DatasetReader:
    with warnings.catch_warnings():
        # A missing georeference is refused by name where it matters.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(path, sharing=False)
        except RasterioIOError as error:
            if not path.exists():
                raise SourceError(f"{path}: no such file. Check the path") from error
            reason = str(error).splitlines()[0]
            raise SourceError(f"{path}: GDAL cannot open it ({reason}). Give a raster") from error


def _check_bands(source: RasterSource, spec: ModelSpec) -> None:
    if source.count != len(spec.bands):
        example = ",".join(str(n + 1) for n in range(len(spec.bands)))
        raise SourceError(
            f"{source.path}: has {source.count} band{'s'[: source.count != 1]}, the model wants "
            f"{len(spec.bands)} ({', '.join(spec.bands)}): choose them with --bands {example}, or "
            "export a model for the bands there are"
        )
    if wrong := [kind for kind in source.dtypes if kind != "uint8"]:
        raise SourceError(
            f"{source.path}: bands are {wrong[0]}, the model wants uint8 (0..255 as delivered): "
            "convert with gdal_translate -ot Byte -scale"
        )


def _check_ground_sampling(source: RasterSource, spec: ModelSpec, gsd_m: float | None) -> None:
    sizes = (gsd_m, gsd_m) if gsd_m is not None else pixel_size_m(source)
    if sizes is None:
        raise SourceError(
            f"{source.path}: has no georeference, so its ground sampling is unknown. If a pixel "
            f"is {spec.gsd_m:g} m, say so with --gsd {spec.gsd_m:g}"
        )
    if any(abs(size / spec.gsd_m - 1) > GSD_TOLERANCE for size in sizes):
        raise SourceError(
            f"{source.path}: ground sampling is {sizes[0]:.4g} x {sizes[1]:.4g} m, the model was "
            f"trained at {spec.gsd_m:g} m: resample with gdalwarp -r bilinear "
            f"-tr {spec.gsd_m:g} {spec.gsd_m:g}"
        )


def pixel_size_m(source: RasterSource) -> tuple[float, float] | None:
    """Return the width and height of a pixel in metres; None without a georeference.

    Raises SourceError for a CRS in degrees, where a pixel has no fixed size.
    """
    transform = source.transform
    if not source.crs or transform.is_identity:
        return None
    if source.crs.is_geographic:
        raise SourceError(
            f"{source.path}: its CRS is in degrees, the model wants metres: reproject with "
            "gdalwarp -t_srs EPSG:2154 (mainland France)"
        )
    try:
        _, metres = source.crs.linear_units_factor
    except CRSError:  # a local CRS may not state its unit
        metres = 1.0
    return (
        math.hypot(transform.a, transform.d) * metres,
        math.hypot(transform.b, transform.e) * metres,
    )
