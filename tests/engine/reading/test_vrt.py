"""Pixels that GDAL paints of VRTs are those that their sources are said to cover."""

import xml.etree.ElementTree as ET
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
from flair_engine.reading.vrt import DEEPEST, sources_of


def source(name, source_rect, target_rect, kind="SimpleSource"):
    """Return the element that pastes a file; rectangles are (left, top, width, height) or None."""
    element = ET.Element(kind)
    ET.SubElement(element, "SourceFilename", relativeToVRT="1").text = str(name)
    ET.SubElement(element, "SourceBand").text = "1"
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


def covered(path):
    """Return bool [h, w], True where sources are said to lie."""
    with rasterio.open(path) as dataset:
        pixels = np.zeros(dataset.shape, bool)
        pasted = sources_of(dataset).pasted
    for _, window in pasted:
        pixels[max(0, window.top) : window.bottom, max(0, window.left) : window.right] = True
    return pixels


@pytest.fixture
def ones(tmp_path):
    """A file of ones, 12 x 10."""
    return write_tiff(tmp_path / "ones.tif", np.ones((1, 12, 10), np.uint8))


def whole(left, top, width=10, height=12):
    return (0, 0, 10, 12), (left, top, width, height)


def test_a_file_that_is_no_vrt_is_made_of_nothing(ones):
    assert made_of(ones).files == ()
    assert made_of(ones).pasted is None


def test_sources_lie_where_they_are_pasted(tmp_path, ones):
    sources = [source("ones.tif", *whole(3, 5)), source("ones.tif", *whole(20, 25, 20, 6))]
    path = vrt(tmp_path / "in.vrt", 40, 50, sources)
    found = made_of(path)
    assert found.files == (str(ones),)
    assert found.pasted == (
        (str(ones), Window(top=5, left=3, height=12, width=10)),
        (str(ones), Window(top=25, left=20, height=6, width=20)),
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
    assert {file for file, _ in made_of(path).pasted} <= {f"{folder}/ones.tif"}


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
    assert [file for file, _ in found.pasted] == [str(ones)]


def test_vrts_that_name_one_another_end(tmp_path, ones):
    path = tmp_path / "a.vrt"
    vrt(tmp_path / "b.vrt", 12, 10, [source("a.vrt", *whole(0, 0))])
    vrt(path, 12, 10, [source("b.vrt", *whole(0, 0)), source("ones.tif", *whole(0, 0))])
    assert str(ones) in made_of(path).files


@pytest.mark.parametrize("text", ["no xml", "<VRTDataset"])
def test_what_is_not_read_is_made_of_nothing(tmp_path, ones, text):
    (tmp_path / "inner.vrt").write_text(text)
    path = vrt(tmp_path / "outer.vrt", 40, 50, [source("inner.vrt", *whole(3, 5))])
    found = made_of(path)
    assert found.files == (f"{tmp_path}/inner.vrt",)
    assert found.pasted == ((f"{tmp_path}/inner.vrt", Window(top=5, left=3, height=12, width=10)),)


def test_a_warped_vrt_names_its_files_and_not_where_they_lie(tmp_path, ones):
    path = tmp_path / "warped.vrt"
    with rasterio.open(ones) as dataset, WarpedVRT(dataset, crs="EPSG:32631") as warped:
        copy(warped, path, driver="VRT")
    found = made_of(path)
    assert [name.rpartition("/")[2] for name in found.files] == ["ones.tif"]
    assert found.pasted is None


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
    assert found.pasted is None


def test_bands_of_no_source_do_not_say_where_sources_lie(tmp_path):
    assert made_of(vrt(tmp_path / "in.vrt", 40, 50, [])).pasted is None


def test_every_band_counts_in_what_a_vrt_is_made_of(tmp_path, ones):
    write_tiff(tmp_path / "twos.tif", np.full((1, 12, 10), 2, np.uint8))
    bands = [source("ones.tif", *whole(0, 0))], [source("twos.tif", *whole(0, 0))]
    found = made_of(vrt(tmp_path / "in.vrt", 12, 10, *bands))
    assert found.files == (str(ones), f"{tmp_path}/twos.tif")
