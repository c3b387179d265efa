"""Tiles of proofs against those of the grid, and images that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from doubles.networks import small_spec

from flair_engine.grid import Grid, cut
from flair_export.errors import ImageError
from flair_export.proof import samples
from flair_export.proof.samples import check_images, evenly, sources


def tiles_of(spec, images):
    return {source.name: (source, list(source.tiles)) for source in sources(spec, images)}


@pytest.mark.parametrize(("total", "limit"), [(0, 3), (2, 3), (3, 3), (10, 3), (1000, 200)])
def test_evenly_spreads_over_everything(total, limit):
    chosen = evenly(total, limit)
    assert len(chosen) == min(total, limit)
    assert chosen == sorted(set(chosen))
    assert all(0 <= number < total for number in chosen)
    steps = np.diff(chosen)
    assert steps.size == 0 or steps.max() - steps.min() <= 1


@pytest.mark.parametrize(
    ("height", "width", "layout"),
    [
        (1, 1, {}),
        (3, 90, {}),
        (33, 50, {}),
        (64, 64, {"tiled": True, "blockxsize": 16, "blockysize": 16}),
    ],
)
def test_image_tiles_are_those_of_the_grid(make_raster, rgb, height, width, layout):
    spec = small_spec(rgb)
    path, image = make_raster(height=height, width=width, bands=3, **layout)
    source, tiles = tiles_of(spec, [path])["images"]
    grid = Grid(height=height, width=width, tile_px=32, margin_px=8)
    assert source.count == len(tiles) == grid.rows * grid.cols
    for number, tile in enumerate(tiles):
        i, j = divmod(number, grid.cols)
        assert np.array_equal(tile.image, cut(image, grid.tile(i, j)))
        assert (tile.height, tile.width) == (grid.core(i, j).height, grid.core(i, j).width)
    assert sum(tile.height * tile.width for tile in tiles) == height * width


def test_no_image_is_open_while_a_tile_is_looked_at(make_raster, rgb, monkeypatch):
    opened = []
    known = samples._opened

    def noting(path):
        opened.append(known(path))
        return opened[-1]

    monkeypatch.setattr(samples, "_opened", noting)
    path, _ = make_raster(height=40, width=40, bands=3)
    *_, source = sources(small_spec(rgb), [path])
    assert next(source.tiles).height == 16
    assert len(opened) > 1
    assert all(image.closed for image in opened)


def test_many_tiles_are_thinned_over_all_images(make_raster, rgb, monkeypatch):
    monkeypatch.setattr(samples, "PROVING_IMAGE_PIXELS", 200 * 32**2 + 1)
    spec = small_spec(rgb)
    images = [make_raster(f"{n}.tif", height=160, width=160, bands=3)[0] for n in range(3)]
    source, tiles = tiles_of(spec, images)["images"]
    assert source.count == len(tiles) == 200
    assert source.note == "200 of 300 tiles of 3 images"


def test_noise_and_scene_stand_without_images_and_repeat(rgb):
    spec = small_spec(rgb, tile_px=64, margin_px=16)
    first, second = tiles_of(spec, []), tiles_of(spec, [])
    assert list(first) == ["noise", "synthetic scene"]
    for name, (source, tiles) in first.items():
        assert source.count == len(tiles)
        for tile, again in zip(tiles, second[name][1], strict=True):
            assert tile.image.shape == (3, 64, 64)
            assert tile.image.dtype == np.uint8
            assert np.array_equal(tile.image, again.image)
    assert sum(t.height * t.width for t in first["synthetic scene"][1]) == 64 * 64


def test_thin_cores_do_not_multiply_the_scene(rgb):
    source, tiles = tiles_of(small_spec(rgb, tile_px=64, margin_px=31), [])["synthetic scene"]
    assert source.count == len(tiles) == 4
    assert source.note == "4 of 1024 tiles"


def test_tiles_are_measured_or_compared_never_both(make_raster, rgb, monkeypatch):
    monkeypatch.setattr(samples, "CALIBRATION_PIXELS", 3 * 32**2)
    paths = [make_raster(height=160, width=160, bands=3)[0]]
    measured, others = (
        [tile.image.tobytes() for tile in source.tiles]
        for source in samples.calibration(small_spec(rgb), paths)
    )
    assert len(measured) == len(others) == 3
    assert not set(measured) & set(others)


def test_wrong_band_count(make_raster, rgb):
    with pytest.raises(
        ImageError, match=r"has 5 bands: give the 3 that the model reads \(red, green, blue\)"
    ):
        check_images([make_raster(bands=5)[0]], rgb.bands)


def test_not_bytes(make_raster, rgb):
    with pytest.raises(ImageError, match="is uint16, the model reads uint8"):
        check_images([make_raster(bands=3, dtype="uint16")[0]], rgb.bands)


def test_not_an_image(tmp_path, rgb):
    (tmp_path / "notes.tif").write_text("no image")
    with pytest.raises(ImageError, match=r"notes.tif: cannot be opened as an image"):
        check_images([tmp_path / "notes.tif"], rgb.bands)


def test_image_that_breaks_off(make_raster, rgb):
    path, _ = make_raster(height=300, width=300, bands=3)
    path.write_bytes(path.read_bytes()[:100_000])
    check_images([path], rgb.bands)
    with pytest.raises(ImageError, match=r"rows \(\d+, \d+\), columns .* cannot be decoded"):
        tiles_of(small_spec(rgb), [path])
