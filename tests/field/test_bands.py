"""Bands by what files say of them: colours in another order, palettes, types."""

import re
from itertools import permutations

import pytest
import rasterio
from doubles.field import box_labels, flat, mapped, noise, refused, write

COLOURS = ("red", "green", "blue")


@pytest.fixture
def rgb(band_model):
    return band_model(*COLOURS)


@pytest.mark.parametrize("tagged", ["kinds", "names"])
@pytest.mark.parametrize("order", list(permutations(COLOURS)), ids="-".join)
def test_colours_are_taken_by_what_the_file_calls_them(rgb, tmp_path, order, tagged):
    image = noise(3, 40, 50)
    said = {"kinds": order} if tagged == "kinds" else {"names": [x.title() for x in order]}
    path = write(tmp_path / "in.tif", image, photometric="minisblack", **said)
    found = mapped(rgb, tmp_path / "map.tif", path)
    first, last = image[order.index("red")], image[order.index("blue")]
    assert (found.labels == box_labels(first, last)).all()
    assert ("in.tif" in found.notices) == (order != COLOURS)


@pytest.mark.parametrize(
    "order", [("blue", "green", "red", "nir"), ("nir", "red", "green", "blue")]
)
def test_near_infrared_by_name(band_model, tmp_path, order):
    image = noise(4, 40, 50)
    path = write(tmp_path / "in.tif", image, photometric="minisblack", names=order)
    model = band_model("red", "green", "blue", "nir")
    found = mapped(model, tmp_path / "map.tif", path)
    first, last = image[order.index("red")], image[order.index("nir")]
    assert (found.labels == box_labels(first, last)).all()
    assert "in.tif" in found.notices


def test_bands_that_are_chosen_are_taken_as_chosen(rgb, tmp_path):
    image = noise(3, 40, 50)
    path = write(tmp_path / "in.tif", image, photometric="minisblack", kinds=COLOURS[::-1])
    found = mapped(rgb, tmp_path / "map.tif", path, "--bands", "1,2,3")
    assert (found.labels == box_labels(image[0], image[2])).all()


def test_each_file_has_its_own_order(rgb, tmp_path):
    image = noise(3, 40, 80)
    left, right = image[:, :, :40], image[::-1, :, 40:]
    write(tmp_path / "in" / "a.tif", left, photometric="rgb")
    write(tmp_path / "in" / "b.tif", right, col=40, photometric="minisblack", kinds=COLOURS[::-1])
    found = mapped(rgb, tmp_path / "map.tif", tmp_path / "in")
    assert (found.labels == box_labels(image[0], image[2])).all()
    assert "b.tif" in found.notices


def test_rvb_in_another_order(band_model, tmp_path):
    image, irc = noise(3, 40, 50), noise(1, 40, 50, seed=1)
    rvb = write(tmp_path / "rvb.tif", image, photometric="minisblack", kinds=COLOURS[::-1])
    infrared = write(tmp_path / "irc.tif", irc)
    model = band_model("red", "green", "blue", "nir")
    found = mapped(model, tmp_path / "map.tif", "--rvb", rvb, "--irc", infrared)
    assert (found.labels == box_labels(image[2], irc[0])).all()
    assert "rvb.tif" in found.notices


@pytest.fixture
def palette(tmp_path):
    path = tmp_path / "palette.tif"
    write(path, flat(3, 40, 50), photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {3: (230, 60, 50, 255)})
    return path


@pytest.mark.parametrize("product", ["image", "rvb", "irc", "ndsm"])
def test_indices_of_a_palette_are_refused(band_model, palette, tmp_path, product):
    colours = write(tmp_path / "rgb.tif", noise(3, 40, 50))
    grey = write(tmp_path / "grey.tif", flat(9, 40, 50))
    names, given = {
        "image": (["red"], [palette]),
        "rvb": ([*COLOURS, "nir"], ["--rvb", palette, "--irc", grey]),
        "irc": ([*COLOURS, "nir"], ["--rvb", colours, "--irc", palette]),
        "ndsm": (["red", "elevation"], [grey, "--ndsm", palette]),
    }[product]
    line = refused(band_model(*names), *given, tmp_path / "map.tif")
    assert "palette.tif" in line
    assert product == "rvb" or re.search(r"colour table|palette(?!\.tif|_)", line)
    assert not (tmp_path / "map.tif").exists()


@pytest.mark.parametrize(
    "names",
    [
        ("Band 1: Blue", "Band 2: Green", "Band 3: Red", "Band 4: NIR"),
        ("Blue band", "Green band", "Red band", "Near infrared"),
        ("B02", "B03", "B04", "B08"),
        ("B", "G", "R", "N"),
        ("Bleu", "Vert", "Rouge", "Proche infrarouge"),
        ("sr_blue", "sr_green", "sr_red", "sr_nir"),
    ],
)
@pytest.mark.parametrize("turned", [0, 1])
def test_bands_by_what_descriptions_hold(band_model, tmp_path, names, turned):
    """Blue, green, red, near infrared; or near infrared first."""
    image = noise(4, 40, 50)
    names = (*names[3:], *names[:3]) if turned else names
    path = write(tmp_path / "in.tif", image, photometric="minisblack", names=names)
    model = band_model("red", "green", "blue", "nir")
    found = mapped(model, tmp_path / "map.tif", path)
    red, nir = (3, 0) if turned else (2, 3)
    assert (found.labels == box_labels(image[red], image[nir])).all()
    assert f"red from {red + 1}" in found.notices


def test_the_edge_of_red_is_not_red(band_model, tmp_path):
    image = noise(5, 40, 50)
    names = ("Blue", "Green", "Red", "Red Edge", "NIR")
    path = write(tmp_path / "in.tif", image, photometric="minisblack", names=names)
    model = band_model("red", "green", "blue", "nir")
    refused(model, path, tmp_path / "map.tif")
    image = image[[0, 1, 2, 3]]
    path = write(tmp_path / "in.tif", image, photometric="minisblack", names=names[:4])
    found = mapped(band_model("red", "green", "blue", "nir"), tmp_path / "map.tif", path)
    assert (found.labels == box_labels(image[2], image[3])).all()
