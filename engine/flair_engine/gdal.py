"""GDAL as rasterio passes it on: its errors, and the blocks that it keeps."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rasterio
from rasterio._env import get_gdal_config
from rasterio._err import CPLE_BaseError  # rasterio lets some of these through as they are
from rasterio.errors import CRSError, RasterioError

if TYPE_CHECKING:
    from collections.abc import Iterator

GDAL_ERRORS = (RasterioError, CPLE_BaseError, MemoryError)
"""Whatever opening, reading and writing a raster raises."""

UNTRANSFORMABLE = (CRSError, RasterioError, CPLE_BaseError)
"""Whatever is raised where there is no way from one CRS to another."""

CACHE = "GDAL_CACHEMAX"


@contextmanager
def block_cache(most_bytes: int) -> Iterator[None]:
    """Have GDAL keep at most so many bytes of decoded blocks in this process.

    It would keep 5 % of the machine's memory, of blocks that are not decoded again. What the user
    has set stands.
    """
    if CACHE in os.environ or get_gdal_config(CACHE) <= most_bytes:
        yield
        return
    with rasterio.Env(**{CACHE: most_bytes}):
        yield
