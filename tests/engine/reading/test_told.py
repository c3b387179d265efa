import re

import numpy as np
import pytest
import rasterio
from doubles.field import LOCAL, Placed, noise, write, write_vrt
from doubles.layers import BlockLayer, raster_of
from rasterio.control import GroundControlPoint
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from flair_engine.grid import Window
from flair_engine.options import ReadOptions
from flair_engine.reading.bands import Chosen, choose_bands
from flair_engine.reading.files import describe
from flair_engine.reading.layers import Product
from flair_engine.reading.metres import to_metres
from flair_engine.reading.pixel_grid import pixel_grid_of
from flair_engine.reading.products import Given
from flair_engine.reading.told import (
    band_notices,
    crs_notices,
    extent_notices,
    overlap_notices,
    place_notices,
    warp_notices,
)

PLAIN = ReadOptions()


@pytest.fixture
def described(tmp_path):
    def make(name="in.tif", bands=1, dtype="uint8", **said):
        said.setdefault("photometric", "minisblack")
        return describe(str(write(tmp_path / name, noise(bands, 20, 30).astype(dtype), **said)))

    return make


def product(name, *infos, numbers=(1,), options=PLAIN, metres=False):
    files = [
        Chosen(
            info, choose_bands(info, numbers, options, metres=to_metres(info) if metres else None)
        )
        for info in infos
    ]
    return Given(name=name, bands=("band",) * len(numbers), files=files)


def shortened(notices, tmp_path):
    return [notice.replace(f"{tmp_path}/", "") for notice in notices]


def test_plain_files_are_not_told_of(described):
    info = described(bands=4, nodata=0)
    given = product("images", info, numbers=(1, 2, 3))
    grid = pixel_grid_of([info], gsd_m=0.2)
    assert band_notices([given], PLAIN) == []
    assert place_notices([info], PLAIN) == []
    assert place_notices([info], ReadOptions(gsd_m=0.2)) == []
    assert crs_notices(grid, [info]) == []
    assert warp_notices(grid, [given]) == []
    assert overlap_notices([info], [Window(top=0, left=0, height=9, width=9)], apart=False) == []


@pytest.mark.parametrize("name", ["images", "rvb", "irc"])
def test_bands_that_are_taken_by_name_are_told_once(described, tmp_path, name):
    infos = [described(f"{n}.tif", 3, names=("blue", "", "red")) for n in range(3)]
    notices = band_notices([product(name, *infos, numbers=(3, 2, 1))], PLAIN)
    assert shortened(notices, tmp_path) == [
        (
            "0.tif: bands are taken by the colours they are tagged with "
            "(red from 3, band from 2, blue from 1) (and 2 files more)"
        )
    ]


def test_bands_that_were_asked_for_are_not_told_of(described):
    options = ReadOptions(bands=(3, 2, 1))
    given = product("images", described(bands=3), numbers=(3, 2, 1), options=options)
    assert band_notices([given], options) == []


@pytest.mark.parametrize(
    ("bands", "options", "told"),
    [
        (4, PLAIN, True),
        (5, PLAIN, True),
        (2, PLAIN, False),  # gray and alpha can hold no near infrared
        (4, ReadOptions(mask="alpha"), False),
        (4, ReadOptions(mask="none"), False),
        (4, ReadOptions(mask=4), False),
    ],
)
def test_alpha_of_many_bands_is_told(described, tmp_path, bands, options, told):
    info = described(bands=bands, kinds=("undefined",) * (bands - 1) + ("alpha",))
    notices = band_notices([product("images", info, options=options)], options)
    assert (
        shortened(notices, tmp_path)
        == [
            (
                f"in.tif: band {bands} is tagged alpha and taken for a mask; --mask none if it is "
                "near infrared"
            )
        ]
        * told
    )


def test_heights_above_ground_in_metres_are_told(described, tmp_path):
    infos = [described(f"{n}.tif", dtype="float32") for n in range(2)]
    notices = band_notices([product("ndsm", *infos, metres=True)], PLAIN)
    assert shortened(notices, tmp_path) == ["0.tif: float32, taken as metres (and 1 files more)"]
    assert band_notices([product("ndsm", described())], PLAIN) == []
    assert band_notices([product("dsm", *infos, metres=True)], PLAIN) == []


UNKNOWN = (
    "is computed or warped, or holds what is: what its sources cover is not known, and without "
    "alpha or nodata every pixel counts"
)


@pytest.fixture
def warped(described, tmp_path):
    """Write a warped VRT, and one that shows it; return a function that describes one of them."""

    def make(depth, **said):
        inner = tmp_path / "0.vrt"
        with (
            rasterio.open(described(bands=2).name) as dataset,
            WarpedVRT(dataset, crs="EPSG:32631", **said) as view,
        ):
            height, width = view.shape
            copy(view, inner, driver="VRT")
        placed = [Placed(inner, 0, 0, height, width)]
        size = {"height": height, "width": width, "bands": 2}
        write_vrt(tmp_path / "1.vrt", placed, **size, nodata=said.get("nodata"))
        return describe(str(tmp_path / f"{depth}.vrt"))

    return make


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("name", ["images", "irc", "ndsm", "dtm"])
def test_a_vrt_whose_gaps_are_not_known_is_told(warped, tmp_path, depth, name):
    notices = band_notices([product(name, warped(depth), warped(depth))], PLAIN)
    assert shortened(notices, tmp_path) == [f"{depth}.vrt: {UNKNOWN} (and 1 files more)"]


@pytest.mark.parametrize("depth", [0, 1])
def test_a_vrt_that_says_what_is_valid_is_not_told_of(warped, depth):
    info = warped(depth, nodata=0)
    assert band_notices([product("images", info)], PLAIN) == []
    none = ReadOptions(nodata="none")
    assert len(band_notices([product("images", info, options=none)], none)) == 1
    masked = ReadOptions(nodata="none", mask=2)
    assert band_notices([product("images", info, options=masked)], masked) == []


def test_a_mosaic_is_not_told_of(described, tmp_path):
    placed = [Placed(tmp_path / "in.tif", 0, 0, 20, 30)]
    described()
    info = describe(str(write_vrt(tmp_path / "in.vrt", placed, height=40, width=40)))
    assert band_notices([product("images", info)], PLAIN) == []


GCPS = [GroundControlPoint(row, col, 7e5 + col, 6e6 - row) for row, col in ((0, 0), (0, 9), (9, 0))]


def test_ground_control_points_that_are_not_used_are_told(described, tmp_path):
    info = described(gcps=GCPS, transform=None)
    notices = place_notices([info, described("b.tif")], ReadOptions(gsd_m=0.2))
    assert shortened(notices, tmp_path) == [
        "in.tif: its ground control points are not used, the map has no georeference"
    ]
    assert place_notices([info], PLAIN) == []


def test_a_size_that_is_told_is_held_against_that_of_the_file(described, tmp_path):
    infos = [described("a.tif", gsd_m=0.5), described("b.tif"), described("c.tif", gsd_m=0.3)]
    notices = place_notices(infos, ReadOptions(gsd_m=0.2))
    (notice,) = shortened(notices, tmp_path)
    assert re.fullmatch(
        r"a.tif: says 0\.(5|49|50)\d* m, taken as 0.2 m as told \(and 1 files more\)", notice
    )
    (x,), (y,) = transform("EPSG:4326", "EPSG:3857", [2.0], [47.0])
    mercator = described("d.tif", crs="EPSG:3857", transform=from_origin(x, y, 0.2, 0.2))
    (notice,) = place_notices([mercator], ReadOptions(gsd_m=0.2))
    assert "says 0.1366 m" in notice


@pytest.mark.parametrize(
    "said",
    [
        {"crs": None, "transform": None},
        {"crs": None},
        {"crs": "EPSG:4326"},
        {"crs": "EPSG:32631", "transform": from_origin(1e8, 5e6, 0.2, 0.2)},
    ],
)
def test_files_that_do_not_say_their_size_are_not_held_against_it(described, said):
    assert place_notices([described(**said)], ReadOptions(gsd_m=0.2)) == []


NAMELESS = (
    'PROJCS["unknown",GEOGCS["unknown",DATUM["unnamed",SPHEROID["unknown",6378137,298.2572]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Lambert_Conformal_Conic_2SP"],PARAMETER["latitude_of_origin",46.5],'
    'PARAMETER["central_meridian",3],PARAMETER["standard_parallel_1",49],'
    'PARAMETER["standard_parallel_2",44],PARAMETER["false_easting",700000],'
    'PARAMETER["false_northing",6600000],UNIT["metre",1]]'
)


@pytest.mark.parametrize(
    ("crs", "said"),
    [
        (LOCAL, "a.tif: CRS of no place, taken as EPSG:2154 by its name"),
        (NAMELESS, "a.tif: CRS without a name, taken as EPSG:2154 by its definition"),
    ],
)
def test_a_crs_that_is_taken_for_another_is_told(described, tmp_path, crs, said):
    infos = [described("a.tif", crs=crs), described("b.tif"), described("c.tif", crs=crs)]
    grid = pixel_grid_of(infos, gsd_m=0.2)
    assert shortened(crs_notices(grid, infos), tmp_path) == [f"{said} (and 1 files more)"]
    assert crs_notices(pixel_grid_of(infos[:1], gsd_m=0.2), infos) == []


def test_images_that_are_warped_are_told_by_product(described, tmp_path):
    grid = pixel_grid_of([described()], gsd_m=0.2)
    away = [described(f"{n}.tif", row=0.5) for n in range(2)]
    products = [
        product("rvb", described(), away[0]),
        product("irc", *away),
        product("dsm", *away),
    ]
    assert shortened(warp_notices(grid, products), tmp_path) == [
        "0.tif: is on another grid, warped to that of the map",
        "0.tif: is on another grid, warped to that of the map (and 1 files more)",
    ]


def test_files_that_cover_one_another_are_told(described, tmp_path):
    infos = [described(f"{n}.tif") for n in range(3)]
    windows = [Window(top=0, left=left, height=9, width=10) for left in (0, 9, 14)]
    assert shortened(overlap_notices(infos, windows, apart=False), tmp_path) == [
        "1.tif and 2.tif cover one another: where both are valid the first of them is mapped"
    ]
    assert overlap_notices(infos, windows, apart=True)[0].endswith(
        "cover one another: mapped apart"
    )
    assert overlap_notices(infos, [windows[0]] * 3, apart=True)[0].endswith("(and 2 files more)")


def covering(*edges):
    """Return layers at (left, width), as high as the raster."""
    return [BlockLayer(np.ones((1, 10, width), np.uint8), left=left) for left, width in edges]


def raster(leading, irc, height):
    return raster_of(
        10, 100,
        Product(bands=slice(0, 1), layers=covering(*leading)),
        Product(bands=slice(1, 2), layers=covering(*irc)),
        Product(bands=slice(2, 3), layers=covering(*height), required=False),
    )  # fmt: skip


NAMES = ("rvb", "irc", "dsm - dtm")


def test_products_that_cover_less_are_told():
    found = extent_notices(raster([(0, 100)], [(0, 50)], [(-50, 75), (90, 50)]), NAMES)
    assert found == [
        "irc covers 50.0% of the raster, rvb 100.0%: what one of them lacks becomes nodata",
        (
            "dsm - dtm covers 35.0% of the raster, rvb 100.0%: what one of them lacks counts as "
            "height 0"
        ),
    ]


def test_products_that_reach_as_far_are_not_told_of():
    whole = raster([(0, 50), (50, 50)], [(0, 100)], [(-50, 500)])
    assert extent_notices(whole, NAMES) == []


def test_a_seam_is_covered_once():
    seamed = raster([(0, 55), (45, 55)], [(0, 100)], [(0, 100)])
    assert extent_notices(seamed, NAMES) == []
