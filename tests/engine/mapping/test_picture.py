import io

import numpy as np
import pytest
import rasterio
from doubles.rasters import write_tiff

from flair_engine.mapping.picture import image_file, map_file, map_picture

COLORS = {0: (0, 0, 0, 0), 1: (10, 20, 30, 255), 3: (200, 100, 50, 255)}


def map_of(path, labels_hw):
    with rasterio.open(write_tiff(path, labels_hw[None], nodata=0), "r+") as dataset:
        dataset.write_colormap(1, COLORS)
    return path


def test_a_small_map_is_shown_pixel_by_pixel(tmp_path):
    labels_hw = np.random.default_rng(0).choice([0, 1, 3], (40, 70)).astype(np.uint8)
    found = map_picture(map_of(tmp_path / "map.tif", labels_hw), 100)
    expected = np.array([COLORS[value] for value in labels_hw.ravel()], np.uint8)
    assert (found == expected.reshape(40, 70, 4).transpose(2, 0, 1)).all()


def test_a_large_map_shows_the_most_frequent_class(tmp_path):
    coarse = np.random.default_rng(1).choice([1, 3], (30, 50)).astype(np.uint8)
    fine = np.kron(coarse, np.ones((8, 8), np.uint8))
    noisy = fine.copy()
    noisy[::3, ::3] = 4 - noisy[::3, ::3]  # one in nine is of the other
    found = map_picture(map_of(tmp_path / "map.tif", noisy), 50)
    assert found.shape == (4, 30, 50)
    expected = np.array([COLORS[value] for value in coarse.ravel()], np.uint8)
    assert (found == expected.reshape(30, 50, 4).transpose(2, 0, 1)).all()


def opened(content):
    pil = pytest.importorskip("PIL.Image", reason="needs Pillow")
    return np.asarray(pil.open(io.BytesIO(content)))


def test_files_are_what_they_say(tmp_path):
    rng = np.random.default_rng(2)
    rows, cols = np.indices((64, 80))
    smooth = np.stack([2 * rows, 3 * cols, rows + cols]).astype(np.uint8)
    seen_hw = np.ones(smooth.shape[1:], bool)
    kind, content = image_file(smooth, seen_hw)
    assert kind == "image/jpeg"
    assert np.abs(opened(content).transpose(2, 0, 1).astype(int) - smooth).mean() < 3
    seen_hw[:7] = False
    kind, content = image_file(smooth, seen_hw)
    assert kind == "image/png"
    assert (opened(content)[..., :3].transpose(2, 0, 1) == smooth).all()
    assert (opened(content)[..., 3] == np.where(seen_hw, 255, 0)).all()
    map_bhw = rng.integers(0, 256, (4, 9, 7), dtype=np.uint8)
    assert (opened(map_file(map_bhw)[1]).transpose(2, 0, 1) == map_bhw).all()
    assert list(tmp_path.iterdir()) == []
