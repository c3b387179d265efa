"""Names that are shown or written, against the XML parser, which knows what XML may hold."""

import unicodedata
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flair_engine.texts import LONGEST, is_name, is_shown, shown

UNSHOWN = [
    *map(chr, [*range(32), *range(127, 160)]),
    *("\u2028", "\u2029", "\u202e", "\u2066", "\ud800", "\udfff"),
    *("\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0001fffe", "\U0010ffff"),
]


@pytest.mark.parametrize("character", UNSHOWN, ids=ascii)
def test_what_no_name_may_hold_is_spelt_out(character):
    text = f"before{character}after"
    assert not is_shown(text)
    assert not is_name(text)
    assert is_shown(shown(text))
    assert shown(text).isascii()
    assert ascii(character)[1:-1] in shown(text)


@pytest.mark.parametrize("text", ["forêt", "木", "🌲", "a\u200db", "<script>", "[/]", "a\xa0b"])
def test_names_of_people_pass_as_they_are(text):
    assert is_name(text)
    assert shown(text) == text


@pytest.mark.parametrize("value", ["", " ", "\xa0", None, 3, ["a"], "a" * (LONGEST + 1)])
def test_what_is_no_name(value):
    assert not is_name(value)
    assert is_name("a" * LONGEST)


@given(st.text(st.characters(), min_size=1))
def test_what_is_shown_is_one_line_of_valid_xml(text):
    text = shown(text)
    assert is_shown(text)
    assert text.splitlines() == [text]
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cs"}
    text.encode("utf-8")
    assert ET.fromstring(f"<a>{escape(text)}</a>").text == text
