"""Marks by which files of flair-engine are known, and which GDAL keeps."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from doubles.rasters import write_tiff

from flair_engine.manifest import read_model_spec
from flair_engine.mapping.legend import category_names, qgis_style
from flair_engine.mapping.standing import (
    RUN_TAG,
    foreign_sidecars,
    foreign_style,
    is_map,
    kept_styles,
    map_tags,
    names_of,
    style_of,
)


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


@pytest.fixture
def our_map(tmp_path, spec):
    """A raster with our tag, our names and our style."""
    path = write_tiff(tmp_path / "map.tif", np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(FLAIR_MODEL="tiny")
    names_of(path).write_text(category_names(spec, "flair"))
    style_of(path).write_text(qgis_style(spec, "flair"))
    return path


def test_a_map_of_ours_and_what_stands_beside_it(our_map):
    assert is_map(our_map)
    assert foreign_sidecars(our_map) == []
    assert foreign_style(our_map) is None
    assert kept_styles([our_map]) is None


def test_another_raster_is_no_map(tmp_path):
    path = write_tiff(tmp_path / "image.tif", np.ones((1, 8, 8), np.uint8))
    assert not is_map(path)
    assert not is_map(tmp_path)
    assert not is_map(tmp_path / "absent.tif")


def test_tags_are_those_in_the_file(our_map, tmp_path):
    with rasterio.open(our_map, "r+") as dataset:
        dataset.update_tags(**{RUN_TAG: "0123"})
    names_of(our_map).write_text(
        '<PAMDataset><Metadata><MDI key="X">1</MDI></Metadata></PAMDataset>'
    )
    assert map_tags(our_map) == {
        "FLAIR_MODEL": "tiny",
        "FLAIR_RUN": "0123",
        "AREA_OR_POINT": "Area",
    }
    for name in ("absent.tif", "."):
        assert map_tags(tmp_path / name) == {}


@pytest.mark.parametrize("content", [b"", b"text", b"II*\0\x08\0\0\0\xff\xff"])
def test_what_gdal_cannot_open_has_no_tags(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    assert map_tags(tmp_path / "a.tif") == {}


def test_a_map_that_was_made_a_png_is_no_map(our_map):
    png = our_map.with_suffix(".png")
    rasterio.shutil.copy(our_map, png, driver="PNG")
    assert not is_map(png)


def test_gdal_keeps_our_mark_when_it_adds_statistics(our_map):
    with rasterio.open(our_map, "r+") as dataset:
        dataset.update_tags(1, ns="more", some="thing")
    with rasterio.open(our_map) as dataset:
        dataset.statistics(1)
        assert set(dataset.tags()) == {"FLAIR_MODEL", "AREA_OR_POINT"}, "the mark is not shown"
    assert "STATISTICS_MEAN" in names_of(our_map).read_text()
    assert foreign_sidecars(our_map) == []


def test_files_without_our_marks_are_told(our_map, tmp_path):
    names_of(our_map).write_text("<PAMDataset/>")
    (tmp_path / "map.tif.ovr").symlink_to("nothing")
    found = {path.name for path in foreign_sidecars(our_map)}
    assert found == {"map.tif.aux.xml", "map.tif.ovr"}
    style_of(our_map).unlink()
    style_of(our_map).mkdir()
    assert foreign_style(our_map) == tmp_path / "map.qml"


def test_styles_that_are_kept_are_one_notice(our_map, tmp_path):
    paths = [our_map, tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.tif"]
    (tmp_path / "a.qml").write_text("somebody's")
    said = "no style of flair-engine, kept; the map comes without one of its own"
    assert kept_styles(paths) == f"{tmp_path / 'a.qml'}: {said}"
    (tmp_path / "c.qml").write_text("somebody's")
    assert kept_styles(paths) == f"{tmp_path / 'a.qml'} and 1 more: {said}"
