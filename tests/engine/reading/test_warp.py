import numpy as np
import pytest
import rasterio
from affine import Affine

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.reading.files import describe
from flair_engine.reading.pixel_grid import pixel_grid_of, pixel_size_m
from flair_engine.reading.vrt import Placed
from flair_engine.reading.warp import joined_infos, layers_on, warper


def test_resampling_keeps_the_extent(make_raster):
    info = describe(str(make_raster(height=80, width=60, gsd_m=0.15)[0]))
    grid = pixel_grid_of([info], gsd_m=0.2, resample=True)
    assert (grid.height, grid.width) == (60, 45)
    assert pixel_size_m(info) == pytest.approx((0.15, 0.15))
    (layer,) = layers_on(grid, [info], (1, 2))
    pixels, valid = layer.read(Window(top=0, left=0, height=60, width=45))
    assert pixels.shape == (2, 60, 45)
    assert valid is None
    layer.close()


def test_resampling_by_two_is_the_bilinear_mean(make_raster):
    path, image = make_raster(height=40, width=40, gsd_m=0.1)
    info = describe(str(path))
    grid = pixel_grid_of([info], gsd_m=0.2, resample=True)
    (layer,) = layers_on(grid, [info], (1, 2))
    pixels, _ = layer.read(Window(top=0, left=0, height=20, width=20))
    with rasterio.open(path) as dataset, rasterio.vrt.WarpedVRT(
        dataset, transform=grid.transform, height=20, width=20,
        resampling=rasterio.enums.Resampling.bilinear,
    ) as oracle:  # fmt: skip
        assert (pixels == oracle.read()).all()
    assert abs(pixels.mean() - image.mean()) < 2


def test_files_cut_from_one_are_warped_as_one(make_raster, tmp_path):
    path, image = make_raster("whole.tif", height=60, width=80, gsd_m=0.15)
    whole = describe(str(path))
    halves = []
    for n, cols in enumerate((slice(0, 33), slice(33, 80))):
        with rasterio.open(path) as dataset:
            profile = dataset.profile | {
                "width": cols.stop - cols.start,
                "transform": dataset.transform @ Affine.translation(cols.start, 0),
            }
        half = tmp_path / f"half{n}.tif"
        with rasterio.open(half, "w", **profile) as dataset:
            dataset.write(image[:, :, cols])
        halves.append(describe(str(half)))
    grid = pixel_grid_of([whole], gsd_m=0.2, resample=True)
    window = Window(top=0, left=0, height=grid.height, width=grid.width)
    (one,), (joined,) = (layers_on(grid, files, (1, 2)) for files in ([whole], halves))
    assert (one.read(window)[0] == joined.read(window)[0]).all()
    one.close()
    joined.close()


def test_a_shifted_file_among_others_is_warped_alone(describe_at):
    infos = [describe_at("a.tif", 0, 0), describe_at("b.tif", 0.5, 53)]
    grid = pixel_grid_of(infos, gsd_m=0.2)
    layers = layers_on(grid, infos, (1, 2))
    assert layers[0].window == Window(top=0, left=0, height=70, width=53)
    assert layers[1].window == Window(top=0, left=0, height=grid.height, width=grid.width)
    _, valid = layers[1].read(layers[1].window)
    assert not valid[:, :53].any()
    assert valid[1:70, 54:105].all()
    for layer in layers:
        layer.close()


def test_warping_takes_nodata_and_unchosen_alpha_as_invalid(make_raster):
    path, image = make_raster(height=40, width=40, gsd_m=0.1, bands=2, nodata=255)
    image[:, :, :20] = 255
    with rasterio.open(path, "r+") as dataset:
        dataset.write(image)
    info = describe(str(path))
    grid = pixel_grid_of([info], gsd_m=0.2, resample=True)
    (layer,) = layers_on(grid, [info], (1, 2))
    _, valid = layer.read(layer.window)
    assert not valid[:, :9].any()
    assert valid[:, 11:].all()
    (layer,) = layers_on(grid, [info], (1, 2), nodata="none")
    assert layer.read(layer.window)[1] is None


def test_a_file_without_crs_among_others(describe_at):
    infos = [describe_at("a.tif", 0, 0), describe_at("b.tif", 0, 53, crs=None)]
    with pytest.raises(SourceError, match="has no CRS while other files have one"):
        pixel_grid_of(infos, gsd_m=0.2)
    grid = pixel_grid_of(infos[:1], gsd_m=0.2)
    with pytest.raises(SourceError, match="cannot be warped, because it or the image has no CRS"):
        warper(grid, [Placed(infos[1], 0, 0)], (1,))


def test_files_on_grids_of_their_own_are_not_joined(describe_at):
    infos = [describe_at("a.tif", 0, 0), describe_at("b.tif", 0.5, 53)]
    assert joined_infos(infos) is None
    assert [place[1:] for place in joined_infos(infos[:1])] == [(0, 0)]
    assert np.isclose(infos[0].transform.a, 0.2)
