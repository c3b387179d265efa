"""Seams, scenes and figures of geometries on a network whose context is one pixel."""

import numpy as np
import pytest

from flair_bench.data.rasters import draw_scene, files_in, read_image, write_raster
from flair_bench.errors import DatasetError, ModelError
from flair_bench.measure import geometry
from flair_bench.measure.engines import Choice


def test_seams_lie_within_eight_pixels_of_core_edges():
    mask = geometry.seam_mask(40, 64, 20)
    rows = np.flatnonzero(mask[:, 30])  # column 30 is far from the edges at 20 and 40
    assert rows.tolist() == list(range(12, 28))
    assert np.flatnonzero(mask[0]).tolist() == [*range(12, 28), *range(32, 48), *range(52, 64)]
    assert not geometry.seam_mask(16, 16, 16).any()


def test_a_network_without_context_has_no_seams(network, exported, monkeypatch):
    monkeypatch.setattr(geometry, "reference_network", lambda *_: network)
    monkeypatch.setattr(geometry, "SEAM_PX", 2)
    image = np.random.default_rng(2).integers(0, 256, (3, 300, 288), dtype=np.uint8)
    place = geometry.scene(image, np.ones((300, 288), np.uint8))
    figures = geometry.measure(
        "unused", place, Choice("ort"), models=[exported(8), exported(0)], repeats=2
    )
    first, second = figures["geometries"]
    assert (figures["height"], figures["width"]) == (288, 288)
    assert first["seam_different"] == first["elsewhere_different"] == 0
    assert first["equal_to_whole"] > 0.98, "padding differs at the raster's border alone"
    assert second["seam_different"] > second["elsewhere_different"]
    assert (first["overlap"], second["overlap"]) == (4, 1)
    assert first["gflop_per_new_mpx"] == pytest.approx(4 * second["gflop_per_new_mpx"])
    assert first["oa"] is not None


def test_small_images_are_refused():
    with pytest.raises(ModelError, match=r"image is 200 x 900 px, .* more than 256"):
        geometry.scene(np.zeros((3, 200, 900), np.uint8), None)


def test_patches_of_a_block_are_put_together(tmp_path):
    image, labels = draw_scene(64, 3)
    assert labels.shape == (64, 64)
    from affine import Affine

    for number, (row, col) in enumerate([(0, 0), (0, 32), (32, 0), (32, 32)]):
        corner = Affine(0.2, 0, 700_000.40000001 + col * 0.2, 0, -0.2, 6_600_000 - row * 0.2)
        part = image[:, row : row + 32, col : col + 32]
        write_raster(tmp_path / f"{number}.tif", part, None, transform=corner)
    found, _, _ = read_image(files_in([tmp_path]))
    assert (found == image).all()


def test_images_that_make_no_block_are_refused(tmp_path, image_file):
    from affine import Affine

    far = write_raster(
        tmp_path / "far.tif", image_file[1], None, transform=Affine(0.2, 0, 8e5, 0, -0.2, 6e6)
    )
    with pytest.raises(DatasetError, match=r"2 images span .* less than a quarter"):
        read_image([image_file[0], far])
    with pytest.raises(DatasetError, match=r"no image given"):
        read_image([])


def test_rasters_are_mirrored_larger(tmp_path, image_file):
    import rasterio

    with rasterio.open(write_raster(tmp_path / "large.tif", image_file[1], 200)) as dataset:
        expected = np.pad(image_file[1], ((0, 0), (0, 104), (0, 120)), mode="reflect")
        assert (dataset.read() == expected).all()
