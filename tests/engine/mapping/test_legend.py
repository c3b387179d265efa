"""Names and colours stand at the values that are written."""

import xml.etree.ElementTree as ET

import pytest

from flair_engine.manifest import read_model_spec
from flair_engine.mapping.legend import (
    NAMES_MARK,
    STYLE_MARK,
    category_names,
    confidence_style,
    hectares_said,
    qgis_style,
    rgba,
    share_said,
)


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


def test_the_style_of_confidence_goes_from_0_to_255():
    style = confidence_style()
    assert STYLE_MARK in style
    root = ET.fromstring(style)
    values = [int(item.get("value")) for item in root.iter("item")]
    assert (values[0], values[-1]) == (0, 255)
    assert values == sorted(values)
    assert [item.get("label") for item in root.iter("item")] == ["0%", "25%", "50%", "75%", "100%"]
    (renderer,) = root.iter("rasterrenderer")
    assert renderer.get("type") == "singlebandpseudocolor"


@pytest.mark.parametrize(
    ("hectares", "said"), [(0, "0.00"), (4e-6, "< 0.01"), (0.005, "0.01"), (1234.5, "1,234.50")]
)
def test_hectares_that_are_there_are_not_said_to_be_0(hectares, said):
    assert hectares_said(hectares) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0, "0.0%"), (1e-9, "< 0.1%"), (0.0005, "0.1%"), (0.123, "12.3%"), (0.9994, "99.9%"),
     (0.99999, "> 99.9%"), (1, "100.0%")],
)  # fmt: skip
def test_a_share_is_neither_nothing_nor_all_unless_it_is(share, said):
    assert share_said(share) == said


def test_colours_are_opaque():
    assert rgba("#db0e9a") == (0xDB, 0x0E, 0x9A, 255)


@pytest.mark.parametrize("values", ["flair", "zero-based"])
def test_both_files_are_marked_as_ours(spec, values):
    assert NAMES_MARK in category_names(spec, values)
    style = qgis_style(spec, values)
    assert STYLE_MARK in style
    assert [child.tag for child in ET.fromstring(style)] == ["pipe"], "the mark is a comment"
