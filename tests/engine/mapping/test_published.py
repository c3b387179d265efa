import hashlib

import pytest
from affine import Affine
from rasterio.crs import CRS

from flair_engine.grid import Window
from flair_engine.mapping.published import PART_BYTES, bbox_of, crs_text, sha256_of
from flair_engine.reading.pixel_grid import PixelGrid


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 2 * PART_BYTES + 7])
def test_a_digest_is_that_of_all_bytes(tmp_path, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_crs_is_told_by_its_code_or_its_text():
    assert crs_text(None) is None
    assert crs_text(CRS.from_epsg(2154)) == "EPSG:2154"
    assert crs_text(CRS.from_proj4("+proj=laea +lat_0=40 +lon_0=3")).startswith("PROJCS")


def test_a_box_holds_every_corner_of_a_turned_raster():
    turned = Affine.translation(100, 200) @ Affine.rotation(90)
    grid = PixelGrid(height=3, width=5, crs=CRS.from_epsg(2154), transform=turned)
    assert bbox_of(grid) == pytest.approx((97, 200, 100, 205))
    window = Window(top=1, left=2, height=1, width=1)
    assert bbox_of(grid.of(window)) == pytest.approx((98, 202, 99, 203))
    assert bbox_of(PixelGrid(height=3, width=5, crs=None, transform=turned)) is None
