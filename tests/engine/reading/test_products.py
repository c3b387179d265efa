import numpy as np
import pytest
import rasterio
from doubles.field import flat, noise, write

from flair_engine import Inputs, ReadOptions
from flair_engine.errors import SourceError
from flair_engine.manifest import read_model_spec
from flair_engine.reading.metres import ToMetres
from flair_engine.reading.products import given_products, place_of

COLOURS = ("red", "green", "blue")
RGBIE = (*COLOURS, "nir", "elevation")


@pytest.fixture
def spec(band_model):
    return read_model_spec(band_model(*RGBIE))


@pytest.fixture
def at(tmp_path):
    """Write an image of some bands; return its name."""

    def make(name, bands=1, dtype="uint8", **said):
        said.setdefault("photometric", "minisblack")
        return str(write(tmp_path / name, noise(bands, 20, 30).astype(dtype), **said))

    return make


def chosen(products):
    """Return by product the band numbers that are read of each of its files."""
    return {product.name: [f.choice.numbers for f in product.files] for product in products}


@pytest.mark.parametrize(
    ("given", "options", "expected"),
    [
        ({"images": 5}, {}, {"images": RGBIE}),
        ({"images": 7}, {"bands": (7, 6, 5, 1, 2)}, {"images": RGBIE}),
        ({"images": 4, "ndsm": 1}, {}, {"images": RGBIE[:4], "ndsm": RGBIE[4:]}),
        (
            {"images": 4, "dsm": 1, "dtm": 1},
            {},
            {"images": RGBIE[:4], "dsm": RGBIE[4:], "dtm": RGBIE[4:]},
        ),
        (
            {"irc": 3, "ndsm": 1, "rvb": 4},
            {},
            {"rvb": COLOURS, "irc": ("nir",), "ndsm": ("elevation",)},
        ),
    ],
)
def test_products_supply_bands_and_the_leading_one_comes_first(at, spec, given, options, expected):
    names = {name: (at(f"{name}.tif", bands),) for name, bands in given.items()}
    products = given_products(spec, Inputs(**names), ReadOptions(**options))
    assert {product.name: product.bands for product in products} == expected
    assert [product.name for product in products] == list(expected)
    for product in products:
        assert [info.name for info in product.infos] == list(names[product.name])
        (numbers,) = chosen([product])[product.name]
        plain = tuple(range(1, len(product.bands) + 1))
        assert numbers == options.get("bands", plain)


def test_each_file_has_its_own_order(at, spec):
    images = at("a.tif", 5), at("b.tif", 5, names=("blue", "green", "red"))
    rvb = at("c.tif", 3, kinds=("green", "red", "blue"))
    irc = at("d.tif", 3, names=("red", "nir", "green")), at("e.tif", 3), at("f.tif", 1)
    found = chosen(given_products(spec, Inputs(images=images), ReadOptions()))
    assert found == {"images": [(1, 2, 3, 4, 5), (3, 2, 1, 4, 5)]}
    given = Inputs(rvb=(rvb,), irc=irc, ndsm=(at("g.tif"),))
    found = chosen(given_products(spec, given, ReadOptions()))
    assert found == {"rvb": [(2, 1, 3)], "irc": [(2,), (1,), (1,)], "ndsm": [(1,)]}


def test_near_infrared_that_is_named_twice_says_nothing(at, band_model):
    spec = read_model_spec(band_model(*RGBIE[:4]))
    given = Inputs(rvb=(at("a.tif", 3),), irc=(at("b.tif", 3, names=("", "nir", "pir")),))
    assert chosen(given_products(spec, given, ReadOptions()))["irc"] == [(1,)]


def test_height_beside_the_image_bands_is_not_judged(at, spec):
    (product,) = given_products(spec, Inputs(images=(at("a.tif", 5),)), ReadOptions())
    assert product.files[0].choice.judged == (0, 1, 2, 3)


def test_options_of_validity_are_those_of_images_alone(at, spec):
    images, height = at("a.tif", 4, nodata=3), at("b.tif", 1, "float32", nodata=-9999)
    given = Inputs(images=(images,), dsm=(height,), dtm=(height,))
    image, *heights = given_products(spec, given, ReadOptions(nodata=7.0, mask=4))
    assert image.files[0].choice.nodata == (7.0,) * 4
    assert image.files[0].choice.mask_band == 4
    for product in heights:
        (file,) = product.files
        assert file.choice.nodata == (-9999.0,)
        assert file.choice.mask_band is None
        assert file.choice.metres == ToMetres(scale=1, offset=0)


def test_heights_of_counts_stay_counts_unless_some_are_metres(at, spec):
    counts, metres = at("a.tif"), at("b.tif", 1, "float32")
    images = (at("c.tif", 4),)
    _, alone = given_products(spec, Inputs(images=images, ndsm=(counts,)), ReadOptions())
    assert [file.choice.metres for file in alone.files] == [None]
    _, both = given_products(spec, Inputs(images=images, ndsm=(counts, metres)), ReadOptions())
    assert [file.choice.metres.scale for file in both.files] == [0.2, 1]


REFUSED = [
    ({"images": 3}, {}, r"images.tif: has 3 bands, the model wants 5 .*--bands 1,2,3,4,5, or give"),
    ({"images": 1}, {}, "has 1 band, the model wants 5"),
    ({"images": 6}, {}, "has 6 bands, the model wants 5"),
    ({"images": 5, "rvb": 3}, {}, "images given both by INPUT and by --rvb/--irc: use one"),
    ({"irc": 3}, {}, "no image given: name files as INPUT, or with --rvb and --irc"),
    ({}, {}, "no image given"),
    ({"images": 4, "dsm": 1}, {}, "height needs both --dsm and --dtm, one was given"),
    ({"images": 4, "dtm": 1}, {}, "height needs both --dsm and --dtm, one was given"),
    ({"rvb": 3, "ndsm": 1, "dsm": 1, "dtm": 1}, {}, "height given both by --ndsm and by"),
    ({"rvb": 3, "irc": 3}, {}, "box needs elevation, which is not given: add --ndsm, or --dsm"),
    ({"rvb": 3, "ndsm": 1}, {}, "box needs nir, which is not given: add --irc"),
    ({"images": 5}, {"bands": (1, 2)}, "2 band numbers given, the model wants 5 .*: name one for"),
    ({"images": 5}, {"bands": (1, 2, 3, 4, 9)}, "band 9 was asked for but the file has 5"),
    ({"rvb": 3, "irc": 3, "ndsm": 1}, {"bands": (1, 2, 3)}, "--bands is for INPUT, RVB and IRC"),
    ({"rvb": 1, "irc": 3, "ndsm": 1}, {}, "rvb.tif: band 2 was asked for but the file has 1"),
    ({"images": 5}, {"gsd_m": 0.0}, "--gsd 0 is no size of a pixel: give metres, e.g. 0.2"),
    ({"images": 5}, {"gsd_m": -0.2}, "--gsd -0.2 is no size of a pixel"),
    ({"images": 5}, {"gsd_m": float("nan")}, "--gsd nan is no size of a pixel"),
    ({"images": 5}, {"gsd_m": float("inf")}, "--gsd inf is no size of a pixel"),
    (
        {"images": 5},
        {"nodata": 300.0},
        "--nodata 300 cannot occur in images of 8 bits: give a whol",
    ),
    ({"images": 5}, {"nodata": -1.0}, "--nodata -1 cannot occur in images of 8 bits"),
    ({"images": 5}, {"nodata": 0.5}, "--nodata 0.5 cannot occur"),
    ({"images": 5}, {"nodata": float("nan")}, "--nodata nan cannot occur"),
    ({"images": 5}, {"nodata": float("inf")}, "--nodata inf cannot occur"),
    ({"images": 5}, {"mask": "alpha"}, "--mask alpha, but no band is tagged alpha"),
]


@pytest.mark.parametrize(("given", "options", "message"), REFUSED)
def test_inputs_that_are_refused(at, spec, given, options, message):
    names = {name: (at(f"{name}.tif", bands),) for name, bands in given.items()}
    with pytest.raises(SourceError, match=message):
        given_products(spec, Inputs(**names), ReadOptions(**options))


@pytest.mark.parametrize("dtype", ["uint16", "int8", "float32"])
@pytest.mark.parametrize("product", ["images", "rvb", "irc"])
def test_images_of_another_type(at, spec, dtype, product):
    types = dict.fromkeys(("rvb", "irc", "ndsm"), "uint8") | {product: dtype}
    count = {"images": 5, "ndsm": 1}
    wanted = ("images",) if product == "images" else ("rvb", "irc", "ndsm")
    names = {n: (at(f"{n}.tif", count.get(n, 3), types[n]),) for n in wanted}
    message = f"{product}.tif: bands are {dtype}, the model wants uint8 .*: give the 8-bit delivery"
    with pytest.raises(SourceError, match=message):
        given_products(spec, Inputs(**names), ReadOptions())


def test_only_bands_that_are_read_must_be_images(tmp_path, band_model):
    path = tmp_path / "in.vrt"
    write(tmp_path / "a.tif", flat(1, 9, 9))
    write(tmp_path / "b.tif", flat(1, 9, 9, "float32"))
    band = '<VRTRasterBand dataType="{}" band="{}"><SimpleSource><SourceFilename relativeToVRT="1">'
    path.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="9">'
        + band.format("Byte", 1)
        + "a.tif</SourceFilename></SimpleSource></VRTRasterBand>"
        + band.format("Float32", 2)
        + "b.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    spec, given = read_model_spec(band_model("red")), Inputs(images=(str(path),))
    products = given_products(spec, given, ReadOptions(bands=(1,)))
    assert chosen(products) == {"images": [(1,)]}
    with pytest.raises(SourceError, match="bands are float32"):
        given_products(spec, given, ReadOptions(bands=(2,)))


@pytest.fixture
def palette(tmp_path):
    path = write(tmp_path / "palette.tif", flat(3, 20, 30), photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {3: (230, 60, 50, 255)})
    return str(path)


@pytest.mark.parametrize("product", ["images", "rvb", "irc", "ndsm", "dsm"])
def test_numbers_of_colours_are_refused(at, spec, palette, product):
    names = {"rvb": at("rvb.tif", 3), "irc": at("irc.tif", 3), "ndsm": at("ndsm.tif")}
    if product == "images":
        names = {}
    if product == "dsm":
        del names["ndsm"]
        names["dtm"] = at("dtm.tif")
    given = {name: (path,) for name, path in (names | {product: palette}).items()}
    message = r"palette.tif: band 1 holds numbers of colours \(a palette\), not values"
    with pytest.raises(SourceError, match=message):
        given_products(spec, Inputs(**given), ReadOptions())


def test_a_palette_of_the_right_number_of_bands(band_model, palette):
    spec = read_model_spec(band_model("red"))
    with pytest.raises(SourceError, match=r"numbers of colours .*gdal_translate -expand rgb"):
        given_products(spec, Inputs(images=(palette,)), ReadOptions())


def test_heights_are_numbers(tmp_path, at, spec):
    path = write(tmp_path / "dsm.tif", np.ones((1, 9, 9), np.complex64))
    given = Inputs(images=(at("in.tif", 4),), dsm=(str(path),), dtm=(str(path),))
    with pytest.raises(SourceError, match="dsm.tif: is complex64, heights are numbers: give the"):
        given_products(spec, given, ReadOptions())


def test_a_product_the_model_does_not_read(at, band_model):
    spec = read_model_spec(band_model(*COLOURS))
    rvb, irc, height = at("rvb.tif", 3), at("irc.tif", 3), at("dsm.tif")
    for given, band in (
        ({"irc": (irc,)}, "nir"),
        ({"dsm": (height,), "dtm": (height,)}, "elevation"),
    ):
        message = f"{band} is given, but box reads red, green, blue: leave it out"
        with pytest.raises(SourceError, match=message):
            given_products(spec, Inputs(rvb=(rvb,), **given), ReadOptions())


def test_bands_that_stand_apart_in_the_model(spec, band_model):
    assert place_of(spec, COLOURS) == slice(0, 3)
    assert place_of(spec, ("elevation",)) == slice(4, 5)
    apart = read_model_spec(band_model("red", "elevation", "green", "blue", "nir"))
    with pytest.raises(SourceError, match="red, green, blue do not follow one another in box"):
        place_of(apart, COLOURS)


@pytest.mark.parametrize("name", ["ndsm", "dsm", "dtm"])
@pytest.mark.parametrize("bands", [2, 3])
def test_heights_have_one_band(at, spec, name, bands):
    heights = {"ndsm": 1} if name == "ndsm" else {"dsm": 1, "dtm": 1}
    given = {n: (at(f"{n}.tif", count),) for n, count in (heights | {name: bands}).items()}
    with pytest.raises(
        SourceError,
        match=rf"{name}.tif: has {bands} bands, a height has one: give the height, or take one ba",
    ):
        given_products(spec, Inputs(images=(at("in.tif", 4),), **given), ReadOptions())


def test_alpha_beside_a_height_is_its_mask(at, spec):
    given = Inputs(images=(at("in.tif", 4),), ndsm=(at("ndsm.tif", 2, kinds=("gray", "alpha")),))
    _, height = given_products(spec, given, ReadOptions())
    assert height.files[0].choice.mask_band == 2


@pytest.mark.parametrize("nodata", [0.0, 255.0, 7])
def test_nodata_that_can_occur(at, spec, nodata):
    given = Inputs(images=(at("in.tif", 5),))
    (images,) = given_products(spec, given, ReadOptions(nodata=nodata))
    assert images.files[0].choice.nodata == (nodata,) * 4
