import numpy as np
import pytest
import rasterio
from doubles.field import LOCAL, Placed, X, Y, flat, noise, write, write_vrt
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from flair_engine import Inputs, ReadOptions
from flair_engine.errors import SourceError
from flair_engine.grid import Window
from flair_engine.manifest import read_model_spec
from flair_engine.reading.file_layer import FileLayer
from flair_engine.reading.height import HeightLayer
from flair_engine.reading.inputs import open_inputs
from flair_engine.reading.warp import WarpedLayer

RGBIE = ("red", "green", "blue", "nir", "elevation")
PLAIN = ReadOptions()


@pytest.fixture
def spec(band_model):
    return read_model_spec(band_model(*RGBIE))


@pytest.fixture
def red(band_model):
    return read_model_spec(band_model("red"))


@pytest.fixture
def at(tmp_path):
    """Write noise of some bands; return its name and pixels."""

    def make(name, bands=1, height=70, width=53, dtype="uint8", **said):
        image = noise(bands, height, width, seed=len(name) + bands).astype(dtype)
        said.setdefault("photometric", "minisblack")
        return str(write(tmp_path / name, image, **said)), image

    return make


def pixels(opened, sheet=0):
    """Read a whole raster the plain way: the first valid layer, product beside product."""
    raster = opened.sheets[sheet].raster
    image = np.zeros((raster.count, raster.height, raster.width), np.uint8)
    valid = np.ones((raster.height, raster.width), bool)
    for product in raster.products:
        covered = np.zeros_like(valid)
        for layer in product.layers:
            w = layer.window
            if not w.pixels:
                continue
            part, known, _ = layer.read(Window(top=0, left=0, height=w.height, width=w.width))
            known = np.ones(part.shape[1:], bool) if known is None else known
            inside = w.intersection(Window(top=0, left=0, height=raster.height, width=raster.width))
            rows, cols = inside.relative_to(w).slices
            seen = known[rows, cols] & ~covered[inside.slices]
            image[product.bands][:, inside.slices[0], inside.slices[1]][:, seen] = part[
                :, rows, cols
            ][:, seen]
            covered[inside.slices] |= seen
        if product.required:
            valid &= covered
    opened.close()
    return image, valid


def test_one_file_that_holds_all_bands(at, spec):
    path, image = at("in.tif", 5)
    opened = open_inputs(spec, Inputs(images=(path,)), PLAIN)
    assert opened.notices == []
    assert opened.files == (path,)
    (sheet,) = opened.sheets
    assert sheet.raster.fill == (100,) * 5
    assert sheet.delivered == ((path, Window(top=0, left=0, height=70, width=53)),)
    assert sheet.pixel_grid.crs.to_epsg() == 2154
    assert opened.blocks == sheet.raster.blocks
    assert len(opened.skipped) == 0
    assert (pixels(opened)[0] == image).all()


def test_bands_in_the_order_asked_for(at, spec):
    path, image = at("in.tif", 7)
    options = ReadOptions(bands=(7, 6, 5, 1, 2))
    opened = open_inputs(spec, Inputs(images=(path,)), options)
    assert (pixels(opened)[0] == image[[6, 5, 4, 0, 1]]).all()


def test_products_are_put_together(at, spec):
    rvb, colours = at("rvb.tif", 3)
    irc, infrared = at("irc.tif", 3)
    ndsm, height = at("ndsm.tif", 1)
    opened = open_inputs(spec, Inputs(rvb=(rvb,), irc=(irc,), ndsm=(ndsm,)), PLAIN)
    assert opened.notices == []
    assert opened.files == tuple(sorted((rvb, irc, ndsm)))
    image, valid = pixels(opened)
    assert (image == np.concatenate([colours, infrared[:1], height])).all()
    assert valid.all()


@pytest.mark.parametrize("kind", ["dsm - dtm", "ndsm"])
def test_height_beside_four_bands_is_read_in_place(at, spec, tmp_path, kind):
    path, image = at("in.tif", 4)
    metres = np.random.default_rng(0).uniform(0, 20, (1, 70, 53)).astype(np.float32)
    dtm = write(tmp_path / "dtm.tif", flat(100, 70, 53, "float32"))
    dsm = write(tmp_path / "dsm.tif", metres + 100)
    ndsm = write(tmp_path / "ndsm.tif", metres)
    given = {"ndsm": (str(ndsm),)} if kind == "ndsm" else {"dsm": (str(dsm),), "dtm": (str(dtm),)}
    opened = open_inputs(spec, Inputs(images=(path,), **given), PLAIN)
    (layer,) = opened.sheets[0].raster.products[1].layers
    assert isinstance(layer, HeightLayer)
    said = [notice.replace(f"{tmp_path}/", "") for notice in opened.notices]
    assert said == ["ndsm.tif: float32, taken as metres"] * (kind == "ndsm")
    read, valid = pixels(opened)
    assert (read[:4] == image).all()
    above_m = metres if kind == "ndsm" else (metres + 100) - 100
    assert (read[4] == np.rint(5 * above_m)[0]).all()
    assert valid.all()


def test_of_files_that_overlap_the_first_is_on_top(at, red):
    first, above = at("b.tif", nodata=7)
    second, below = at("aa.tif", col=20)
    opened = open_inputs(red, Inputs(images=(first, second)), PLAIN)
    (notice,) = opened.notices
    assert "b.tif and " in notice
    assert notice.endswith(
        "aa.tif cover one another: where both are valid the first of them is mapped"
    )
    image, valid = pixels(opened)
    known = above[0] != 7
    assert not known.all()
    assert (image[0, :, :20][known[:, :20]] == above[0, :, :20][known[:, :20]]).all()
    assert (image[0, :, 20:53] == np.where(known[:, 20:], above[0, :, 20:], below[0, :, :33])).all()
    assert (image[0, :, 53:] == below[0, :, 33:]).all()
    assert (valid[:, :20] == known[:, :20]).all()
    assert valid[:, 20:].all()


def test_a_seam_is_not_told(at, red):
    paths = [at(f"{n}.tif", col=50 * n)[0] for n in range(3)]
    assert open_inputs(red, Inputs(images=tuple(paths)), PLAIN).notices == []


def test_extents_that_differ_are_told(at, spec):
    rvb, _ = at("rvb.tif", 3)
    irc, _ = at("irc.tif", 3, row=20)
    ndsm, _ = at("ndsm.tif", 1, height=35)
    opened = open_inputs(spec, Inputs(rvb=(rvb,), irc=(irc,), ndsm=(ndsm,)), PLAIN)
    (sheet,) = opened.sheets
    assert (sheet.raster.height, sheet.raster.width) == (70, 53)
    infrared, height = opened.notices
    assert infrared == (
        "irc covers 71.4% of the raster, rvb 100.0%: what one of them lacks becomes nodata"
    )
    assert "ndsm covers 50.0% of the raster" in height
    assert height.endswith("counts as height 0")
    _, valid = pixels(opened)
    assert not valid[:20].any()
    assert valid[20:].all()


def test_delivered_files_know_their_place(at, red):
    names = [at(f"{n}.tif", col=53 * n)[0] for n in range(2)]
    (sheet,) = open_inputs(red, Inputs(images=tuple(names)), PLAIN).sheets
    assert sheet.delivered == tuple(
        (name, Window(top=0, left=53 * n, height=70, width=53)) for n, name in enumerate(names)
    )


def test_files_inside_vrts_are_files_too(at, red, tmp_path):
    source, _ = at("a.tif")
    path = write_vrt(tmp_path / "in.vrt", [Placed(tmp_path / "a.tif", 0, 0, 70, 53)], height=70,
                     width=53)  # fmt: skip
    opened = open_inputs(red, Inputs(images=(str(path),)), PLAIN)
    assert opened.files == tuple(sorted((str(path), source)))


@pytest.mark.parametrize("product", ["images", "rvb", "irc"])
@pytest.mark.parametrize("number", [0, 1])
def test_every_image_has_the_sampling_of_the_model(at, spec, band_model, product, number):
    bands = {"images": 5, "rvb": 3, "irc": 3}
    wanted = ("images",) if product == "images" else ("rvb", "irc")
    given = {
        name: tuple(
            at(f"{name}{n}.tif", bands[name], col=53 * n,
               gsd_m=0.5 if (name, n) == (product, number) else 0.2)[0]
            for n in range(2)
        )
        for name in wanted
    }  # fmt: skip
    if product != "images":
        spec = read_model_spec(band_model(*RGBIE[:4]))
    message = (
        rf"{product}{number}.tif: ground sampling is 0.5 x 0.5 m, the model was trained at 0.2"
    )
    with pytest.raises(SourceError, match=message):
        open_inputs(spec, Inputs(**given), PLAIN)


def test_heights_may_have_any_sampling(at, spec, tmp_path):
    path, _ = at("in.tif", 4)
    dsm = str(write(tmp_path / "dsm.tif", flat(110, 14, 11, "float32"), gsd_m=1))
    opened = open_inputs(spec, Inputs(images=(path,), dsm=(dsm,), dtm=(dsm,)), PLAIN)
    assert opened.notices == []
    assert pixels(opened)[1].all()


def test_resampling_takes_any_image_and_is_not_told(at, band_model):
    spec = read_model_spec(band_model(*RGBIE[:4]))
    rvb, irc = at("rvb.tif", 3)[0], at("irc.tif", 3, height=28, width=22, gsd_m=0.5)[0]
    given = Inputs(rvb=(rvb,), irc=(irc,))
    opened = open_inputs(spec, given, ReadOptions(resample=True))
    assert [type(p.layers[0]) for p in opened.sheets[0].raster.products] == [FileLayer, WarpedLayer]
    assert not any("warped" in notice for notice in opened.notices)
    assert pixels(opened)[1].all()


def test_an_image_that_is_shifted_is_warped_and_told(at, red):
    names = at("a.tif")[0], at("b.tif", col=53, row=0.5)[0]
    opened = open_inputs(red, Inputs(images=names), PLAIN)
    (notice,) = opened.notices
    assert notice.endswith("b.tif: is on another grid, warped to that of the map")


def test_a_size_that_is_told_overrides_what_files_say(at, red):
    path, image = at("a.tif", gsd_m=0.5)
    opened = open_inputs(red, Inputs(images=(path,)), ReadOptions(gsd_m=0.2))
    (notice,) = opened.notices
    assert "taken as 0.2 m as told" in notice
    assert (pixels(opened)[0] == image).all()
    path, image = at("b.tif", crs=None, transform=None)
    opened = open_inputs(red, Inputs(images=(path,)), ReadOptions(gsd_m=0.2))
    assert opened.notices == []
    assert (pixels(opened)[0] == image).all()


def test_heights_without_a_crs_are_taken_to_be_where_they_fall(at, spec, tmp_path):
    path, _ = at("in.tif", 4)
    text = "ncols 11\nnrows 14\nxllcorner {}\nyllcorner {}\ncellsize 1\n" + "110 " * 154
    names = []
    for n in range(2):
        name = tmp_path / f"{n}.asc"
        name.write_text(text.format(X, Y - 14))
        names.append(str(name))
    opened = open_inputs(spec, Inputs(images=(path,), dsm=(names[0],), dtm=(names[1],)), PLAIN)
    said = [notice.replace(f"{tmp_path}/", "") for notice in opened.notices]
    assert said == [f"{n}.asc: has no CRS, taken as EPSG:2154" for n in range(2)]
    image, valid = pixels(opened)
    assert valid.all()
    assert (image[4] == 0).all()


@pytest.mark.parametrize("away", [{"col": 5000}, {"transform": None}])
def test_heights_without_a_crs_that_fall_elsewhere_are_refused(at, spec, tmp_path, away):
    path, _ = at("in.tif", 4)
    dsm = str(write(tmp_path / "dsm.tif", flat(110, 70, 53, "float32"), crs=None, **away))
    with pytest.raises(SourceError, match=r"dsm.tif: .*no CRS"):
        open_inputs(spec, Inputs(images=(path,), dsm=(dsm,), dtm=(dsm,)), PLAIN)


def test_an_image_without_a_crs_beside_others_is_refused(at, spec):
    path, _ = at("in.tif", 5)
    other, _ = at("other.tif", 5, col=53, crs=None)
    with pytest.raises(SourceError, match="other.tif: has no CRS while other files have one"):
        open_inputs(spec, Inputs(images=(path, other)), PLAIN)


def test_a_crs_of_no_place_is_that_of_its_name(at, red):
    names = at("a.tif", crs=LOCAL)[0], at("b.tif", col=53)[0]
    opened = open_inputs(red, Inputs(images=names), PLAIN)
    (notice,) = opened.notices
    assert notice.endswith("a.tif: CRS of no place, taken as EPSG:2154 by its name")
    assert opened.sheets[0].pixel_grid.crs.to_epsg() == 2154


def test_height_that_cannot_be_is_told_once_it_is_read(at, spec, tmp_path):
    path, _ = at("in.tif", 4)
    names = []
    for n in range(2):
        metres = flat(100, 70, 30, "float32")
        metres[:, 5, 6] = 32767
        names.append(str(write(tmp_path / f"dsm{n}.tif", metres, col=30 * n)))
    opened = open_inputs(spec, Inputs(images=(path,), dsm=tuple(names), dtm=(names[0],)), PLAIN)
    assert opened.notices == [("dsm - dtm covers 56.6% of the raster, images 100.0%: what one of "
                              "them lacks counts as height 0")]  # fmt: skip
    assert list(opened.found) == []
    pixels(opened)
    assert len(opened.found) == 2  # one for each product, however many files it has
    assert all("dsm0.tif: holds 32767 m" in notice for notice in opened.found)


def test_blocks_that_cannot_be_decoded_are_counted(at, red):
    path, image = at("in.tif", blockysize=5, compress="deflate")
    with open(path, "r+b") as file:  # noqa: PTH123
        file.truncate(2500)
    opened = open_inputs(red, Inputs(images=(path,)), ReadOptions(on_error="skip"))
    read, valid = pixels(opened)
    assert 0 < len(opened.skipped) < opened.blocks
    assert (read[:, valid] == image[:, valid]).all()


@pytest.fixture
def two_dates(at):
    """Two rows of two tiles that show the same ground, the second a little apart."""
    return [at(f"{date}{n}.tif", row=3 * date, col=50 * n) for date in range(2) for n in range(2)]


def test_files_that_cover_one_another_come_to_sheets_of_their_own(red, two_dates):
    names = tuple(name for name, _ in two_dates)
    opened = open_inputs(red, Inputs(images=names), PLAIN, apart=True)
    assert [[name for name, _ in sheet.delivered] for sheet in opened.sheets] == [
        list(names[:2]), list(names[2:]),
    ]  # fmt: skip
    assert [(s.raster.height, s.raster.width) for s in opened.sheets] == [(70, 103)] * 2
    assert opened.sheets[1].pixel_grid.transform.f == pytest.approx(Y - 0.6)
    (notice,) = opened.notices
    assert notice.endswith("cover one another: mapped apart (and 1 files more)")
    assert opened.blocks == sum(sheet.raster.blocks for sheet in opened.sheets)
    for sheet in range(2):
        image, valid = pixels(opened, sheet)
        assert valid.all()
        assert (image[0, :, :53] == two_dates[2 * sheet][1][0]).all()
    together = open_inputs(red, Inputs(images=names), PLAIN)
    assert len(together.sheets) == 1


def test_each_sheet_has_the_height_of_all(at, band_model, two_dates, tmp_path):
    spec = read_model_spec(band_model("red", "elevation"))
    ndsm = str(write(tmp_path / "ndsm.tif", noise(1, 80, 110)))
    given = Inputs(images=tuple(name for name, _ in two_dates), ndsm=(ndsm,))
    opened = open_inputs(spec, given, PLAIN, apart=True)
    whole = noise(1, 80, 110)[0]
    for sheet in range(2):
        image, _ = pixels(opened, sheet)
        assert (image[1] == whole[3 * sheet : 3 * sheet + 70, :103]).all()


def test_other_products_of_several_dates_are_refused(at, band_model):
    spec = read_model_spec(band_model(*RGBIE[:4]))
    given = Inputs(
        rvb=tuple(at(f"rvb{n}.tif", 3)[0] for n in range(2)),
        irc=tuple(at(f"irc{n}.tif", 3)[0] for n in range(2)),
    )
    with pytest.raises(
        SourceError,
        match="irc: .*show the same ground, .* of them .*irc0.tif and .*irc1.tif belong: give",
    ):
        open_inputs(spec, given, PLAIN, apart=True)


def test_files_without_a_place(at, red):
    given = Inputs(images=tuple(at(f"{n}.tif", crs=None, transform=None)[0] for n in range(3)))
    options = ReadOptions(gsd_m=0.2)
    with pytest.raises(SourceError, match="3 files without a georeference .*: use --per-input"):
        open_inputs(red, given, options)
    opened = open_inputs(red, given, options, apart=True)
    assert [len(sheet.delivered) for sheet in opened.sheets] == [1] * 3
    assert opened.notices == []


def test_a_height_that_belongs_to_none_of_several_files_is_named_once(at, band_model):
    spec = read_model_spec(band_model("red", "elevation"))
    nowhere = {"crs": None, "transform": None}
    given = Inputs(
        images=tuple(at(f"{n}.tif", **nowhere)[0] for n in range(2)),
        ndsm=(at("ndsm.tif", **nowhere)[0],),
    )
    with pytest.raises(SourceError, match=r"ndsm: (.*)") as refused:
        open_inputs(spec, given, ReadOptions(gsd_m=0.2), apart=True)
    assert str(refused.value).count("ndsm.tif") == 1


def test_one_map_of_files_that_lie_far_apart_is_refused(at, red):
    names = at("a.tif")[0], at("b.tif", col=53)[0], at("far.tif", col=10**6, row=10**6)[0]
    with pytest.raises(SourceError, match="all but void; farthest off lies .*far.tif: check its"):
        open_inputs(red, Inputs(images=names), PLAIN)
    assert len(open_inputs(red, Inputs(images=names), PLAIN, apart=True).sheets) == 1


def test_a_file_in_another_crs_is_warped_to_its_place(at, red):
    first, _ = at("a.tif", height=300, width=300)
    left, _, _, top = transform_bounds("EPSG:2154", "EPSG:32631", X + 20, Y - 40, X + 40, Y - 20)
    second, _ = at("b.tif", height=100, width=100, crs="EPSG:32631",
                   transform=from_origin(left, top, 0.2, 0.2))  # fmt: skip
    opened = open_inputs(red, Inputs(images=(first, second)), PLAIN)
    (_, there) = opened.sheets[0].delivered[1]
    assert abs(there.top - 100) < 20
    assert abs(there.left - 100) < 20
    assert any("warped to that of the map" in notice for notice in opened.notices)
    opened.close()


def test_what_is_refused_of_products_is_refused(at, spec):
    with pytest.raises(SourceError, match="has 3 bands, the model wants 5"):
        open_inputs(spec, Inputs(images=(at("in.tif", 3)[0],)), PLAIN)


def test_real_products_of_a_square(shared_data, spec):
    folder = shared_data / "bdortho"
    rgb, irc = (str(folder / f"test_data_{kind}.tif") for kind in ("rgb", "irc"))
    ground = str(folder / "test_data_77055_627760_LA93_IGN69_interp.tif")
    inputs = Inputs(rvb=(rgb,), irc=(irc,), dsm=(ground,), dtm=(ground,))
    opened = open_inputs(spec, inputs, PLAIN)
    assert opened.sheets[0].pixel_grid.crs.to_epsg() == 2154
    nameless, height = opened.notices
    assert "CRS without a name, taken as EPSG:2154 by its definition" in nameless
    # 50 m of the 50.4 m on each side.
    assert height.startswith("dsm - dtm covers 98.4% of the raster, rvb 100.0%")
    image, valid = pixels(opened)
    with rasterio.open(rgb) as one, rasterio.open(irc) as other:
        colours, infrared = one.read(), other.read()
    both = ~((colours == 255).all(0) | (infrared[:1] == 255).all(0))
    assert (valid == both).all()
    assert (image[:3, valid] == colours[:, valid]).all()
    assert (image[3, valid] == infrared[0, valid]).all()


def test_files_that_are_told_to_have_one_sampling_have_it_among_them(at, red):
    names = at("a.tif")[0], at("b.tif", gsd_m=0.5, col=200)[0]
    with pytest.raises(
        SourceError, match=r"b.tif: ground sampling is 0.5 x 0.5 m, the model was trained at 0.2 m"
    ):
        open_inputs(red, Inputs(images=names), ReadOptions(gsd_m=0.2))
    names = at("a.tif", gsd_m=0.5)[0], at("b.tif", gsd_m=0.5, col=200)[0]
    opened = open_inputs(red, Inputs(images=names), ReadOptions(gsd_m=0.2))
    assert len(opened.sheets) == 1
    names = at("a.tif")[0], at("b.tif", gsd_m=0.5, col=200)[0]
    open_inputs(red, Inputs(images=names), ReadOptions(gsd_m=0.2, resample=True))


@pytest.mark.parametrize("name", ["irc", "ndsm", "dsm"])
def test_a_product_that_lies_beside_the_images_is_refused(at, spec, name):
    away = {"col": 1000}
    names = {"irc": at("irc.tif", 3)[0], "ndsm": at("ndsm.tif")[0]}
    if name == "dsm":
        names = {"irc": names["irc"], "dtm": at("dtm.tif")[0]}
    names[name] = at("away.tif", 3 if name == "irc" else 1, **away)[0]
    given = {product: (path,) for product, path in names.items()}
    with pytest.raises(
        SourceError,
        match=rf"away.tif: lies beside the images, as all of {name} does: check its CRS and geo",
    ):
        open_inputs(spec, Inputs(rvb=(at("rvb.tif", 3)[0],), **given), PLAIN)


def test_a_product_of_which_a_part_lies_on_the_map_is_taken(at, spec):
    ndsm = at("a.tif", col=1000)[0], at("b.tif", col=40)[0]
    given = Inputs(images=(at("in.tif", 4)[0],), ndsm=ndsm)
    assert any("ndsm covers" in notice for notice in open_inputs(spec, given, PLAIN).notices)


def test_files_of_vrts_at_any_depth_are_files_of_the_inputs(at, red, tmp_path):
    path, _ = at("a.tif")
    inner = write_vrt(tmp_path / "x.xml", [Placed(tmp_path / "a.tif", 0, 0, 70, 53)], height=70,
                      width=53)  # fmt: skip
    outer = write_vrt(tmp_path / "o.vrt", [Placed(inner, 0, 0, 70, 53)], height=70, width=53)
    opened = open_inputs(red, Inputs(images=(str(outer),)), PLAIN)
    assert opened.files == tuple(sorted((path, str(inner), str(outer))))
    assert set(opened.places) == set(opened.files)
