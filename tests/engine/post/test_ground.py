import numpy as np
import pytest
from doubles.maps import transform_of
from rasterio.crs import CRS

from flair_engine.crs import ground_px_m
from flair_engine.errors import SourceError
from flair_engine.post.ground import SQUARE_PX, Ground

LAMBERT_93 = CRS.from_epsg(2154)


def test_ground_is_that_of_each_pixel_within_a_millionth():
    height, width = 700, 900
    ground = Ground(LAMBERT_93, transform_of(), height, width)
    for row, col in ((0, 0), (699, 899), (300, 511), (256, 256)):
        across_m, down_m = ground_px_m(LAMBERT_93, transform_of(), col + 0.5, row + 0.5)
        assert ground.row_m2(row)[col] == pytest.approx(across_m * down_m, rel=1e-6)


def test_sums_are_those_of_the_pixels_on_the_left():
    ground = Ground(LAMBERT_93, transform_of(), 300, SQUARE_PX + 7)
    expected = [ground.row_m2(299)[:col].sum() for col in range(SQUARE_PX + 8)]
    assert np.allclose(ground.sums_m2(299), expected, rtol=1e-12)


def test_the_middle_is_where_it_is():
    ground = Ground(LAMBERT_93, transform_of(), 301, 200)
    assert ground.middle_px_m() == ground_px_m(LAMBERT_93, transform_of(), 100, 150.5)


def test_what_lies_outside_its_crs_is_refused():
    ground = Ground(CRS.from_epsg(32631), transform_of(left=1e8), 10, 10)
    with pytest.raises(SourceError, match="lies outside what EPSG:32631 describes.*mend the CRS"):
        ground.row_m2(0)
