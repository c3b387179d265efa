"""Metres on the ground in any CRS, hectares of what is mapped, and areas of interest."""

import re

import numpy as np
import pytest
import rasterio
from doubles.field import (
    LOCAL,
    box_labels,
    flat,
    ground_m2,
    mapped,
    noise,
    refused,
    write,
    write_shapes,
)
from rasterio.transform import from_origin
from rasterio.warp import transform

FOOT_M = 1200 / 3937
EXACT = 2e-4
"""Relative: what is left between a pixel's size in the middle and the sum over a small raster."""


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


@pytest.fixture
def mercator(tmp_path):
    """Write an image in EPSG:3857 at 47 N with pixels of so many units."""
    (x,), (y,) = transform("EPSG:4326", "EPSG:3857", [2.0], [47.0])

    def make(units, size=100):
        path = tmp_path / f"{units:.4f}.tif"
        place = {"crs": "EPSG:3857", "transform": from_origin(x, y, units, units)}
        return write(path, noise(2, size, size), **place)

    return make


@pytest.mark.parametrize("crs", ["EPSG:2263", "EPSG:2263+6360"])
def test_hectares_of_pixels_in_feet(red_and_green, tmp_path, crs):
    foot = from_origin(1_000_000, 200_000, 0.2 / FOOT_M, 0.2 / FOOT_M)
    path = write(tmp_path / "in.tif", noise(2, 100, 100), crs=crs, transform=foot)
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    assert found.hectares == pytest.approx(100 * 100 * 0.04 / 1e4, rel=1e-3)
    assert found.hectares == pytest.approx(ground_m2(path) / 1e4, rel=EXACT)


def test_hectares_are_those_of_the_ground_in_lambert_93(red_and_green, tmp_path):
    place = from_origin(700_000, 7_110_000, 0.2, 0.2)  # Dunkirk: 0.2 m there is 0.4 % off
    path = write(tmp_path / "in.tif", noise(2, 100, 100), transform=place)
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    right = ground_m2(path) / 1e4
    assert abs(right / 0.04 - 1) > 1e-3
    assert found.hectares == pytest.approx(right, rel=EXACT)


def test_hectares_of_what_has_no_georeference_are_by_the_model(red_and_green, tmp_path):
    path = write(tmp_path / "in.tif", noise(2, 60, 50), crs=None, transform=None)
    found = mapped(red_and_green, tmp_path / "map.tif", path, "--gsd", "0.2")
    assert found.hectares == pytest.approx(60 * 50 * 0.04 / 1e4)


def test_units_that_are_no_metres_are_not_taken_for_them(red_and_green, mercator, tmp_path):
    line = refused(red_and_green, mercator(0.2), tmp_path / "map.tif")
    assert re.search(r"0\.2000\.tif.* 0\.13\d* .*--resample", line)


def test_an_image_of_the_right_size_on_the_ground_is_mapped(red_and_green, mercator, tmp_path):
    path = mercator(0.2929)  # 0.2 m at 47 N
    found = mapped(red_and_green, tmp_path / "map.tif", path)
    assert ground_m2(path) == pytest.approx(100 * 100 * 0.04, rel=0.01)
    assert found.hectares == pytest.approx(ground_m2(path) / 1e4, rel=EXACT)
    with rasterio.open(path) as dataset:
        image = dataset.read()
    assert (found.labels == box_labels(*image)).all()


@pytest.mark.parametrize("units", [156543.03392804097 / 2**19, 0.2])
def test_resampled_pixels_are_of_the_models_size_on_the_ground(
    red_and_green, mercator, tmp_path, units
):
    path, output = mercator(units), tmp_path / "map.tif"
    found = mapped(red_and_green, output, path, "--resample")
    pixels = found.labels.size
    assert ground_m2(output) / pixels == pytest.approx(0.04, rel=0.01)
    assert ground_m2(output) == pytest.approx(ground_m2(path), rel=0.03)
    assert found.hectares == pytest.approx(
        ground_m2(output) / 1e4 * (1 - found.report["nodata_pixels"] / pixels), rel=EXACT
    )


@pytest.mark.parametrize("odd", ["a.tif", "b.tif"])
def test_an_image_of_another_sampling_is_refused_wherever_it_stands(red_and_green, tmp_path, odd):
    for name, col in (("a.tif", 0), ("b.tif", 50)):
        gsd_m = 0.5 if name == odd else 0.2
        write(tmp_path / "in" / name, noise(2, 50, 50), gsd_m=gsd_m, col=col)
    line = refused(red_and_green, tmp_path / "in", tmp_path / "map.tif")
    assert re.search(rf"{odd}.* 0\.5.*--resample", line)
    assert mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in", "--resample").labels.any()


@pytest.mark.parametrize("odd", ["rvb", "irc"])
def test_a_product_of_another_sampling_is_refused(band_model, tmp_path, odd):
    model = band_model("red", "green", "blue", "nir")
    for name, bands in (("rvb", 3), ("irc", 3)):
        gsd_m = 0.5 if name == odd else 0.2
        size = round(10 / gsd_m)
        write(tmp_path / f"{name}.tif", noise(bands, size, size), gsd_m=gsd_m)
    given = ["--rvb", tmp_path / "rvb.tif", "--irc", tmp_path / "irc.tif"]
    line = refused(model, *given, tmp_path / "map.tif")
    assert re.search(rf"{odd}\.tif.* 0\.5.*--resample", line)


def test_heights_may_have_any_sampling(band_model, tmp_path):
    red = write(tmp_path / "red.tif", flat(60, 50, 50))
    dsm = write(tmp_path / "dsm.tif", flat(120, 10, 10, "float32"), gsd_m=1.0)
    dtm = write(tmp_path / "dtm.tif", flat(100, 2, 2, "float32"), gsd_m=5.0)
    model = band_model("red", "elevation")
    found = mapped(model, tmp_path / "map.tif", red, "--dsm", dsm, "--dtm", dtm)
    assert (found.labels == 3).all()


@pytest.fixture
def image(tmp_path):
    """Write an image of 25 cores; return (path, labels)."""
    pixels = noise(2, 80, 80)
    return write(tmp_path / "in.tif", pixels), box_labels(*pixels)


def test_a_feature_without_a_shape_is_left_out(red_and_green, image, tmp_path):
    path, labels = image
    area = write_shapes(tmp_path / "area.geojson", (33, 33, 43, 43), None)
    found = mapped(red_and_green, tmp_path / "map.tif", path, "--aoi", area)
    assert (found.labels == labels[33:43, 33:43]).all()


def test_an_area_on_images_without_georeference_is_refused(red_and_green, tmp_path):
    path = write(tmp_path / "in.tif", noise(2, 80, 80), crs=None, transform=None)
    area = write_shapes(tmp_path / "area.geojson", (33, 33, 43, 43))
    line = refused(red_and_green, path, "--gsd", "0.2", "--aoi", area, tmp_path / "map.tif")
    assert re.search("CRS|georeference", line)


def test_an_area_on_images_whose_crs_is_a_name(red_and_green, tmp_path):
    pixels = noise(2, 80, 80)
    path = write(tmp_path / "in.tif", pixels, crs=LOCAL)
    area = write_shapes(tmp_path / "area.geojson", (33, 33, 43, 43))
    found = mapped(red_and_green, tmp_path / "map.tif", path, "--aoi", area)
    assert (found.labels == box_labels(*pixels)[33:43, 33:43]).all()


def test_an_area_that_covers_the_world(red_and_green, image, tmp_path):
    path, labels = image
    area = tmp_path / "world.geojson"
    area.write_text(
        '{"type": "Polygon", "coordinates": '
        "[[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]}"
    )
    found = mapped(red_and_green, tmp_path / "map.tif", path, "--aoi", area)
    assert (found.labels == labels).all()


@pytest.mark.parametrize("whole_cores", [False, True])
def test_hectares_of_an_area_are_those_of_what_is_mapped(
    red_and_green, image, tmp_path, whole_cores
):
    path, _ = image
    area = write_shapes(tmp_path / "area.geojson", (0, 0, 10, 10), (70, 70, 78, 78))
    options = ["--aoi", area, *["--whole-cores"] * whole_cores]
    found = mapped(red_and_green, tmp_path / "map.tif", path, *options)
    share = np.count_nonzero(found.labels) / 80**2
    assert share == (2 * 16**2 if whole_cores else 100 + 64) / 80**2
    assert found.hectares == pytest.approx(ground_m2(path) / 1e4 * share, rel=EXACT)


@pytest.mark.parametrize("odd", ["a.tif", "b.tif"])
def test_a_sampling_that_is_told_is_that_of_all_files(red_and_green, tmp_path, odd):
    for name, col in (("a.tif", 0), ("b.tif", 50)):
        gsd_m = 0.5 if name == odd else 0.2
        write(tmp_path / "in" / name, noise(2, 50, 50), gsd_m=gsd_m, col=col * 0.2 / gsd_m)
    line = refused(red_and_green, tmp_path / "in", "--gsd", "0.2", tmp_path / "map.tif")
    assert re.search(r"b.tif: ground sampling is 0\.(5|08) x", line)
