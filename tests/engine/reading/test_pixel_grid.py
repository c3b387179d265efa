import pytest
import rasterio
from affine import Affine
from doubles.rasters import ORIGIN_M
from rasterio.crs import CRS
from rasterio.transform import from_origin

from flair_engine.errors import SourceError
from flair_engine.reading.files import describe
from flair_engine.reading.pixel_grid import PixelGrid, pixel_grid_of, pixel_size_m, same_crs, span

X, Y = ORIGIN_M
NAMELESS = (
    'PROJCS["EPSG:2154",GEOGCS["unknown",DATUM["unnamed",SPHEROID["unknown",6378137,298.2572]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Lambert_Conformal_Conic_2SP"],PARAMETER["latitude_of_origin",46.5],'
    'PARAMETER["central_meridian",3],PARAMETER["standard_parallel_1",49],'
    'PARAMETER["standard_parallel_2",44],PARAMETER["false_easting",700000],'
    'PARAMETER["false_northing",6600000],UNIT["metre",1]]'
)


def test_the_grid_spans_all_files(describe_at):
    infos = [describe_at("a.tif", 10, 20), describe_at("b.tif", 0, 73, height=30)]
    grid = pixel_grid_of(infos, gsd_m=0.2)
    assert (grid.height, grid.width) == (80, 106)
    assert grid.transform.almost_equals(from_origin(X + 4, Y, 0.2, 0.2), 1e-6)
    assert [grid.place(info) for info in infos] == [(10, 0), (0, 53)]


def test_origins_rounded_in_delivery_are_one_grid(describe_at):
    info = describe_at("a.tif", 0.04, 100.03)
    grid = PixelGrid(height=9, width=9, crs=info.crs, transform=from_origin(X, Y, 0.2, 0.2))
    assert grid.place(info) == (0, 100)
    shifted = describe_at("b.tif", 0.5, 0)
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
        pixel_grid_of([info], gsd_m=0.2, **options)


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
    grid = pixel_grid_of([info], gsd_m=0.2, **options)
    assert (grid.height, grid.width) == (70, 53)


def test_a_local_crs_without_a_known_unit_is_taken_as_metres(make_raster):
    local = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1],AXIS["Easting",EAST]]'
    info = describe(str(make_raster(crs=local)[0]))
    assert pixel_size_m(info) == pytest.approx((0.2, 0.2))


def test_crs_equal_in_definition(describe_at):
    nameless, named = CRS.from_wkt(NAMELESS), CRS.from_epsg(2154)
    assert nameless.to_epsg() is None
    assert same_crs(nameless, named)
    assert same_crs(None, None)
    assert not same_crs(None, named)
    assert not same_crs(CRS.from_epsg(32631), named)
    assert not same_crs(CRS.from_wkt('LOCAL_CS["x",UNIT["metre",1]]'), named)
    infos = [describe_at("a.tif", 0, 0, crs=nameless), describe_at("b.tif", 0, 53)]
    grid = pixel_grid_of(infos, gsd_m=0.2)
    assert grid.crs.to_epsg() == 2154
    assert [grid.place(info) for info in infos] == [(0, 0), (0, 53)]


def test_a_file_in_another_crs_is_where_it_belongs(describe_at, make_raster):
    here = describe_at("a.tif", 0, 0, height=500, width=500)
    bounds = rasterio.warp.transform_bounds(
        "EPSG:2154", "EPSG:32631", X + 20, Y - 80, X + 60, Y - 40
    )
    there = describe(
        str(make_raster(
            "b.tif", height=200, width=200, crs="EPSG:32631",
            transform=from_origin(bounds[0], bounds[3], 0.2, 0.2),
        )[0])
    )  # fmt: skip
    grid = pixel_grid_of([here, there], gsd_m=0.2)
    covered = span(there, grid)
    assert abs(covered.top - 200) < 30
    assert abs(covered.left - 100) < 30
    assert abs(covered.height - 200) < 30
