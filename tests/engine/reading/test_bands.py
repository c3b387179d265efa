from itertools import permutations

import pytest
from doubles.field import flat, noise, write

from flair_engine.errors import SourceError
from flair_engine.options import ReadOptions
from flair_engine.reading.bands import choose_bands, name_of, numbers_by_name
from flair_engine.reading.files import describe

COLOURS = ("red", "green", "blue")


@pytest.fixture
def described(tmp_path):
    """Write a small raster and return what it says of itself."""

    def make(bands=3, **said):
        said.setdefault("photometric", "minisblack")
        return describe(str(write(tmp_path / "in.tif", noise(bands, 20, 30), **said)))

    return make


def test_a_plain_file_is_valid_everywhere(described):
    choice = choose_bands(described(), (3, 1), ReadOptions())
    assert choice.numbers == (3, 1)
    assert choice.judged == (0, 1)
    assert choice.nodata == (None, None)
    assert choice.mask_band is None
    assert not choice.masked
    assert choice.metres is None


MASK = noise(1, 20, 30)[0] > 99
ALPHA = ("undefined", "undefined", "undefined", "alpha")
SAID = [
    ({"nodata": 7, "mask_hw": MASK, "kinds": ALPHA}, {}, (True, None, None)),
    ({"nodata": 7, "kinds": ALPHA}, {}, (False, 4, None)),
    ({"nodata": 7}, {}, (False, None, 7)),
    # What is told overrides what the file says.
    ({"nodata": 7, "mask_hw": MASK, "kinds": ALPHA}, {"mask": "none"}, (False, None, 7)),
    ({"nodata": 7, "mask_hw": MASK, "kinds": ALPHA}, {"mask": "alpha"}, (False, 4, None)),
    ({"nodata": 7, "mask_hw": MASK, "kinds": ALPHA}, {"mask": 2}, (False, 2, None)),
    ({"nodata": 7}, {"nodata": "none"}, (False, None, None)),
    ({"nodata": 7}, {"nodata": 9.0}, (False, None, 9)),
    ({"nodata": 7, "mask_hw": MASK}, {"nodata": 9.0}, (True, None, 9)),
    ({"kinds": ALPHA}, {"nodata": 9.0}, (False, 4, 9)),
    ({"kinds": ALPHA}, {"nodata": "none", "mask": "none"}, (False, None, None)),
    # Near infrared that is tagged alpha, as scanners' software does.
    ({"kinds": ALPHA, "names": ("r", "g", "b", "NIR"), "nodata": 7}, {}, (False, None, 7)),
    ({"kinds": ALPHA, "names": ("r", "g", "b", "NIR")}, {"mask": "alpha"}, (False, 4, None)),
    # Of two the last.
    ({"kinds": ("undefined", "undefined", "alpha", "alpha")}, {}, (False, 4, None)),
]


@pytest.mark.parametrize(("said", "told", "expected"), SAID)
def test_validity_has_one_source(described, said, told, expected):
    choice = choose_bands(described(4, **said), (1, 2), ReadOptions(**told))
    assert (choice.masked, choice.mask_band, choice.nodata[0]) == expected
    assert choice.nodata[0] == choice.nodata[1]


def test_an_alpha_band_that_is_read_is_no_mask(described):
    info = described(4, kinds=ALPHA, nodata=7)
    choice = choose_bands(info, (1, 2, 3, 4), ReadOptions())
    assert choice.mask_band is None
    assert choice.nodata == (7,) * 4


def test_a_mask_that_was_asked_for_is_not_passed_over(described):
    with pytest.raises(SourceError, match="--mask alpha"):
        choose_bands(described(4, kinds=ALPHA), (1, 2, 3, 4), ReadOptions(mask="alpha"))


def test_nodata_is_that_of_the_bands_that_are_judged(described):
    choice = choose_bands(described(nodata=7), (3, 2, 1), ReadOptions(), judged=[0, 2])
    assert choice.judged == (0, 2)
    assert choice.nodata == (7, 7)


@pytest.mark.parametrize(
    ("numbers", "told", "message"),
    [
        ((1, 7), {}, "in.tif: band 7 was asked for but the file has 3: choose from 1 to 3"),
        ((0,), {}, "band 0 was asked for"),
        ((1,), {"mask": 4}, "band 4 was asked for but the file has 3"),
        ((1,), {"mask": "alpha"}, "--mask alpha, but no band is tagged alpha"),
    ],
)
def test_a_band_that_is_not_there(described, numbers, told, message):
    with pytest.raises(SourceError, match=message):
        choose_bands(described(), numbers, ReadOptions(**told))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"kinds": ("red",)}, "red"),
        ({"names": ("Near Infrared",)}, "nir"),
        ({"names": (" PIR ",), "kinds": ("blue",)}, "nir"),
        ({"names": ("Band 1",), "kinds": ("blue",)}, "blue"),
        ({"names": ("Vert",)}, "green"),
        ({"names": ("height",)}, None),
        ({"names": ("Band 1: Blue",)}, "blue"),
        ({"names": ("Green band",)}, "green"),
        ({"names": ("red (B4)",)}, "red"),
        ({"names": ("Near-Infrared",)}, "nir"),
        ({"names": ("near_infrared",)}, "nir"),
        ({"names": ("NIR (beyond the red edge)",)}, "nir"),
        ({"names": ("Red edge 1",)}, "red edge"),
        ({"names": ("sr_red",)}, "red"),
        ({"names": ("Proche infrarouge",)}, "nir"),
        ({"names": ("Rouge",)}, "red"),
        ({"names": ("bleu",)}, "blue"),
        ({"names": ("Alpha",)}, "alpha"),
        # What is not the word: no part of another one.
        ({"names": ("reduced",)}, None),
        ({"names": ("vertical",)}, None),
        ({"names": ("overt",)}, None),
        ({"names": ("empire",)}, None),
        # Letters alone.
        ({"names": ("R",)}, "red"),
        ({"names": ("v",)}, "green"),
        ({"names": ("G",)}, "green"),
        ({"names": ("B",)}, "blue"),
        ({"names": ("N",)}, "nir"),
        ({"names": ("I",)}, "nir"),
        ({"names": ("R1",)}, None),
        # Sentinel-2.
        ({"names": ("B02",)}, "blue"),
        ({"names": ("b3",)}, "green"),
        ({"names": ("B4",)}, "red"),
        ({"names": ("B08",)}, "nir"),
        ({"names": ("B10",)}, None),
        ({}, None),
    ],
)
def test_a_band_is_called_by_its_description_else_its_tag(described, said, name):
    assert name_of(described(1, **said).bands[0]) == name


@pytest.mark.parametrize("order", list(permutations(COLOURS)), ids="-".join)
def test_colours_are_taken_where_the_file_names_them(described, order):
    expected = tuple(order.index(colour) + 1 for colour in COLOURS)
    assert numbers_by_name(described(kinds=order), COLOURS) == expected
    assert numbers_by_name(described(names=order), COLOURS) == expected


RGBI, RGBIE = (*COLOURS, "nir"), (*COLOURS, "nir", "elevation")


@pytest.mark.parametrize(
    ("names", "wanted", "numbers"),
    [
        (("nir", "red", "green", "blue"), RGBI, (2, 3, 4, 1)),
        (("blue", "green", "red", ""), RGBI, (3, 2, 1, 4)),
        (("", "blue", "green", "red", "height"), RGBIE, (4, 3, 2, 1, 5)),
        (("", "nir", "blue", "green", "red"), RGBIE, (5, 4, 3, 2, 1)),
        (("blue", "green", "", ""), RGBI, (1, 2, 3, 4)),  # red is not named
        (("blue", "green", "red", "red"), RGBI, (1, 2, 3, 4)),  # red is named twice
        (("green", "red", "", ""), ("red", "green"), (2, 1)),
        (("blue", "green", "red", "red edge", "nir"), RGBI, (3, 2, 1, 5)),
        (("", "red"), ("red", "elevation"), (1, 2)),  # one colour says nothing of an order
        (("", "nir"), ("nir", "elevation"), (1, 2)),
    ],
)
def test_other_bands_keep_their_order(described, names, wanted, numbers):
    assert numbers_by_name(described(len(names), names=names), wanted) == numbers


def test_rgba_is_colours_and_a_mask(tmp_path):
    path = write(tmp_path / "in.tif", noise(4, 9, 9), photometric="rgb", ALPHA="YES")
    info = describe(str(path))
    numbers = numbers_by_name(info, COLOURS)
    assert numbers == (1, 2, 3)
    assert choose_bands(info, numbers, ReadOptions()).mask_band == 4


def test_height_is_no_colour(tmp_path):
    info = describe(str(write(tmp_path / "in.tif", flat(1, 9, 9, "float32"), nodata=-9999)))
    assert numbers_by_name(info, ("elevation",)) == (1,)
    assert choose_bands(info, (1,), ReadOptions()).nodata == (-9999,)


def test_a_whole_number_overrides_nodata_as_well(described):
    for nodata in (0, 0.0):
        choice = choose_bands(described(nodata=7), (1,), ReadOptions(nodata=nodata))
        assert choice.nodata == (0.0,)
