"""JSON within bounds, against Python's own reader where it is."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.bounded_json import JSON_LEVELS, LONGEST_NUMBER, load, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False).filter(
        lambda value: abs(value) < float("inf")
    ),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_what_python_writes_is_read_back(value):
    assert parse(json.dumps(value)) == value


def nested(levels):
    return "[" * levels + "]" * levels


REFUSED = [
    ("", "Expecting value"),
    ("{", "Expecting property name"),
    ("[1] [2]", "Extra data"),
    (b"\xff", "can't decode byte"),
    ("NaN", "NaN is no number"),
    ("[Infinity]", "Infinity is no number"),
    ('{"a": -Infinity}', "-Infinity is no number"),
    ("1e999", "1e999 is too large a number"),
    ("9" * 400, "a number of 400 digits"),
    ("9" * 100_000, "a number of 100,000 digits"),
    ("0." + "9" * 400, "a number of 402 digits"),
    (nested(JSON_LEVELS + 1), f"nested deeper than {JSON_LEVELS} levels"),
    (nested(1_000_000), f"nested deeper than {JSON_LEVELS} levels"),
    ('{"a":' * 100_000, f"nested deeper than {JSON_LEVELS} levels"),
    ('{"a": 1, "b": 2, "a": 1}', "a name occurs twice"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text)


def test_what_is_longer_than_it_may_be():
    assert parse('"ab"', largest_bytes=4) == "ab"
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        parse(b'"abc"', largest_bytes=4)


def test_no_more_of_a_file_is_read_than_may_be(tmp_path):
    path = tmp_path / "large.json"
    path.write_text('{"a": [1]}')
    assert load(path) == {"a": [1]}
    os.truncate(path, 1 << 40)
    with pytest.raises(ValueError, match="longer than 1,000 bytes"):
        load(path, largest_bytes=1000)
    with pytest.raises(OSError, match="No such file"):
        load(tmp_path / "absent.json")


def test_the_bounds_themselves_pass():
    assert parse("9" * LONGEST_NUMBER) == int("9" * LONGEST_NUMBER)
    assert json.dumps(parse(nested(JSON_LEVELS))) == nested(JSON_LEVELS)


def test_names_of_files_that_are_not_utf8_are_kept():
    assert parse(json.dumps(["caf\udce9.tif"])) == ["caf\udce9.tif"]
