"""Pictures of sheets: against the pixels of the files, wherever they come from."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from doubles.rasters import write_tiff
from doubles.tiny_model import SPEC
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from flair_engine import Inputs, ReadOptions
from flair_engine.grid import Window
from flair_engine.reading.glance import glance
from flair_engine.reading.inputs import open_inputs

RGB = replace(SPEC, bands=("red", "green", "blue", "nir"))
X, Y = 721104.4, 6248980.8


def image(bands=4, height=96, width=128, seed=0):
    coarse = np.random.default_rng(seed).integers(1, 256, (bands, height // 8, width // 8))
    return np.kron(coarse, np.ones((1, 8, 8))).astype(np.uint8)


def glanced(paths, most_px=1000, *, spec=RGB, window=None, told=None, **options):
    opened = open_inputs(spec, Inputs(images=tuple(map(str, paths))), ReadOptions(**options))
    (sheet,) = opened.sheets
    whole = Window(top=0, left=0, height=sheet.raster.height, width=sheet.raster.width)
    found = glance(sheet, window or whole, spec.bands, most_px, (told or []).append)
    opened.close()
    return found


def test_a_small_raster_is_shown_as_it_is(tmp_path):
    pixels = image()
    found, seen = glanced([write_tiff(tmp_path / "in.tif", pixels)])
    assert (found == pixels[:3]).all()
    assert seen.all()


def test_a_window_is_shown_alone(tmp_path):
    pixels = image()
    window = Window(top=5, left=9, height=40, width=50)
    found, _ = glanced([write_tiff(tmp_path / "in.tif", pixels)], window=window)
    assert (found == pixels[:3, 5:45, 9:59]).all()


def test_bands_stand_where_the_model_has_them(tmp_path):
    pixels = image()
    path = write_tiff(tmp_path / "in.tif", pixels)
    spec = replace(SPEC, bands=("nir", "red", "green", "blue"))
    assert (glanced([path], spec=spec, bands=(4, 3, 2, 1))[0] == pixels[[2, 1, 0]]).all()
    two = write_tiff(tmp_path / "two.tif", pixels[:2])
    assert (glanced([two], spec=SPEC)[0] == pixels[[0, 0, 0]]).all()


def test_a_large_raster_is_averaged(tmp_path):
    pixels = image()
    found, _ = glanced([write_tiff(tmp_path / "in.tif", pixels)], most_px=16)
    assert found.shape == (3, 12, 16)
    assert (found == pixels[:3, ::8, ::8]).all()


def test_overviews_are_read_where_there_are_some(tmp_path):
    """Of another colour than the pixels, to tell them apart."""
    path = write_tiff(tmp_path / "in.tif", image(height=512, width=512), tiled=True,
                      blockxsize=128, blockysize=128)  # fmt: skip
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([8], Resampling.average)
    with rasterio.open(path, "r+", overview_level=0) as overview:
        shape = (4, overview.height, overview.width)
    with rasterio.open(path) as dataset:
        expected = dataset.read(out_shape=shape)
    found, _ = glanced([path], most_px=64)
    assert (found == expected[:3]).all()


@pytest.mark.parametrize("most_px", [1000, 40])
def test_files_stand_beside_one_another_and_the_first_lies_above(tmp_path, most_px):
    left, right, below = (image(seed=n) for n in range(3))
    paths = [
        write_tiff(tmp_path / "a.tif", left),
        write_tiff(tmp_path / "b.tif", right, transform=from_origin(X + 128 * 0.2, Y, 0.2, 0.2)),
        write_tiff(tmp_path / "c.tif", below, transform=from_origin(X, Y - 88 * 0.2, 0.2, 0.2)),
    ]
    found, seen = glanced(paths, most_px)
    if most_px == 40:
        assert found.shape == (3, 29, 40)
        assert seen[:14].all()
        assert not seen[16:, 21:].any()
        return
    assert (found[:, :96, :128] == left[:3]).all()
    assert (found[:, :96, 128:] == right[:3]).all()
    assert (found[:, 96:, :128] == below[:3, 8:]).all()
    assert not seen[96:, 128:].any()
    assert seen[:, :128].all()


def test_what_is_not_valid_is_not_seen(tmp_path):
    pixels = image()
    pixels[:, 8:24, 16:40] = 0
    path = write_tiff(tmp_path / "nodata.tif", pixels, nodata=0)
    void = (pixels == 0).all(0)
    assert (glanced([path])[1] == ~void).all()
    alpha = np.concatenate([pixels[:3], np.where(void, 0, 255)[None].astype(np.uint8)])
    rgb = replace(SPEC, bands=("red", "green", "blue"))
    path = write_tiff(tmp_path / "mask.tif", alpha)
    assert (glanced([path], spec=rgb, bands=(1, 2, 3), mask=4)[1] == ~void).all()


def test_a_mask_of_the_file_counts(tmp_path):
    pixels, valid = image(), np.ones((96, 128), np.uint8) * 255
    valid[8:16] = 0
    path = write_tiff(tmp_path / "in.tif", pixels)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(valid)
    assert (glanced([path])[1] == (valid > 0)).all()


@pytest.mark.parametrize("nodata", [None, 0])
def test_images_of_another_sampling_are_warped(tmp_path, nodata):
    """0.1 m to 0.2 m: each pixel the mean of four, exact where these are equal."""
    pixels = image()
    if nodata is not None:
        pixels[:, :16] = nodata
    path = write_tiff(tmp_path / "in.tif", pixels, gsd_m=0.1, nodata=nodata)
    found, seen = glanced([path], resample=True)
    assert found.shape == (3, 48, 64)
    rows = slice(0 if nodata is None else 8, None)
    assert (found[:, rows] == pixels[:3, ::2, ::2][:, rows]).all()
    assert (seen == (np.arange(48) >= (rows.start or 0))[:, None]).all()


def test_images_of_another_crs_are_warped(tmp_path):
    pixels = np.full((4, 200, 200), 90, np.uint8)
    path = write_tiff(tmp_path / "in.tif", pixels)
    with (
        rasterio.open(path) as dataset,
        rasterio.vrt.WarpedVRT(dataset, crs="EPSG:32631") as warped,
    ):
        utm = warped.read()
        turned = write_tiff(
            tmp_path / "utm.tif", utm, crs=warped.crs, transform=warped.transform, nodata=0
        )
    found, seen = glanced([path, turned], resample=True)
    inside = seen.copy()
    assert (found[:, inside] == 90).all()
    assert seen[:200, :200].all()


def test_a_file_that_cannot_be_read_is_told_and_blank(tmp_path):
    path = write_tiff(tmp_path / "in.tif", image(), compress="deflate", blockysize=8)
    told = []
    opened = open_inputs(RGB, Inputs(images=(str(path),)), ReadOptions())
    path.write_bytes(path.read_bytes()[:300])
    whole = Window(top=0, left=0, height=96, width=128)
    found, seen = glance(opened.sheets[0], whole, RGB.bands, 100, told.append)
    opened.close()
    assert not seen.any()
    assert not found.any()
    assert told == [f"{path}: cannot be read for the picture, which is blank there"]
