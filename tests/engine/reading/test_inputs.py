import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from flair_engine import Inputs, ReadOptions
from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.manifest import read_model_spec
from flair_engine.reading.inputs import open_inputs

X, Y = 721104.4, 6248980.8
RGBIE = ("red", "green", "blue", "nir", "elevation")


@pytest.fixture
def spec(band_model):
    return read_model_spec(band_model(*RGBIE))


@pytest.fixture
def at(make_raster):
    def make(name, row=0, col=0, gsd_m=0.2, **options):
        transform = from_origin(X + col * 0.2, Y - row * 0.2, gsd_m, gsd_m)
        path, image = make_raster(name, transform=transform, **options)
        return str(path), image

    return make


def pixels(opened):
    """Read the whole raster the plain way: layer over layer, product beside product."""
    raster = opened.raster
    image = np.zeros((raster.count, raster.height, raster.width), np.uint8)
    valid = np.ones((raster.height, raster.width), bool)
    for product in raster.products:
        covered = np.zeros_like(valid)
        for layer in product.layers:
            w = layer.window
            part, known = layer.read(Window(top=0, left=0, height=w.height, width=w.width))
            known = np.ones(part.shape[1:], bool) if known is None else known
            rows, cols = w.slices
            here = image[product.bands, rows, cols]
            known = known[: here.shape[1], : here.shape[2]]
            here[:, known] = part[:, : here.shape[1], : here.shape[2]][:, known]
            covered[rows, cols] |= known
        if product.required:
            valid &= covered
    opened.close()
    return image, valid


def test_one_file_that_holds_all_bands(at, spec):
    path, image = at("in.tif", bands=5)
    opened = open_inputs(spec, Inputs(images=(path,)), ReadOptions())
    assert opened.notices == []
    assert opened.files == (path,)
    assert opened.raster.fill == (100,) * 5
    assert (pixels(opened)[0] == image).all()


def test_bands_in_the_order_asked_for(at, spec):
    path, image = at("in.tif", bands=7)
    options = ReadOptions(bands=(7, 6, 5, 1, 2))
    assert (
        pixels(open_inputs(spec, Inputs(images=(path,)), options))[0] == image[[6, 5, 4, 0, 1]]
    ).all()


def test_products_are_put_together(at, spec):
    rvb, colours = at("rvb.tif", bands=3)
    irc, infrared = at("irc.tif", bands=3, height=70, width=53, dtype="uint8", nodata=None)
    ndsm, height = at("ndsm.tif", bands=1)
    opened = open_inputs(spec, Inputs(rvb=(rvb,), irc=(irc,), ndsm=(ndsm,)), ReadOptions())
    image, valid = pixels(opened)
    assert (image == np.concatenate([colours, infrared[:1], height])).all()
    assert valid.all()


def test_height_beside_four_bands(at, spec):
    path, image = at("in.tif", bands=4)
    dsm, _ = at("dsm.tif", bands=1, dtype="float32", height=70)
    opened = open_inputs(spec, Inputs(images=(path,), dsm=(dsm,), dtm=(dsm,)), ReadOptions())
    read, valid = pixels(opened)
    assert (read[:4] == image).all()
    assert (read[4] == 0).all()
    assert valid.all()


def test_extents_that_differ_are_told(at, spec):
    rvb, _ = at("rvb.tif", bands=3)
    irc, _ = at("irc.tif", row=20, bands=3)
    ndsm, _ = at("ndsm.tif", bands=1, height=35)
    opened = open_inputs(spec, Inputs(rvb=(rvb,), irc=(irc,), ndsm=(ndsm,)), ReadOptions())
    assert (opened.raster.height, opened.raster.width) == (70, 53)
    infrared, height = opened.notices
    assert infrared == (
        "irc covers 71.4% of the raster, rvb 100.0%: what one of them lacks becomes nodata"
    )
    assert "ndsm covers 50.0% of the raster" in height
    assert height.endswith("counts as height 0")
    _, valid = pixels(opened)
    assert not valid[:20].any()
    assert valid[20:].all()


def test_delivered_files_know_their_place(at, spec):
    names = [at(f"{n}.tif", col=53 * n, bands=5)[0] for n in range(2)]
    opened = open_inputs(spec, Inputs(images=tuple(names)), ReadOptions())
    assert opened.delivered == tuple(
        (name, Window(top=0, left=53 * n, height=70, width=53)) for n, name in enumerate(names)
    )


def test_real_products_of_a_square(shared_data, spec):
    folder = shared_data / "bdortho"
    rgb, irc = (str(folder / f"test_data_{kind}.tif") for kind in ("rgb", "irc"))
    ground = str(folder / "test_data_77055_627760_LA93_IGN69_interp.tif")
    inputs = Inputs(rvb=(rgb,), irc=(irc,), dsm=(ground,), dtm=(ground,))
    opened = open_inputs(spec, inputs, ReadOptions())
    assert opened.pixel_grid.crs.to_epsg() == 2154
    (notice,) = opened.notices
    assert "CRS without a name, taken as EPSG:2154 by its definition" in notice
    image, valid = pixels(opened)
    with rasterio.open(rgb) as one, rasterio.open(irc) as other:
        colours, infrared = one.read(), other.read()
    both = ~((colours == 255).all(0) | (infrared[:1] == 255).all(0))
    assert (valid == both).all()
    assert (image[:3, valid] == colours[:, valid]).all()
    assert (image[3, valid] == infrared[0, valid]).all()


REFUSED = [
    ({"images": 3}, {}, r"has 3 bands, the model wants 5 .*: choose them with --bands 1,2,3,4,5"),
    ({"images": 1}, {}, "has 1 band, the model wants 5"),
    ({"images": 5, "rvb": 3}, {}, "images given both by INPUT and by --rvb/--irc"),
    ({"irc": 3}, {}, "no image given: name files as INPUT, or with --rvb and --irc"),
    ({"images": 4, "dsm": 1}, {}, "height needs both --dsm and --dtm"),
    ({"rvb": 3, "ndsm": 1, "dsm": 1, "dtm": 1}, {}, "height given both by --ndsm and by"),
    ({"rvb": 3, "irc": 3}, {}, "box needs elevation, which is not given: add --ndsm, or --dsm"),
    ({"rvb": 3, "ndsm": 1}, {}, "box needs nir, which is not given: add --irc"),
    ({"images": 5}, {"bands": (1, 2)}, "2 band numbers given, the model wants 5"),
    ({"images": 5}, {"bands": (1, 2, 3, 4, 9)}, "band 9 was asked for but the file has 5"),
    ({"rvb": 3, "irc": 3, "ndsm": 1}, {"bands": (1, 2, 3)}, "--bands is for INPUT"),
]


@pytest.mark.parametrize(("given", "options", "message"), REFUSED)
def test_inputs_that_are_refused(at, spec, given, options, message):
    names = {name: (at(f"{name}.tif", bands=bands)[0],) for name, bands in given.items()}
    with pytest.raises(SourceError, match=message):
        open_inputs(spec, Inputs(**names), ReadOptions(**options))


def test_bands_of_another_type(at, spec):
    path, _ = at("in.tif", bands=5, dtype="uint16")
    with pytest.raises(SourceError, match="bands are uint16, the model wants uint8"):
        open_inputs(spec, Inputs(images=(path,)), ReadOptions())


def test_a_product_the_model_does_not_read(at, band_model):
    spec = read_model_spec(band_model("red", "green", "blue"))
    rvb, irc = at("rvb.tif", bands=3)[0], at("irc.tif", bands=3)[0]
    with pytest.raises(SourceError, match="nir is given, but box reads red, green, blue"):
        open_inputs(spec, Inputs(rvb=(rvb,), irc=(irc,)), ReadOptions())
