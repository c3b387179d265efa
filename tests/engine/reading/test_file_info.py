"""Facts of files that follow from others."""

import numpy as np
import rasterio
from doubles.rasters import write_tiff
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from flair_engine.reading.files import describe


def test_the_last_band_tagged_alpha_counts(tmp_path):
    one = write_tiff(tmp_path / "one.tif", np.ones((1, 8, 9), np.uint8))
    assert describe(str(one)).alpha is None
    path = write_tiff(tmp_path / "in.tif", np.ones((4, 8, 9), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        kinds = [ColorInterp.red, ColorInterp.alpha, ColorInterp.blue, ColorInterp.alpha]
        dataset.colorinterp = kinds
    info = describe(str(path))
    assert (info.alpha, info.count) == (4, 4)


def test_what_has_no_geotransform_is_not_placed(tmp_path):
    ones = np.ones((1, 8, 9), np.uint8)
    placed = write_tiff(tmp_path / "placed.tif", ones)
    nowhere = write_tiff(tmp_path / "nowhere.tif", ones, transform=Affine.identity(), crs=None)
    assert describe(str(placed)).placed
    assert not describe(str(nowhere)).placed
