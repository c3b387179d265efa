"""Errors of GDAL as rasterio passes them on."""

from __future__ import annotations

from rasterio._err import CPLE_BaseError  # rasterio lets some of these through as they are
from rasterio.errors import CRSError, RasterioError

GDAL_ERRORS = (RasterioError, CPLE_BaseError, MemoryError)
"""Whatever opening, reading and writing a raster raises."""

UNTRANSFORMABLE = (CRSError, RasterioError, CPLE_BaseError)
"""Whatever is raised where there is no way from one CRS to another."""
