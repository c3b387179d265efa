"""A VRT shows its sources as they are read by themselves, or is refused."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
from doubles.field import Placed, flat, noise, write, write_vrt
from rasterio.enums import ColorInterp

from flair_engine.errors import SourceError, TooManyFilesError
from flair_engine.reading import files, handed_on
from flair_engine.reading.files import describe

HOLED = np.ones((20, 30), bool)
HOLED[5:9, 7:11] = False


def mosaic(source, *, bands=1, size=(20, 30), **said):
    """Write a VRT that shows a file twice, side by side; return its name."""
    placed = [Placed(source, 0, 0, *size), Placed(source, 0, size[1], *size)]
    path = source.with_suffix(".vrt")
    return str(write_vrt(path, placed, height=size[0], width=2 * size[1], bands=bands, **said))


def image(tmp_path, bands=1, **said):
    pixels = noise(bands, 20, 30)
    pixels[:, ~HOLED] = 255
    return write(tmp_path / "a.tif", pixels, **said)


def rgba(tmp_path, **said):
    pixels = np.concatenate([noise(3, 20, 30), HOLED[None] * np.uint8(255)])
    kinds = ("red", "green", "blue", "alpha")
    return write(tmp_path / "a.tif", pixels, photometric="RGB", kinds=kinds, **said)


def refused(name):
    with pytest.raises(
        SourceError,
        match=r"a.vrt: does not hand on which pixels of .*a.tif are valid: build it with "
        r"gdalbuildvrt -vrtnodata, or give its tiles as they are",
    ):
        describe(name)


@pytest.mark.parametrize("said", [{}, {"declared": 0.0}, {"keyed": 255.0}, {"declared": 254.0}])
def test_nodata_that_the_vrt_does_not_declare(tmp_path, said):
    refused(mosaic(image(tmp_path, nodata=255), **said))


@pytest.mark.parametrize("said", [{"nodata": 255.0}, {"declared": 255.0},
                                  {"keyed": 255.0, "declared": 0.0}, {"masked": True}])  # fmt: skip
def test_nodata_that_it_hands_on(tmp_path, said):
    describe(mosaic(image(tmp_path, nodata=255), **said))


@pytest.mark.parametrize("said", [{}, {"declared": 255.0}, {"nodata": 0.0}, {"by_mask": True}])
@pytest.mark.parametrize("sidecar", [False, True])
def test_a_mask_that_it_does_not_hand_on(tmp_path, said, sidecar):
    refused(mosaic(image(tmp_path, mask_hw=HOLED, sidecar=sidecar), **said))


@pytest.mark.parametrize("said", [{"masked": True}, {"by_mask": True, "declared": 0.0}])
def test_a_mask_that_it_hands_on(tmp_path, said):
    describe(mosaic(image(tmp_path, mask_hw=HOLED), **said))


def test_a_nodata_value_beside_a_mask_says_nothing(tmp_path):
    describe(mosaic(image(tmp_path, mask_hw=HOLED, nodata=7), masked=True))
    describe(mosaic(image(tmp_path, mask_hw=HOLED, nodata=7), by_mask=True, declared=0.0))


@pytest.mark.parametrize("said", [{}, {"declared": 0.0}, {"by_mask": True}])
def test_an_alpha_band_that_it_leaves_out(tmp_path, said):
    refused(mosaic(rgba(tmp_path), bands=3, **said))


@pytest.mark.parametrize("said", [{"bands": 4, "alpha": True},
                                  {"bands": 3, "by_mask": True, "declared": 0.0}])  # fmt: skip
def test_an_alpha_band_that_it_hands_on(tmp_path, said):
    describe(mosaic(rgba(tmp_path), **said))


@pytest.mark.parametrize("said", [{"nodata": 255}, {"mask_hw": HOLED}])
def test_an_alpha_band_that_says_only_where_sources_lie(tmp_path, said):
    """That is what gdalbuildvrt -addalpha makes."""
    refused(mosaic(image(tmp_path, 2, **said), bands=2, alpha=True, by_mask=True))
    refused(mosaic(image(tmp_path, 2, **said), bands=2, alpha=True, nodata=255.0))


def test_a_source_that_is_all_valid_needs_nothing(tmp_path):
    describe(mosaic(image(tmp_path)))
    describe(mosaic(image(tmp_path), nodata=0.0))
    describe(mosaic(image(tmp_path, 2), bands=2, alpha=True))


def test_bands_that_declare_differently_are_looked_at_each(tmp_path):
    name = mosaic(image(tmp_path, 2, nodata=255), bands=2, declared=255.0)
    describe(name)
    root = ET.parse(name).getroot()
    root.findall("VRTRasterBand")[1].remove(root.findall("*/NoDataValue")[1])
    ET.ElementTree(root).write(name)
    refused(name)


@pytest.mark.parametrize("nodata", [-9999.0, float("nan"), -3.4028234663852886e38, -99.99])
def test_nodata_of_heights_is_the_same_but_for_rounding(tmp_path, nodata):
    pixels = flat(100, 20, 30, "float32")
    pixels[0, ~HOLED] = nodata
    source = write(tmp_path / "a.tif", pixels, nodata=nodata)
    shown = {"dtype": "Float32"}
    describe(mosaic(source, **shown, declared=float(np.float32(nodata))))
    refused(mosaic(source, **shown))
    refused(mosaic(source, **shown, declared=-9998.0))


def test_a_nodata_value_that_cannot_occur_need_not_be_handed_on(tmp_path):
    name = mosaic(image(tmp_path))
    inner = ET.parse(name).getroot()
    for band in inner.iter("VRTRasterBand"):
        ET.SubElement(band, "NoDataValue").text = "-9999"
    ET.ElementTree(inner).write(tmp_path / "inner.tif")
    describe(mosaic(tmp_path / "inner.tif", size=(20, 60)))


def test_what_lies_deeper_is_looked_at_too(tmp_path):
    name = mosaic(image(tmp_path, nodata=255), declared=255.0)
    placed = [Placed(tmp_path / "a.vrt", 0, 0, 20, 60)]
    outer = str(write_vrt(tmp_path / "b.vrt", placed, height=20, width=60))
    describe(name)
    with pytest.raises(SourceError, match=r"b.vrt: does not hand on which pixels of .*a.tif are"):
        describe(outer)


def sparse(path, *, count=1, kinds=(), **said):
    """Write a tiled file of which one tile was never written."""
    profile = {"driver": "GTiff", "height": 64, "width": 64, "dtype": "uint8", "count": count}
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": True}
    with rasterio.open(path, "w", **{**profile, **tiled, **said}) as dataset:
        if kinds:
            dataset.colorinterp = [ColorInterp[kind] for kind in kinds]
        for top in range(0, 64, 16):
            for left in range(0, 64, 16):
                if (top, left) != (16, 32):
                    window = ((top, top + 16), (left, left + 16))
                    dataset.write(noise(count, 16, 16), window=window)
    return path


def test_blocks_that_were_never_written_are_not_known_through_a_vrt(tmp_path):
    source = sparse(tmp_path / "a.tif")
    match = r"a.vrt: its source .*a.tif holds blocks that were never written: fetch it again, or gi"
    for said in ({}, {"masked": True}, {"nodata": 0.0}):
        with pytest.raises(SourceError, match=match):
            describe(mosaic(source, size=(64, 64), **said))
    source = sparse(tmp_path / "a.tif", count=2, interleave="band")
    with rasterio.open(source, "r+") as dataset:
        dataset.write(noise(1, 16, 16), [1], window=((16, 32), (32, 48)))
    with pytest.raises(SourceError, match=match):
        describe(mosaic(source, size=(64, 64), bands=2))


def test_blocks_that_were_never_written_are_known_as_nodata_or_alpha(tmp_path):
    source = sparse(tmp_path / "a.tif", nodata=0)
    describe(mosaic(source, size=(64, 64), nodata=0.0))
    kinds = ("red", "green", "blue", "alpha")
    source = sparse(tmp_path / "a.tif", count=4, photometric="RGB", kinds=kinds)
    describe(mosaic(source, size=(64, 64), bands=4, alpha=True))


@pytest.mark.parametrize("stated", [(30, 20), None])
def test_a_source_that_has_become_smaller(tmp_path, stated):
    source = image(tmp_path)
    name = mosaic(source, stated=stated)
    describe(name)
    write(source, noise(1, 20, 29))
    with pytest.raises(
        SourceError, match=r"takes .*a.tif for 30 x 20 px, it has 29 x 20: build the VRT again"
    ):
        describe(name)


def test_a_source_that_has_become_larger(tmp_path):
    source = image(tmp_path)
    name, silent = mosaic(source, stated=(30, 20)), mosaic(source)
    write(source, noise(1, 40, 60))
    describe(silent)
    name = mosaic(source, stated=(30, 20))
    with pytest.raises(
        SourceError, match=r"takes .*a.tif for 30 x 20 px, it has 60 x 40: build the VRT again"
    ):
        describe(name)


def test_a_source_that_has_another_type(tmp_path):
    source = write(tmp_path / "a.tif", noise(1, 20, 30).astype("uint16"))
    with pytest.raises(
        SourceError, match=r"a.vrt: is uint8, .*a.tif is uint16: build the VRT again"
    ):
        describe(mosaic(source))


def test_a_source_that_holds_numbers_of_colours(tmp_path):
    source = image(tmp_path)
    with rasterio.open(source, "r+") as dataset:
        dataset.write_colormap(1, {n: (255 - n, 0, 0, 255) for n in range(256)})
    with pytest.raises(
        SourceError, match=r"a.vrt: shows .*a.tif without its colour table: expand it with gdal"
    ):
        describe(mosaic(source))


@pytest.mark.parametrize("said", [{"unit": "ft"}, {"scale": 0.01}, {"offset": 5.0}])
def test_a_unit_or_scale_that_it_does_not_hand_on(tmp_path, said):
    source = write(tmp_path / "a.tif", flat(1, 20, 30, "int16"), **said)
    name = mosaic(source, dtype="Int16")
    with pytest.raises(
        SourceError,
        match=r"a.vrt: does not hand on the unit, scale and offset of .*a.tif: set them with "
        r"gdal_edit.py, or give its tiles as they are",
    ):
        describe(name)
    root = ET.parse(name).getroot()
    (band,) = root.findall("VRTRasterBand")
    tags = {"unit": "UnitType", "scale": "Scale", "offset": "Offset"}
    for key, value in said.items():
        ET.SubElement(band, tags[key]).text = str(value)
    ET.ElementTree(root).write(name)
    describe(name)


def test_a_scale_of_images_says_nothing(tmp_path):
    describe(mosaic(image(tmp_path, scale=0.5)))


def test_a_source_that_is_gone_is_left_to_be_missed_where_it_is_read(tmp_path):
    source = image(tmp_path)
    name = mosaic(source)
    source.unlink()
    describe(name)


def test_a_source_is_looked_at_once(tmp_path):
    info, asked = describe(mosaic(image(tmp_path, 2), bands=2)), []

    def described(name):
        asked.append(name)
        return describe(name)

    handed_on.check_handed_on(info, described)
    assert asked == [str(tmp_path / "a.tif")]


def test_a_source_that_is_refused_by_itself_is_refused_in_a_vrt(tmp_path):
    source = image(tmp_path)
    name = mosaic(source)
    (tmp_path / "a.tif.msk").write_bytes(b"II*\0junk")
    with pytest.raises(SourceError, match=r"a.tif.msk: cannot be read as the mask of .*a.tif: fe"):
        describe(name)


def test_too_many_open_files_are_said_at_once(tmp_path, monkeypatch):
    name = mosaic(image(tmp_path))
    whole = files.open_dataset

    def opened(asked):
        if asked.endswith(".tif"):
            raise files.too_many_files(asked)
        return whole(asked)

    monkeypatch.setattr(files, "open_dataset", opened)
    with pytest.raises(TooManyFilesError, match=r"a.tif: cannot be opened, too many files"):
        describe(name)


def test_a_computed_source_beside_others_is_refused(tmp_path):
    """GDAL 3.10 writes its lines one after another over those of the other source."""
    source = image(tmp_path)
    inner = write_vrt(tmp_path / "sum.vrt", [Placed(source, 0, 0, 20, 30)] * 2, height=20, width=30)
    inner.write_text(
        inner.read_text().replace(
            'band="1">',
            'band="1" subClass="VRTDerivedRasterBand"><PixelFunctionType>max</PixelFunctionType>',
        )
    )
    describe(str(inner))
    placed = [Placed(source, 0, 0, 20, 30), Placed(inner, 0, 30, 20, 30)]
    describe(str(write_vrt(tmp_path / "in.vrt", placed[1:], height=20, width=60)))
    name = write_vrt(tmp_path / "in.vrt", placed, height=20, width=60)
    outer = write_vrt(tmp_path / "out.vrt", [Placed(name, 0, 0, 20, 60)], height=20, width=60)
    for vrt in (name, outer):
        with pytest.raises(
            SourceError,
            match=rf"{vrt.name}: its source .*sum.vrt is computed, which GDAL misreads beside "
            r"others: make a TIFF of it with gdal_translate",
        ):
            describe(str(vrt))
