import math

import pytest
from affine import Affine
from doubles.field import LOCAL
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from flair_engine import crs as crs_module
from flair_engine.crs import (
    best_crs,
    crs_of,
    ground_px_m,
    is_local,
    same_crs,
    stated_px_m,
    words_of,
)

NAMELESS = CRS.from_wkt(
    'PROJCS["EPSG:2154",GEOGCS["unknown",DATUM["unnamed",SPHEROID["unknown",6378137,298.2572]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Lambert_Conformal_Conic_2SP"],PARAMETER["latitude_of_origin",46.5],'
    'PARAMETER["central_meridian",3],PARAMETER["standard_parallel_1",49],'
    'PARAMETER["standard_parallel_2",44],PARAMETER["false_easting",700000],'
    'PARAMETER["false_northing",6600000],UNIT["metre",1]]'
)
NAMED, UTM = CRS.from_epsg(2154), CRS.from_epsg(32631)
NOWHERE = CRS.from_wkt('LOCAL_CS["x",UNIT["metre",1]]')


def local(name):
    return CRS.from_wkt(f'LOCAL_CS["{name}",UNIT["metre",1]]')


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, NAMED, False),
        (NAMED, NAMED, True),
        (UTM, NAMED, False),
        (NAMELESS, NAMED, True),
        (NAMELESS, UTM, False),
        (CRS.from_wkt(LOCAL), NAMED, True),
        (local("RGF93 / Lambert-93"), NAMED, True),
        (local("rgf93_lambert_93"), NAMED, True),
        (local("RGF93 / CC43"), NAMED, False),
        (NOWHERE, NAMED, False),
        (NOWHERE, local("y"), False),
        # Of one definition, but two names that are both known.
        (CRS.from_epsg(9794), NAMED, False),
        (CRS.from_epsg(4326), CRS.from_epsg(4171), False),
    ],
)
def test_crs_that_are_the_same(one, other, same):
    assert same_crs(one, other) == same_crs(other, one) == same


def test_a_crs_of_no_place_is_local():
    assert [is_local(crs) for crs in (NOWHERE, CRS.from_wkt(LOCAL), NAMED, NAMELESS)] == [
        True, True, False, False,
    ]  # fmt: skip
    assert not is_local(CRS.from_epsg(4326))
    assert not is_local(CRS.from_string("EPSG:2154+5720"))


def test_a_crs_is_called_by_the_name_that_another_gives_it():
    assert NAMELESS.to_epsg() is None
    assert best_crs(NAMELESS, [None, UTM, NAMELESS, NAMED]) is NAMED
    assert best_crs(CRS.from_wkt(LOCAL), [NAMED]) is NAMED
    assert best_crs(NAMELESS, [UTM]) is NAMELESS
    assert best_crs(UTM, [NAMED]) is UTM
    assert best_crs(None, [None, NAMED]) is None


def geodesic_px_m(crs, transform, col, row):
    """Return what pyproj says of a pixel: the geodesics through its middle."""
    to_degrees = Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)
    lengths = []
    for right, down in ((20, 0), (0, 20)):
        ends = [transform @ (col + sign * right, row + sign * down) for sign in (-1, 1)]
        (lon, lat), (other_lon, other_lat) = (to_degrees.transform(*end) for end in ends)
        lengths.append(Geod(ellps="WGS84").inv(lon, lat, other_lon, other_lat)[2] / 40)
    return tuple(lengths)


PLACES = {
    "EPSG:2154": (721_104, 6_248_980),
    "EPSG:3857": (222_639, 5_942_074),
    "EPSG:32631": (431_000, 5_410_000),
    "EPSG:32740": (340_000, 7_660_000),  # La Réunion
    "EPSG:2225": (1_900_000, 600_000),  # US survey feet
    "EPSG:2975": (340_000, 7_660_000),
    "EPSG:4326": (2.35, 48.86),
    "EPSG:3413": (-700_000, -1_500_000),  # polar
}


@given(
    st.sampled_from(list(PLACES)), st.floats(0.05, 2), st.floats(0.5, 2), st.floats(-180, 180),
    st.integers(0, 500), st.integers(0, 500),
)  # fmt: skip
def test_pixels_are_as_long_as_their_geodesics(name, size, ratio, turn, col, row):
    crs = CRS.from_string(name)
    units = 1e-5 if crs.is_geographic else 1
    transform = (
        Affine.translation(*PLACES[name])
        @ Affine.rotation(turn)
        @ Affine.scale(size * units, -size * ratio * units)
    )
    found = ground_px_m(crs, transform, col, row)
    assert found == pytest.approx(geodesic_px_m(crs, transform, col, row), rel=2e-5)


def test_a_pixel_across_the_antimeridian_is_small():
    transform = Affine(1e-5, 0, 179.9999, 0, -1e-5, -17)
    found = ground_px_m(CRS.from_epsg(4326), transform, 10, 10)
    expected = geodesic_px_m(CRS.from_epsg(4326), transform, 10, 10)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_place_outside_the_crs_has_no_size():
    found = ground_px_m(UTM, Affine(0.2, 0, 1e8, 0, -0.2, 5e6), 0, 0)
    assert all(map(math.isnan, found))


def test_a_place_that_comes_out_nowhere_has_no_size(monkeypatch):
    monkeypatch.setattr(crs_module, "transform", lambda *given: ([math.inf] * 4, [math.inf] * 4))
    assert all(map(math.isnan, ground_px_m(NAMED, Affine(0.2, 0, 7e5, 0, -0.2, 6e6), 0, 0)))


@pytest.mark.parametrize(
    ("crs", "metres"),
    [
        (NAMED, 1),
        (CRS.from_epsg(2225), 1200 / 3937),
        (NOWHERE, 1),
        (CRS.from_wkt('LOCAL_CS["x",UNIT["foot",0.3048]]'), 0.3048),
        (CRS.from_wkt('LOCAL_CS["RGF93",UNIT["metre",1],AXIS["Easting",EAST]]'), 1),
    ],
)
def test_metres_that_a_crs_states(crs, metres):
    turned = Affine.rotation(30) @ Affine.scale(0.2, -0.4)
    assert stated_px_m(crs, turned) == pytest.approx((0.2 * metres, 0.4 * metres))
    if is_local(crs):
        assert ground_px_m(crs, turned, 5, 5) == stated_px_m(crs, turned)


@pytest.mark.parametrize("text", [
    "EPSG:2154", "EPSG:32631", "EPSG:4326", "EPSG:5698",
    "+proj=lcc +lat_0=46.5 +lon_0=3 +lat_1=49 +lat_2=44 +x_0=700000 +y_0=6600000 +ellps=GRS80",
    'LOCAL_CS["RGF93",UNIT["metre",1]]',
])  # fmt: skip
def test_a_crs_goes_through_words(text):
    crs = CRS.from_user_input(text)
    again = crs_of(words_of(crs))
    assert again == crs
    assert again.to_wkt() == crs.to_wkt()


def test_no_crs_goes_through_words():
    assert crs_of(words_of(None)) is None
