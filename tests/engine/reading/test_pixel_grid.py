import pytest
import rasterio
from affine import Affine
from doubles.field import LOCAL, noise, write
from doubles.rasters import ORIGIN_M
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_bounds

from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.reading.files import describe
from flair_engine.reading.pixel_grid import PixelGrid, pixel_grid_of, sampling_m, span

X, Y = ORIGIN_M
HERE = PixelGrid(
    height=70, width=53, crs=CRS.from_epsg(2154), transform=from_origin(X, Y, 0.2, 0.2)
)


def test_the_grid_spans_all_files(describe_at):
    infos = [describe_at("a.tif", 10, 20), describe_at("b.tif", 0, 73, height=30)]
    grid = pixel_grid_of(infos, gsd_m=0.2)
    assert (grid.height, grid.width) == (80, 106)
    assert grid.transform.almost_equals(from_origin(X + 4, Y, 0.2, 0.2), 1e-6)
    assert [grid.place(info) for info in infos] == [(10, 0), (0, 53)]


@given(
    st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 90), st.integers(1, 90),
    st.floats(0.1, 3), st.floats(-180, 180),
)  # fmt: skip
def test_a_part_of_a_grid_lies_where_it_was_cut(top, left, height, width, size_m, turn):
    geotransform = Affine.translation(X, Y) @ Affine.rotation(turn) @ Affine.scale(size_m, -size_m)
    grid = PixelGrid(height=9, width=9, crs=HERE.crs, transform=geotransform)
    window = Window(top=top, left=left, height=height, width=width)
    part = grid.of(window)
    assert grid.place(part) == (top, left)
    assert span(part, grid, "part") == window


def test_origins_rounded_in_delivery_are_one_grid(describe_at):
    info = describe_at("a.tif", 0.04, 100.03)
    assert HERE.place(info) == (0, 100)
    shifted = describe_at("b.tif", 0.5, 0)
    assert HERE.place(shifted) is None
    assert span(shifted, HERE, "b.tif") == Window(top=0, left=0, height=71, width=53)


@pytest.mark.parametrize("other", [{"gsd_m": 0.4}, {"gsd_m": 0.201}, {"crs": "EPSG:32631"},
                                   {"crs": None}])  # fmt: skip
def test_other_pixels_are_of_another_grid(make_raster, other):
    assert HERE.place(describe(str(make_raster(**other)[0]))) is None


def test_pixels_that_are_turned_or_mirrored_are_of_another_grid():
    for turn in (Affine.rotation(5), Affine.scale(1, -1), Affine.scale(-1, 1)):
        turned = PixelGrid(height=9, width=9, crs=HERE.crs, transform=HERE.transform @ turn)
        assert HERE.place(turned) is None


NO_PLACE = {"crs": None, "transform": None}
GCPS = [GroundControlPoint(row, col, X + col, Y - row) for row, col in ((0, 0), (0, 9), (9, 0))]


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        (
            NO_PLACE,
            {},
            "in.tif: has no georeference, .* if a pixel is 0.2 m, say so with --gsd 0.2",
        ),
        ({"transform": None}, {}, "has no georeference"),
        (
            {"crs": None},
            {},
            r"has a place \(as of a world file\) but no CRS, .*gdal_edit.*--gsd 0.2",
        ),
        ({"transform": None, "gcps": GCPS}, {}, "ground control points alone, .*gdalwarp -t_srs"),
        ({"crs": "EPSG:4326"}, {}, "its CRS is in degrees, the model wants metres: reproject with"),
        ({"gsd_m": 0.15}, {}, r"ground sampling is 0.15 x 0.15 m, .* use --resample"),
        ({"gsd_m": 0.2021}, {}, r"ground sampling is 0.2021 x"),
        ({"crs": "EPSG:2225", "transform": from_origin(1.9e6, 6e5, 0.2, 0.2)}, {}, "is 0.06096 x"),
        ({"crs": LOCAL, "gsd_m": 0.3}, {}, "ground sampling is 0.3 x 0.3 m"),
        ({}, {"assumed_gsd_m": 0.5}, r"ground sampling is 0.5 x 0.5 m"),
    ],
)
def test_ground_sampling_that_is_refused(tmp_path, profile, options, message):
    info = describe(str(write(tmp_path / "in.tif", noise(1, 70, 53), **profile)))
    with pytest.raises(SourceError, match=message):
        pixel_grid_of([info], gsd_m=0.2, **options)


FOOT = from_origin(1.9e6, 6e5, 0.2 * 3937 / 1200, 0.2 * 3937 / 1200)


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        ({"gsd_m": 0.200000000000001}, {}),
        ({"gsd_m": 0.2019}, {}),
        ({"crs": LOCAL}, {}),
        ({"crs": "EPSG:2225", "transform": FOOT}, {}),
        ({"transform": Affine(0.1, 0.173205, 7e5, 0.173205, -0.1, 6e6)}, {}),
        (NO_PLACE, {"assumed_gsd_m": 0.2}),
        ({"crs": None}, {"assumed_gsd_m": 0.2}),
        ({"transform": None, "gcps": GCPS}, {"assumed_gsd_m": 0.2}),
        ({"crs": "EPSG:4326"}, {"assumed_gsd_m": 0.2}),
    ],
)
def test_ground_sampling_that_is_accepted(tmp_path, profile, options):
    info = describe(str(write(tmp_path / "in.tif", noise(1, 70, 53), **profile)))
    grid = pixel_grid_of([info], gsd_m=0.2, **options)
    assert (grid.height, grid.width) == (70, 53)
    assert grid.transform.almost_equals(info.transform, 1e-9)


@pytest.mark.parametrize(
    ("crs", "corner"),
    [("EPSG:32631", (1e8, 5e6)), ("EPSG:3035", (1e9, 1e9)), ("EPSG:3857", (0, 1e13))],
)
@pytest.mark.parametrize("resample", [False, True])
def test_a_corner_outside_its_crs(make_raster, crs, corner, resample):
    path, _ = make_raster(crs=crs, transform=from_origin(*corner, 0.2, 0.2))
    message = (
        rf"in.tif: its corner \({corner[0]:.0f}, {corner[1]:.0f}\) lies outside its CRS \({crs}"
    )
    with pytest.raises(SourceError, match=message):
        pixel_grid_of([describe(str(path))], gsd_m=0.2, resample=resample)


def test_sampling_is_that_of_the_ground(make_raster):
    (x,), (y,) = transform("EPSG:4326", "EPSG:3857", [2.0], [47.0])
    mercator = from_origin(x, y, 0.2, 0.2)
    info = describe(str(make_raster(crs="EPSG:3857", transform=mercator)[0]))
    assert sampling_m(info, gsd_m=0.2) == pytest.approx((0.1366, 0.1366), rel=5e-3)
    # Where the projection hardly stretches, pixels are as large as they say.
    info = describe(str(make_raster("b.tif")[0]))
    assert sampling_m(info, gsd_m=0.2) == pytest.approx((0.2, 0.2), abs=1e-12)
    assert sampling_m(info, gsd_m=0.2, assumed_gsd_m=0.7) == (0.7, 0.7)


def test_resampling_gives_pixels_of_the_ground_over_the_same_extent(make_raster):
    (x,), (y,) = transform("EPSG:4326", "EPSG:3857", [2.0], [47.0])
    mercator = from_origin(x, y, 0.4, 0.4)
    info = describe(str(make_raster(crs="EPSG:3857", transform=mercator, height=400, width=300)[0]))
    grid = pixel_grid_of([info], gsd_m=0.2, resample=True)
    across_m, down_m = sampling_m(info, gsd_m=0.2)
    assert grid.transform.a == pytest.approx(0.4 * 0.2 / across_m)
    assert grid.transform.e == pytest.approx(-0.4 * 0.2 / down_m)
    assert (grid.transform.c, grid.transform.f) == (info.transform.c, info.transform.f)
    assert grid.height - 1 < 400 * down_m / 0.2 <= grid.height
    assert grid.width - 1 < 300 * across_m / 0.2 <= grid.width


def test_the_grid_is_named_by_whichever_file_names_it(describe_at):
    nameless = describe_at("a.tif", 0, 0, crs=LOCAL)
    named = describe_at("b.tif", 0, 53)
    for grid in (
        pixel_grid_of([nameless, named], gsd_m=0.2),
        pixel_grid_of([nameless], [named], gsd_m=0.2),
    ):
        assert grid.crs.to_epsg() == 2154
        assert [grid.place(info) for info in (nameless, named)] == [(0, 0), (0, 53)]


def test_a_file_in_another_crs_is_where_it_belongs(describe_at, make_raster):
    here = describe_at("a.tif", 0, 0, height=500, width=500)
    bounds = transform_bounds("EPSG:2154", "EPSG:32631", X + 20, Y - 80, X + 60, Y - 40)
    there = describe(
        str(make_raster(
            "b.tif", height=200, width=200, crs="EPSG:32631",
            transform=from_origin(bounds[0], bounds[3], 0.2, 0.2),
        )[0])
    )  # fmt: skip
    grid = pixel_grid_of([here, there], gsd_m=0.2)
    edges = rasterio.warp.transform_bounds(
        "EPSG:32631", "EPSG:2154", bounds[0], bounds[3] - 40, bounds[0] + 40, bounds[3]
    )
    covered = span(there, grid, there.name)
    assert covered.left == pytest.approx((edges[0] - X) / 0.2, abs=1)
    assert covered.top == pytest.approx((Y - edges[3]) / 0.2, abs=1)
    assert covered.right == pytest.approx((edges[2] - X) / 0.2, abs=1)
    assert covered.bottom == pytest.approx((Y - edges[1]) / 0.2, abs=1)


def test_a_file_without_crs_among_others(describe_at):
    infos = [describe_at("a.tif", 0, 0), describe_at("b.tif", 0, 53, crs=None)]
    for files in (infos, infos[::-1]):
        with pytest.raises(
            SourceError, match=r"tif: has no CRS while other files have one: assign"
        ):
            pixel_grid_of(files, gsd_m=0.2, assumed_gsd_m=0.2)


@pytest.mark.parametrize("crs", ['LOCAL_CS["x",UNIT["metre",1]]', "EPSG:32631"])
def test_a_crs_that_cannot_be_brought_to_that_of_the_map(describe_at, crs):
    far = {"crs": crs} if crs.startswith("LOCAL") else {"crs": crs, "col": 1e9}
    infos = [describe_at("a.tif", 0, 0), describe_at("b.tif", **{"row": 0, "col": 53, **far})]
    message = r"b.tif: its CRS \(.*\) cannot be brought to EPSG:2154: assign the right one with"
    with pytest.raises(SourceError, match=message):
        pixel_grid_of(infos, gsd_m=0.2)
