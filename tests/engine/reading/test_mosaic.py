import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.transform import from_origin

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.reading.files import describe
from flair_engine.reading.mosaic import (
    PixelGrid,
    describe_all,
    expand,
    grid_of,
    joined_infos,
    layers_on,
    pixel_size_m,
    same_crs,
    span,
    warper,
)

X, Y = 721104.4, 6248980.8
NAMELESS = (
    'PROJCS["EPSG:2154",GEOGCS["unknown",DATUM["unnamed",SPHEROID["unknown",6378137,298.2572]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Lambert_Conformal_Conic_2SP"],PARAMETER["latitude_of_origin",46.5],'
    'PARAMETER["central_meridian",3],PARAMETER["standard_parallel_1",49],'
    'PARAMETER["standard_parallel_2",44],PARAMETER["false_easting",700000],'
    'PARAMETER["false_northing",6600000],UNIT["metre",1]]'
)


def at(make_raster, name, row, col, **options):
    transform = from_origin(X + col * 0.2, Y - row * 0.2, 0.2, 0.2)
    return describe(str(make_raster(name, transform=transform, **options)[0]))


def test_folders_patterns_and_names_stand_for_files(make_raster, tmp_path):
    for name in ("b.tif", "a.tif", "c.TIF"):
        make_raster(name)
    (tmp_path / "note.txt").touch()
    names = [str(tmp_path / name) for name in ("a.tif", "b.tif", "c.TIF")]
    assert expand([str(tmp_path)]) == names
    assert expand([str(tmp_path / "*.tif")]) == names[:2]
    assert expand([names[1], str(tmp_path)]) == [names[1], names[0], names[2]]


@pytest.mark.parametrize(
    ("name", "message"), [("", "a folder without rasters"), ("*.jp2", "a pattern that matches no")]
)
def test_names_that_stand_for_nothing(tmp_path, name, message):
    with pytest.raises(SourceError, match=message):
        expand([f"{tmp_path}/{name}"])


def test_no_such_file(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        describe_all([str(tmp_path / "absent.tif")])


def test_the_grid_spans_all_files(make_raster):
    infos = [at(make_raster, "a.tif", 10, 20), at(make_raster, "b.tif", 0, 73, height=30)]
    grid = grid_of(infos, gsd_m=0.2)
    assert (grid.height, grid.width) == (80, 106)
    assert grid.transform.almost_equals(from_origin(X + 4, Y, 0.2, 0.2), 1e-6)
    assert [grid.place(info) for info in infos] == [(10, 0), (0, 53)]


def test_origins_rounded_in_delivery_are_one_grid(make_raster):
    info = at(make_raster, "a.tif", 0.04, 100.03)
    grid = PixelGrid(height=9, width=9, crs=info.crs, transform=from_origin(X, Y, 0.2, 0.2))
    assert grid.place(info) == (0, 100)
    shifted = at(make_raster, "b.tif", 0.5, 0)
    assert grid.place(shifted) is None


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        ({"crs": None}, {}, "has no georeference, .* say so with --gsd 0.2"),
        ({"transform": Affine.identity()}, {}, "has no georeference"),
        ({"crs": "EPSG:4326"}, {}, "its CRS is in degrees"),
        ({"gsd_m": 0.15}, {}, r"ground sampling is 0.15 x 0.15 m, .* use --resample"),
        ({"crs": "EPSG:2225"}, {}, r"ground sampling is 0.06096 x 0.06096 m"),
        ({}, {"assumed_gsd_m": 0.5}, r"ground sampling is 0.5 x 0.5 m"),
    ],
)
def test_ground_sampling_that_is_refused(make_raster, profile, options, message):
    info = describe(str(make_raster(**profile)[0]))
    with pytest.raises(SourceError, match=message):
        grid_of([info], gsd_m=0.2, **options)


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ({"gsd_m": 0.200000000000001}, {}),
        ({"crs": None}, {"assumed_gsd_m": 0.2}),
        ({"crs": "EPSG:4326"}, {"assumed_gsd_m": 0.2}),
        ({"transform": Affine(0.1, 0.173205, 7e5, 0.173205, -0.1, 6e6)}, {}),
    ],
)
def test_ground_sampling_that_is_accepted(make_raster, profile, options):
    info = describe(str(make_raster(**profile)[0]))
    grid = grid_of([info], gsd_m=0.2, **options)
    assert (grid.height, grid.width) == (70, 53)


def test_a_local_crs_without_a_known_unit_is_taken_as_metres(make_raster):
    local = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1],AXIS["Easting",EAST]]'
    info = describe(str(make_raster(crs=local)[0]))
    assert pixel_size_m(info) == pytest.approx((0.2, 0.2))


def test_resampling_keeps_the_extent(make_raster):
    info = describe(str(make_raster(height=80, width=60, gsd_m=0.15)[0]))
    grid = grid_of([info], gsd_m=0.2, resample=True)
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
    grid = grid_of([info], gsd_m=0.2, resample=True)
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
    grid = grid_of([whole], gsd_m=0.2, resample=True)
    window = Window(top=0, left=0, height=grid.height, width=grid.width)
    (one,), (joined,) = (layers_on(grid, files, (1, 2)) for files in ([whole], halves))
    assert (one.read(window)[0] == joined.read(window)[0]).all()
    one.close()
    joined.close()


def test_a_shifted_file_among_others_is_warped_alone(make_raster):
    infos = [at(make_raster, "a.tif", 0, 0), at(make_raster, "b.tif", 0.5, 53)]
    grid = grid_of(infos, gsd_m=0.2)
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
    grid = grid_of([info], gsd_m=0.2, resample=True)
    (layer,) = layers_on(grid, [info], (1, 2))
    _, valid = layer.read(layer.window)
    assert not valid[:, :9].any()
    assert valid[:, 11:].all()
    (layer,) = layers_on(grid, [info], (1, 2), nodata="none")
    assert layer.read(layer.window)[1] is None


def test_crs_equal_in_definition(make_raster):
    nameless, named = CRS.from_wkt(NAMELESS), CRS.from_epsg(2154)
    assert nameless.to_epsg() is None
    assert same_crs(nameless, named)
    assert same_crs(None, None)
    assert not same_crs(None, named)
    assert not same_crs(CRS.from_epsg(32631), named)
    assert not same_crs(CRS.from_wkt('LOCAL_CS["x",UNIT["metre",1]]'), named)
    infos = [at(make_raster, "a.tif", 0, 0, crs=nameless), at(make_raster, "b.tif", 0, 53)]
    grid = grid_of(infos, gsd_m=0.2)
    assert grid.crs.to_epsg() == 2154
    assert [grid.place(info) for info in infos] == [(0, 0), (0, 53)]


def test_a_file_in_another_crs_is_where_it_belongs(make_raster):
    here = at(make_raster, "a.tif", 0, 0, height=500, width=500)
    bounds = rasterio.warp.transform_bounds(
        "EPSG:2154", "EPSG:32631", X + 20, Y - 80, X + 60, Y - 40
    )
    there = describe(
        str(make_raster(
            "b.tif", height=200, width=200, crs="EPSG:32631",
            transform=from_origin(bounds[0], bounds[3], 0.2, 0.2),
        )[0])
    )  # fmt: skip
    grid = grid_of([here, there], gsd_m=0.2)
    covered = span(there, grid)
    assert abs(covered.top - 200) < 30
    assert abs(covered.left - 100) < 30
    assert abs(covered.height - 200) < 30


def test_a_file_without_crs_among_others(make_raster):
    infos = [at(make_raster, "a.tif", 0, 0), at(make_raster, "b.tif", 0, 53, crs=None)]
    with pytest.raises(SourceError, match="has no CRS while other files have one"):
        grid_of(infos, gsd_m=0.2)
    grid = grid_of(infos[:1], gsd_m=0.2)
    with pytest.raises(SourceError, match="cannot be warped, because it or the image has no CRS"):
        warper(grid, [(infos[1], 0, 0)], (1,))


def test_files_on_grids_of_their_own_are_not_joined(make_raster):
    infos = [at(make_raster, "a.tif", 0, 0), at(make_raster, "b.tif", 0.5, 53)]
    assert joined_infos(infos) is None
    assert [place[1:] for place in joined_infos(infos[:1])] == [(0, 0)]
    assert np.isclose(infos[0].transform.a, 0.2)
