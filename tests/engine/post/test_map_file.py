import numpy as np
import pytest
import rasterio
from doubles.maps import CLASSES, write_map
from doubles.rasters import write_tiff

from flair_engine.errors import ReadError, SourceError
from flair_engine.post.map_file import STRIP_PX, open_map, read_rows, strip_rows


@pytest.mark.parametrize(("values", "nodata"), [("flair", 0), ("zero-based", 255)])
def test_a_map_says_what_it_was_written_with(tmp_path, labels_hw, values, nodata):
    path = write_map(tmp_path / "map.tif", labels_hw, values=values)
    shift = values == "zero-based"
    with open_map(path) as found:
        assert found.nodata == nodata
        assert found.named
        assert {(v, c.name, c.color, c.alpha) for v, c in found.classes.items()} == {
            (c.value - shift, c.name, c.color, 255) for c in CLASSES
        }
        read = np.concatenate([strip_hw for _, strip_hw in found.strips()])
        expected = np.where(labels_hw == 0, nodata, labels_hw - shift)
        assert (read == expected).all()
        assert found.confidence_path() is None


def test_strips_are_of_a_size_whatever_the_width():
    assert strip_rows(100) == 512
    assert strip_rows(25_000) * 25_000 <= STRIP_PX
    assert strip_rows(10**8) == 1


def test_without_names_classes_are_called_by_value(a_map):
    a_map.with_name("map.tif.aux.xml").unlink()
    with open_map(a_map) as found:
        assert not found.named
        assert found.classes[2].name == "class 2"
        assert found.classes[2].color == "#1553ae"
        assert found.class_of(200).name == "class 200"


def test_what_is_no_map_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"map.tif: does not exist: name a map that flair-run"):
        open_map(tmp_path / "map.tif").__enter__()
    (tmp_path / "a.png").touch()
    with pytest.raises(SourceError, match=r"a.png: is no GeoTIFF and no VRT"):
        open_map(tmp_path / "a.png").__enter__()
    (tmp_path / "a.tif").write_bytes(b"no tiff")
    with pytest.raises(SourceError, match=r"a.tif: cannot be opened"):
        open_map(tmp_path / "a.tif").__enter__()
    path = write_tiff(tmp_path / "foreign.tif", np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(SourceError, match="foreign.tif: has no tag FLAIR_MODEL, so is no map"):
        open_map(path).__enter__()


def test_another_output_than_labels_is_refused(a_map):
    with pytest.raises(SourceError, match="holds uint8 gray with nodata 0.0, expected uint8 l"):
        open_map(a_map.with_name("map.confidence.tif")).__enter__()


def test_names_that_cannot_be_read_are_refused(a_map):
    a_map.with_name("map.tif.aux.xml").write_text("<PAMDataset>")
    with pytest.raises(SourceError, match=r"aux.xml: the names of the classes cannot be read"):
        open_map(a_map).__enter__()


def test_a_map_without_crs_has_no_hectares(tmp_path, labels_hw):
    path = write_map(tmp_path / "map.tif", labels_hw, crs=None)
    with open_map(path) as found, pytest.raises(SourceError, match="has no CRS, so what its pix"):
        found.ground()


def test_damage_is_said(a_map):
    a_map.write_bytes(a_map.read_bytes()[:-3000])
    with (
        rasterio.open(a_map) as dataset,
        pytest.raises(ReadError, match="rows 0 to 300 cannot be read .*: the file is damaged"),
    ):
        read_rows(dataset, a_map, 0, 300)
