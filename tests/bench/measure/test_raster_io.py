"""The I/O benchmark measures what it says: same pixels, each block once."""

import numpy as np
import pytest
import rasterio

from flair_bench.data.rasters import write_raster, write_sparse_vrt
from flair_bench.measure import raster_io as disk
from flair_engine import Model, RunOptions

CPU = RunOptions(engine="ort", device="cpu", threads=1)


@pytest.fixture
def image():
    return np.random.default_rng(8).integers(0, 256, (5, 90, 70), dtype=np.uint8)


def test_the_trivial_model_says_which_band_is_brightest(image, tmp_path):
    path = disk.write_trivial_model(tmp_path / "trivial.onnx", 5)
    with Model(path, CPU) as model:
        assert (model.predict(image) == image.argmax(0) + 1).all()


@pytest.mark.parametrize("name", disk.FORMATS)
def test_every_format_is_read_block_by_block_once(image, tmp_path, name):
    bands, profile = disk.FORMATS[name]
    found = disk._reading(image[:bands], 1200, profile, 1, tmp_path)
    assert found["blocks_requested"] == found["blocks"] > 1
    assert found["of_gdal"]["median"] > 0


def test_both_writers_write_the_same_map(tmp_path):
    assert disk._writing(700, 1, tmp_path)["mpx_per_s"] > 0


def test_the_sparse_raster_is_empty_but_for_its_middle(image, tmp_path):
    source = write_raster(tmp_path / "source.tif", image, None)
    with rasterio.open(write_sparse_vrt(tmp_path / "huge.vrt", source, 10_000)) as dataset:
        assert dataset.shape == (10_000, 10_000)
        with rasterio.open(source) as part:
            window = dataset.window(*part.bounds)
            assert (dataset.read(window=window) == image).all()
        assert not dataset.read(window=((0, 50), (0, 50))).any()
