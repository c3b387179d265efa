"""Pixels that GDAL paints of VRTs are those that their sources are said to cover."""

import xml.etree.ElementTree as ET
import zipfile
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
from doubles.rasters import write_tiff
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.shutil import copy
from rasterio.vrt import WarpedVRT

from flair_engine.grid import Window
from flair_engine.reading import vrt as reading_vrt
from flair_engine.reading.vrt import DEEPEST, Pasted, Sources, sources_of


def source(name, source_rect, target_rect, kind="SimpleSource", band=1, size=None):
    """Return the element that pastes a file; rectangles are (left, top, width, height) or None."""
    element = ET.Element(kind)
    ET.SubElement(element, "SourceFilename", relativeToVRT="1").text = str(name)
    ET.SubElement(element, "SourceBand").text = str(band)
    if size is not None:
        stated = {"RasterXSize": str(size[0]), "RasterYSize": str(size[1])}
        ET.SubElement(element, "SourceProperties", stated)
    for tag, rectangle in (("SrcRect", source_rect), ("DstRect", target_rect)):
        if rectangle is not None:
            values = dict(zip(("xOff", "yOff", "xSize", "ySize"), map(str, rectangle), strict=True))
            ET.SubElement(element, tag, values)
    return element


def vrt(path, height, width, *bands, **attributes):
    """Write a VRT of bands, each a list of elements."""
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height), **attributes)
    for number, elements in enumerate(bands, 1):
        band = ET.SubElement(root, "VRTRasterBand", dataType="Byte", band=str(number))
        band.extend(elements)
    path.write_bytes(ET.tostring(root))
    return path


def made_of(path):
    with rasterio.open(path) as dataset:
        return sources_of(dataset)


def painted(path):
    """Return bool [h, w], True where GDAL reads something else than void."""
    with rasterio.open(path) as dataset:
        return dataset.read(1) > 0


def lying(path, band=0):
    """Return what lies in a band."""
    return made_of(path).pasted[band]


def places(path, band=0):
    """Return what lies in a band, as names and windows."""
    return [(pasted.file, pasted.window) for pasted in lying(path, band)]


def covered(path, band=0):
    """Return bool [h, w], True where sources are said to lie."""
    with rasterio.open(path) as dataset:
        pixels = np.zeros(dataset.shape, bool)
    for _, window in places(path, band):
        pixels[max(0, window.top) : window.bottom, max(0, window.left) : window.right] = True
    return pixels


@pytest.fixture
def ones(tmp_path):
    """A file of ones, 12 x 10."""
    return write_tiff(tmp_path / "ones.tif", np.ones((1, 12, 10), np.uint8))


def whole(left, top, width=10, height=12):
    return (0, 0, 10, 12), (left, top, width, height)


def test_sources_lie_where_they_are_pasted(tmp_path, ones):
    sources = [source("ones.tif", *whole(3, 5)), source("ones.tif", *whole(20, 25, 20, 6))]
    path = vrt(tmp_path / "in.vrt", 40, 50, sources)
    found = made_of(path)
    assert found.files == (str(ones),)
    assert found.pasted == (
        (
            Pasted(str(ones), Window(top=5, left=3, height=12, width=10), reach=(10, 12)),
            Pasted(str(ones), Window(top=25, left=20, height=6, width=20), reach=(10, 12)),
        ),
    )
    assert (covered(path) == painted(path)).all()


@pytest.mark.parametrize("kind", ["ComplexSource", "KernelFilteredSource", "AveragedSource"])
def test_other_sources_are_pasted_too(tmp_path, ones, kind):
    element = source("ones.tif", *whole(3, 5), kind)
    if kind == "KernelFilteredSource":
        kernel = ET.SubElement(element, "Kernel")
        ET.SubElement(kernel, "Size").text, ET.SubElement(kernel, "Coefs").text = "1", "1"
    path = vrt(tmp_path / "in.vrt", 40, 50, [element])
    assert (covered(path) == painted(path)).all()


def test_names_are_counted_from_the_vrt_or_are_whole(tmp_path, ones):
    relative = source("../ones.tif", *whole(0, 0))
    absolute = source(ones, *whole(10, 0))
    absolute.find("SourceFilename").set("relativeToVRT", "0")
    (tmp_path / "x").mkdir()
    found = made_of(vrt(tmp_path / "x" / "in.vrt", 12, 20, [relative, absolute]))
    assert found.files == (f"{tmp_path}/x/../ones.tif", str(ones))


def fractions(least, most):
    return st.integers(10 * least, 10 * most).map(lambda tenths: tenths / 10)


RECTANGLES = st.tuples(fractions(0, 20), fractions(0, 20), fractions(1, 25), fractions(1, 25))


@settings(max_examples=60)
@given(target=RECTANGLES, part=st.booleans())
def test_a_pasted_rectangle_is_what_gdal_paints(tmp_path_factory, target, part):
    folder = tmp_path_factory.mktemp("vrt")
    write_tiff(folder / "ones.tif", np.ones((1, 12, 10), np.uint8))
    rectangle = (2, 3, 5, 6) if part else (0, 0, 10, 12)
    path = vrt(folder / "in.vrt", 40, 50, [source("ones.tif", rectangle, target)])
    assert (covered(path) == painted(path)).all()


@settings(max_examples=100)
@given(data=st.data(), scale=st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2)]))
def test_a_vrt_inside_another_is_taken_apart(tmp_path_factory, data, scale):
    folder = tmp_path_factory.mktemp("vrt")
    write_tiff(folder / "ones.tif", np.ones((1, 12, 10), np.uint8))
    edge = st.integers(0, 15)
    inside = [source("ones.tif", *whole(data.draw(edge), data.draw(edge)))
              for _ in range(data.draw(st.integers(1, 2)))]  # fmt: skip
    vrt(folder / "inner.vrt", 30, 30, inside)
    left, top = data.draw(edge), data.draw(edge)
    width, height = data.draw(st.integers(1, 30 - left)), data.draw(st.integers(1, 30 - top))
    target = (data.draw(edge), data.draw(edge), width * scale[0], height * scale[1])
    rectangle = left, top, width, height
    path = vrt(folder / "outer.vrt", 90, 90, [source("inner.vrt", rectangle, target)])
    assert (covered(path) == painted(path)).all()
    assert made_of(path).files == (f"{folder}/inner.vrt", f"{folder}/ones.tif")
    assert {file for file, _ in places(path)} <= {f"{folder}/ones.tif"}


@settings(max_examples=100)
@given(data=st.data(), target=RECTANGLES)
def test_a_scaled_vrt_inside_another_is_taken_apart(tmp_path_factory, data, target):
    folder = tmp_path_factory.mktemp("vrt")
    write_tiff(folder / "ones.tif", np.ones((1, 12, 10), np.uint8))
    edge = st.integers(0, 15)
    inside = [source("ones.tif", *whole(data.draw(edge), data.draw(edge)))]
    vrt(folder / "inner.vrt", 30, 30, inside)
    left, top = data.draw(edge), data.draw(edge)
    width, height = data.draw(st.integers(1, 30 - left)), data.draw(st.integers(1, 30 - top))
    rectangle = left, top, width, height
    path = vrt(folder / "outer.vrt", 90, 90, [source("inner.vrt", rectangle, target)])
    assert (covered(path) == painted(path)).all()


@pytest.mark.parametrize("source_rect", [None, (0, 0, 30, 20)])
@pytest.mark.parametrize("target_rect", [None, (10, 7, 30, 20), (10, 7, 60, 40)])
def test_rectangles_that_are_left_out_are_the_whole(tmp_path, ones, source_rect, target_rect):
    vrt(tmp_path / "inner.vrt", 20, 30, [source("ones.tif", *whole(4, 2))])
    path = vrt(tmp_path / "outer.vrt", 60, 90, [source("inner.vrt", source_rect, target_rect)])
    assert (covered(path) == painted(path)).all()


def test_a_file_that_is_pasted_without_rectangles_lies_at_the_origin(tmp_path, ones):
    path = vrt(tmp_path / "in.vrt", 40, 50, [source("ones.tif", None, None)])
    assert (covered(path) == painted(path)).all()


def test_vrts_are_followed_to_a_depth(tmp_path, ones):
    names = [ones.name]
    for depth in range(DEEPEST):
        name = f"{depth}.vrt"
        vrt(tmp_path / name, 12, 10, [source(names[-1], *whole(0, 0))])
        names.append(name)
    found = made_of(tmp_path / names[-1])
    assert set(found.files) == {str(tmp_path / name) for name in names[:-1]}
    assert [file for file, _ in places(tmp_path / names[-1])] == [str(ones)]


def test_vrts_that_name_one_another_end(tmp_path, ones):
    path = tmp_path / "a.vrt"
    vrt(tmp_path / "b.vrt", 12, 10, [source("a.vrt", *whole(0, 0))])
    vrt(path, 12, 10, [source("b.vrt", *whole(0, 0)), source("ones.tif", *whole(0, 0))])
    assert str(ones) in made_of(path).files


@pytest.mark.parametrize("text", ["no xml", "<VRTDataset", "<VRTDataset></VRTDataset>"])
def test_a_source_that_is_no_vrt_or_a_broken_one_is_taken_as_it_is(tmp_path, ones, text):
    (tmp_path / "inner.vrt").write_text(text)
    path = vrt(tmp_path / "outer.vrt", 40, 50, [source("inner.vrt", *whole(3, 5))])
    assert made_of(path).files == (f"{tmp_path}/inner.vrt",)
    window = Window(top=5, left=3, height=12, width=10)
    assert lying(path) == (Pasted(f"{tmp_path}/inner.vrt", window, reach=(10, 12)),)


def test_a_warped_vrt_names_its_files_and_not_where_they_lie(tmp_path, ones):
    path = tmp_path / "warped.vrt"
    with rasterio.open(ones) as dataset, WarpedVRT(dataset, crs="EPSG:32631") as warped:
        copy(warped, path, driver="VRT")
    found = made_of(path)
    assert [name.rpartition("/")[2] for name in found.files] == ["ones.tif"]
    assert found.pasted == (None,)


def test_computed_bands_do_not_say_where_sources_lie(tmp_path, ones):
    path = tmp_path / "in.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="10" rasterYSize="12"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTDerivedRasterBand"><PixelFunctionType>sum</PixelFunctionType><SimpleSource>'
        f"<SourceFilename>{escape(str(ones))}</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    found = made_of(path)
    assert found.files == (str(ones),)
    assert found.pasted == (None,)


def test_bands_of_no_source_do_not_say_where_sources_lie(tmp_path):
    assert made_of(vrt(tmp_path / "in.vrt", 40, 50, [])).pasted == (None,)


def test_every_band_counts_in_what_a_vrt_is_made_of(tmp_path, ones):
    write_tiff(tmp_path / "twos.tif", np.full((1, 12, 10), 2, np.uint8))
    bands = [source("ones.tif", *whole(0, 0))], [source("twos.tif", *whole(0, 0))]
    found = made_of(vrt(tmp_path / "in.vrt", 12, 10, *bands))
    assert found.files == (str(ones), f"{tmp_path}/twos.tif")
    assert [[file for file, _ in places(tmp_path / "in.vrt", band)] for band in (0, 1)] == [
        [str(ones)],
        [f"{tmp_path}/twos.tif"],
    ]


def test_bands_are_covered_each_by_its_own_sources(tmp_path, ones):
    bands = [source("ones.tif", *whole(0, 0))], [source("ones.tif", *whole(20, 30))]
    path = vrt(tmp_path / "in.vrt", 50, 40, *bands)
    with rasterio.open(path) as dataset:
        read = dataset.read() > 0
    assert (covered(path, 0) == read[0]).all()
    assert (covered(path, 1) == read[1]).all()
    outer = [source("in.vrt", (0, 0, 40, 50), (0, 0, 40, 50), band=number) for number in (2, 1)]
    outer = vrt(tmp_path / "outer.vrt", 50, 40, *[[element] for element in outer])
    assert (covered(outer, 0) == read[1]).all()
    assert (covered(outer, 1) == read[0]).all()


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [("NODATA", "0", (True, False)), ("UseMaskBand", "true", (False, True)),
     ("UseMaskBand", "false", (False, False)), ("LUT", "0:0,255:255", (False, False))],
)  # fmt: skip
def test_what_a_source_leaves_unpainted_is_known(tmp_path, ones, tag, text, expected):
    element = source("ones.tif", *whole(0, 0), "ComplexSource")
    ET.SubElement(element, tag).text = text
    path = vrt(tmp_path / "inner.vrt", 12, 10, [element])
    (pasted,) = lying(path)
    assert (pasted.keyed, pasted.masked) == expected
    (pasted,) = lying(vrt(tmp_path / "x.vrt", 12, 10, [source("inner.vrt", *whole(0, 0))]))
    assert (pasted.file, pasted.keyed, pasted.masked) == (str(ones), *expected)


def test_the_size_a_source_is_said_to_have_is_known_at_any_depth(tmp_path, ones):
    vrt(tmp_path / "in.vrt", 12, 10, [source("ones.tif", *whole(0, 0), size=(99, 77))])
    (pasted,) = lying(tmp_path / "in.vrt")
    assert (pasted.size, pasted.reach) == ((99, 77), (10, 12))
    (pasted,) = lying(vrt(tmp_path / "out.vrt", 12, 10, [source("in.vrt", *whole(0, 0))]))
    assert (pasted.size, pasted.reach) == ((99, 77), (10, 12))


@pytest.mark.parametrize("size", [("x", 1), ("", 1), (1, "1e3")])
def test_a_size_that_is_no_number_says_nothing(tmp_path, ones, size):
    path = vrt(tmp_path / "in.vrt", 12, 10, [source("ones.tif", *whole(0, 0), size=size)])
    assert lying(path)[0].size is None


@pytest.mark.parametrize("name", ["inner.xml", "inner", "inner.tif"])
def test_a_vrt_is_one_whatever_its_name(tmp_path, ones, name):
    vrt(tmp_path / name, 20, 30, [source("ones.tif", *whole(4, 2))])
    path = vrt(tmp_path / "in.vrt", 60, 90, [source(name, (0, 0, 30, 20), (0, 0, 30, 20))])
    assert made_of(path).files == (f"{tmp_path}/{name}", str(ones))
    assert (covered(path) == painted(path)).all()


def test_names_count_from_where_a_link_leads(tmp_path, ones):
    (tmp_path / "links").mkdir()
    vrt(tmp_path / "in.vrt", 20, 30, [source("ones.tif", *whole(4, 2))])
    link = tmp_path / "links" / "x.vrt"
    link.symlink_to("../in.vrt")
    assert made_of(link).files == (str(ones),)
    path = vrt(tmp_path / "out.vrt", 20, 30, [source("links/x.vrt", *[(0, 0, 30, 20)] * 2)])
    assert made_of(path).files == (str(link), str(ones))
    assert (covered(path) == painted(path)).all()


@pytest.mark.parametrize("name", ["/vsizip/{0}/{1}", "zip://{0}!{1}", "/vsizip/{{{0}}}/{1}"])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_vrt_in_an_archive(tmp_path, ones, name, depth):
    vrt(tmp_path / "0.vrt", 20, 30, [source("ones.tif", *whole(4, 2))])
    path = vrt(tmp_path / "1.vrt", 20, 30, [source("0.vrt", *[(0, 0, 30, 20)] * 2)])
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (ones, path, tmp_path / "0.vrt"):
            archive.write(file, file.name)
    inside = name.format(packed, f"{depth}.vrt")
    assert (covered(inside) == painted(path)).all()
    names = [file.rpartition("/")[2] for file in made_of(inside).files]
    assert names == ["0.vrt", "ones.tif"][1 - depth :]
    with rasterio.open(made_of(inside).files[-1]) as dataset:
        assert dataset.shape == (12, 10)


def test_a_vrt_that_is_a_name_or_a_text(tmp_path, ones):
    path = vrt(tmp_path / "in.vrt", 20, 30, [source("ones.tif", *whole(4, 2))])
    name = f"vrt://{ones}?bands=1"
    assert made_of(name).files == (str(ones),)
    assert (covered(name) == painted(name)).all()
    text = path.read_text().replace('"1">ones.tif', f'"0">{ones}')
    assert made_of(text).files == (str(ones),)
    assert (covered(text) == painted(path)).all()
    outer = source(name, *whole(3, 5))
    outer.find("SourceFilename").set("relativeToVRT", "0")
    path = vrt(tmp_path / "out.vrt", 40, 50, [outer])
    assert set(made_of(path).files) == {name, str(ones)}
    assert (covered(path) == painted(path)).all()


def test_a_computed_vrt_inside_another_is_a_source_with_files_below(tmp_path, ones):
    inner = vrt(tmp_path / "inner.vrt", 12, 10, [source("ones.tif", *whole(0, 0))])
    text = inner.read_text().replace('band="1"', 'band="1" subClass="VRTDerivedRasterBand"')
    inner.write_text(text.replace("<Simple", "<PixelFunctionType>max</PixelFunctionType><Simple"))
    path = vrt(tmp_path / "in.vrt", 40, 50, [source("inner.vrt", *whole(3, 5))])
    window = Window(top=5, left=3, height=12, width=10)
    assert lying(path) == (Pasted(str(inner), window, (str(ones),), computed=True, reach=(10, 12)),)
    assert made_of(inner).computed
    assert not made_of(path).computed


def test_a_warped_vrt_inside_another_is_a_source_with_files_below(tmp_path, ones):
    with rasterio.open(ones) as dataset, WarpedVRT(dataset, crs="EPSG:32631") as warped:
        shape = warped.shape
        copy(warped, tmp_path / "warped.vrt", driver="VRT")
    rectangle = 0, 0, shape[1], shape[0]
    path = vrt(tmp_path / "in.vrt", 40, 50, [source("warped.vrt", rectangle, rectangle)])
    (pasted,) = lying(path)
    assert (pasted.file, pasted.below) == (f"{tmp_path}/warped.vrt", (str(ones),))
    assert not pasted.computed
    ones.unlink()  # GDAL does not open a warped VRT whose source is gone
    (pasted,) = lying(path)
    assert pasted.below == (str(ones),)


def test_a_file_that_is_no_vrt_has_nothing_below(tmp_path, ones):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(ones, ones.name)
    element = source(f"/vsizip/{tmp_path}/in.zip/ones.tif", *whole(3, 5))
    element.find("SourceFilename").set("relativeToVRT", "0")
    assert [pasted.below for pasted in lying(vrt(tmp_path / "a.vrt", 40, 50, [element]))] == [()]


@pytest.mark.parametrize("depth", [0, 1])
def test_a_vrt_that_is_not_in_utf_8_is_not_read(tmp_path, ones, depth):
    path = vrt(tmp_path / "0.vrt", 12, 10, [source("ones.tif", *whole(0, 0))])
    path.write_bytes(path.read_bytes().replace(b"ones.tif", b"\xe9.tif"))
    vrt(tmp_path / "1.vrt", 12, 10, [source("0.vrt", *whole(0, 0))])
    with pytest.raises(UnicodeDecodeError):
        made_of(tmp_path / f"{depth}.vrt")


def test_what_cannot_be_understood_is_not_known(ones, monkeypatch):
    monkeypatch.setattr(reading_vrt, "_text", lambda _: "<VRTDataset>&")
    assert made_of(ones) == Sources(pasted=(None,))
