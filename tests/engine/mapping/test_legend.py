"""Names and colours stand at the values that are written."""

import xml.etree.ElementTree as ET

import pytest

from flair_engine.manifest import read_model_spec
from flair_engine.mapping.legend import NAMES_MARK, STYLE_MARK, category_names, qgis_style, rgba


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


def test_category_n_names_value_n(spec):
    def names(values):
        root = ET.fromstring(category_names(spec, values))
        return [entry.text or "" for entry in root.iter("Category")]

    assert names("flair") == ["no data", "first", "second", "third"]
    assert names("zero-based") == ["first", "second", "third"]


def test_the_style_has_an_entry_for_each_class_that_can_occur(spec):
    def entries(values):
        root = ET.fromstring(qgis_style(spec, values))
        return [
            (int(entry.get("value")), entry.get("label"), entry.get("color"))
            for entry in root.iter("paletteEntry")
        ]

    assert entries("flair") == [(1, "first", "#db0e9a"), (3, "third", "#f80c00")]
    assert entries("zero-based") == [(0, "first", "#db0e9a"), (2, "third", "#f80c00")]


def test_colours_are_opaque():
    assert rgba("#db0e9a") == (0xDB, 0x0E, 0x9A, 255)


@pytest.mark.parametrize("values", ["flair", "zero-based"])
def test_both_files_are_marked_as_ours(spec, values):
    assert NAMES_MARK in category_names(spec, values)
    style = qgis_style(spec, values)
    assert STYLE_MARK in style
    assert [child.tag for child in ET.fromstring(style)] == ["pipe"], "the mark is a comment"
