"""Rasters are put together, drawn, mirrored and made sparse as asked."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from flair_bench.data.rasters import (
    draw_scene,
    files_in,
    image_or_scene,
    read_image,
    write_raster,
    write_sparse_vrt,
    write_wide_vrt,
)
from flair_bench.errors import DatasetError


def test_patches_of_a_block_are_put_together(tmp_path):
    image, labels = draw_scene(64, 3)
    assert labels.shape == (64, 64)
    for number, (row, col) in enumerate([(0, 0), (0, 32), (32, 0), (32, 32)]):
        corner = Affine(0.2, 0, 700_000.40000001 + col * 0.2, 0, -0.2, 6_600_000 - row * 0.2)
        part = image[:, row : row + 32, col : col + 32]
        write_raster(tmp_path / f"{number}.tif", part, None, transform=corner)
    assert (read_image(files_in([tmp_path])) == image).all()
    assert (image_or_scene([tmp_path], bands=5) == image).all()


def test_without_images_a_scene_is_drawn(monkeypatch):
    monkeypatch.setattr("flair_bench.data.rasters.SCENE_PX", 64)
    assert (image_or_scene([], bands=2) == draw_scene(64, 2)[0]).all()


def test_images_that_make_no_block_are_refused(tmp_path, image_file):
    elsewhere = Affine(0.2, 0, 8e5, 0, -0.2, 6e6)
    far = write_raster(tmp_path / "far.tif", image_file[1], None, transform=elsewhere)
    with pytest.raises(DatasetError, match=r"2 images span .* less than a quarter"):
        read_image([image_file[0], far])
    with pytest.raises(DatasetError, match=r"no image given"):
        read_image([])


def test_rasters_are_mirrored_larger(tmp_path, image_file):
    with rasterio.open(write_raster(tmp_path / "large.tif", image_file[1], 200)) as dataset:
        expected = np.pad(image_file[1], ((0, 0), (0, 104), (0, 120)), mode="reflect")
        assert (dataset.read() == expected).all()


def test_the_sparse_raster_is_empty_but_for_its_middle(image_file, tmp_path):
    source = write_raster(tmp_path / "source.tif", image_file[1], None)
    with rasterio.open(write_sparse_vrt(tmp_path / "huge.vrt", source, 10_000)) as dataset:
        assert dataset.shape == (10_000, 10_000)
        with rasterio.open(source) as part:
            window = dataset.window(*part.bounds)
            assert (dataset.read(window=window) == image_file[1]).all()
        assert not dataset.read(window=((0, 50), (0, 50))).any()


def test_the_wide_raster_repeats_the_first_rows(image_file, tmp_path):
    source = write_raster(tmp_path / "source.tif", image_file[1], None)
    width = image_file[1].shape[2]
    with rasterio.open(write_wide_vrt(tmp_path / "wide.vrt", source, 2 * width, 20)) as dataset:
        assert (dataset.read() == np.tile(image_file[1][:, :20], 2)).all()
