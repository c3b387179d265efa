"""Rasters at places, for the tests of reading."""

import pytest
from doubles.rasters import ORIGIN_M
from rasterio.transform import from_origin

from flair_engine.reading.files import describe

X, Y = ORIGIN_M


@pytest.fixture
def describe_at(make_raster):
    """Write a raster at a row and column of pixels; return what it says of itself."""

    def make(name, row, col, **options):
        transform = from_origin(X + col * 0.2, Y - row * 0.2, 0.2, 0.2)
        return describe(str(make_raster(name, transform=transform, **options)[0]))

    return make
