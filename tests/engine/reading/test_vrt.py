"""Files joined in memory give the pixels they give one by one."""

import numpy as np
import rasterio
from doubles.rasters import ORIGIN_M, write_tiff
from rasterio.transform import from_origin

from flair_engine.reading.files import choose_bands, describe
from flair_engine.reading.vrt import Placed, joined_vrt

X, Y = ORIGIN_M


def placed(path, image, row, col):
    transform = from_origin(X + col * 0.2, Y - row * 0.2, 0.2, 0.2)
    info = describe(str(write_tiff(path, image, transform=transform, nodata=7)))
    return Placed(info, row, col)


def test_chosen_bands_lie_where_their_files_do(tmp_path):
    random = np.random.default_rng(4)
    first, other = random.integers(8, 256, (2, 3, 20, 30), dtype=np.uint8)
    files = [placed(tmp_path / "a.tif", first, 0, 0), placed(tmp_path / "b.tif", other, -5, 30)]
    text = joined_vrt(files, choose_bands(files[0].info, (3, 1)))
    with rasterio.open(text) as dataset:
        assert (dataset.height, dataset.width, dataset.count) == (25, 60, 2)
        assert dataset.transform.almost_equals(from_origin(X, Y + 1, 0.2, 0.2), 1e-9)
        assert dataset.nodata == 7
        pixels = dataset.read()
    assert (pixels[:, 5:25, :30] == first[[2, 0]]).all()
    assert (pixels[:, :20, 30:] == other[[2, 0]]).all()
    assert (pixels[:, :5, :30] == 7).all()


def test_a_mask_beside_the_bands_becomes_that_of_the_whole(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, np.ones((1, 20, 30), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.repeat([[True, False]], 20, 0).repeat(15, 1))
    info = describe(str(path))
    assert info.masked
    with rasterio.open(joined_vrt([Placed(info, 0, 0)], choose_bands(info, (1,)))) as dataset:
        mask = dataset.read_masks(1)
    assert (mask[:, :15] == 255).all()
    assert (mask[:, 15:] == 0).all()
