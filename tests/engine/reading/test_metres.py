import numpy as np
import pytest
from doubles.field import flat, write
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.errors import SourceError
from flair_engine.reading.files import describe
from flair_engine.reading.metres import (
    ToMetres,
    counts_to_metres,
    holds_counts,
    possible,
    to_metres,
)

FOOT_M, US_FOOT_M = 0.3048, 1200 / 3937


@pytest.fixture
def described(tmp_path):
    def make(dtype="float32", **said):
        return describe(str(write(tmp_path / "in.tif", flat(1, 9, 9, dtype), **said)))

    return make


@given(
    st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64"]),
    st.sampled_from([1, 0.1, 0.01, 0.001, FOOT_M]),
    st.sampled_from([0, -100, 512.5]),
    st.lists(st.integers(0, 120), min_size=1, max_size=5),
)
def test_metres_are_value_times_scale_and_offset(dtype, scale, offset, values):
    found = ToMetres(scale=scale, offset=offset).of(np.array([values], dtype))
    assert found.dtype == np.float32
    expected = np.array([[value * scale + offset for value in values]], np.float32)
    assert (found == expected).all()


def test_whole_millimetres_of_a_mountain_are_kept():
    found = ToMetres(scale=0.001, offset=0).of(np.array([4_808_731], np.int32))
    assert found[0] == np.float32(4808.731)


@pytest.mark.parametrize(
    ("said", "scale", "offset"),
    [
        ({}, 1, 0),
        ({"unit": "m"}, 1, 0),
        ({"unit": "metre"}, 1, 0),
        ({"unit": "Meters"}, 1, 0),
        ({"unit": "cm"}, 0.01, 0),
        ({"unit": " mm "}, 0.001, 0),
        ({"unit": "dm"}, 0.1, 0),
        ({"unit": "ft"}, FOOT_M, 0),
        ({"unit": "US survey foot"}, US_FOOT_M, 0),
        ({"scale": 0.01, "offset": -100}, 0.01, -100),
        ({"scale": 2, "offset": 50, "unit": "cm"}, 0.02, 0.5),
        ({"crs": "EPSG:2154+5720"}, 1, 0),
        ({"crs": "EPSG:2263+6360"}, US_FOOT_M, 0),
        ({"crs": "EPSG:2263+6360", "unit": "m"}, 1, 0),
        ({"crs": "EPSG:2263"}, 1, 0),  # feet across say nothing of those up
        ({"crs": None, "transform": None}, 1, 0),
    ],
)
def test_heights_are_by_the_scale_offset_and_unit_of_the_file(described, said, scale, offset):
    found = to_metres(described(**said))
    assert found.scale == pytest.approx(scale)
    assert found.offset == pytest.approx(offset)


@pytest.mark.parametrize("read", [to_metres, counts_to_metres])
def test_a_unit_that_is_not_known(described, read):
    with pytest.raises(SourceError, match="in.tif: heights are in 'fathom', which is not known"):
        read(described(unit="fathom"))


@pytest.mark.parametrize(
    ("dtype", "said", "counts"),
    [
        ("uint8", {}, True),
        ("uint8", {"scale": 0.5}, False),
        ("uint8", {"offset": 1}, False),
        ("uint8", {"unit": "m"}, False),
        ("uint16", {}, False),
        ("float32", {}, False),
    ],
)
def test_8_bits_that_say_nothing_are_counts(described, dtype, said, counts):
    info = described(dtype, **said)
    assert holds_counts(info) == counts
    assert counts_to_metres(info) == (ToMetres(scale=0.2, offset=0) if counts else to_metres(info))


def test_heights_that_no_place_on_earth_has():
    heights = np.array([-500.1, -500, -430, 0, 8849, 9000, 9001, np.nan, np.inf, -np.inf])
    assert possible(heights.astype(np.float32)).tolist() == [
        False, True, True, True, True, True, False, False, False, False,
    ]  # fmt: skip
