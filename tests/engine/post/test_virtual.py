import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from doubles.maps import CLASSES, transform_of, write_map
from doubles.rasters import ORIGIN_M

from flair_engine.errors import SourceError
from flair_engine.post.map_file import open_map
from flair_engine.post.virtual import is_virtual_map, maps_in, open_maps, write_virtual

LEFT, TOP = ORIGIN_M


@pytest.fixture
def tiles(tmp_path, labels_hw):
    """Four maps of a whole, the lower left one missing."""
    folder = tmp_path / "tiles"
    for i, j in ((0, 0), (0, 1), (1, 1)):
        part_hw = labels_hw[150 * i : 150 * i + 150, 100 * j : 100 * j + 100]
        place = transform_of(left=LEFT + 20 * j, top=TOP - 30 * i)
        write_map(folder / f"{i}{j}.tif", part_hw, confidence_hw=part_hw + 10, transform=place)
    return folder


def test_maps_are_one(tiles, tmp_path, labels_hw):
    place = tmp_path / "all.vrt"
    made = write_virtual(tmp_path, maps_in(tiles), place, tmp_path)
    assert [path.name for path in made] == ["all.vrt", "all.confidence.vrt"]
    expected = labels_hw.copy()
    expected[150:, :100] = 0
    with open_map(place) as found:
        assert (found.dataset.read(1) == expected).all()
        assert found.dataset.transform.almost_equals(transform_of(), 1e-6)
        assert found.dataset.tags()["FLAIR_RUN"] == "0123456789abcdef"
        assert [c.name for c in found.classes.values()] == [c.name for c in CLASSES]
        assert [c.color for c in found.classes.values()] == [c.color for c in CLASSES]
        assert found.nodata == 0
    with rasterio.open(made[1]) as confidence:
        seen = confidence.read(1)
        assert (seen[expected > 0] == expected[expected > 0] + 10).all()
    assert is_virtual_map(place)
    assert not is_virtual_map(tiles / "00.tif")


def test_it_moves_with_its_maps(tiles, tmp_path):
    write_virtual(tmp_path, maps_in(tiles), tmp_path / "all.vrt", tmp_path)
    with rasterio.open(tmp_path / "all.vrt") as dataset:
        before = dataset.read()
    shutil.move(tiles, tmp_path / "elsewhere" / "tiles")
    shutil.move(tmp_path / "all.vrt", tmp_path / "elsewhere" / "all.vrt")
    with rasterio.open(tmp_path / "elsewhere" / "all.vrt") as dataset:
        assert (dataset.read() == before).all()


def test_names_of_zero_based_maps(tmp_path):
    write_map(tmp_path / "tiles" / "a.tif", np.ones((9, 9), np.uint8), values="zero-based")
    write_virtual(tmp_path, maps_in(tmp_path / "tiles"), tmp_path / "all.vrt", tmp_path)
    with open_map(tmp_path / "all.vrt") as found:
        assert found.nodata == 255
        assert found.classes[0].name == "building"
        assert len(found.classes) == len(CLASSES)


def test_nodata_of_one_hides_nothing_of_another(tmp_path, told):
    folder = tmp_path / "tiles"
    full = np.ones((10, 10), np.uint8)
    holed = np.zeros((10, 10), np.uint8)
    holed[:3] = 2
    write_map(folder / "a.tif", full)
    write_map(folder / "b.tif", holed)
    write_virtual(tmp_path, maps_in(folder), tmp_path / "all.vrt", tmp_path, told.append)
    assert "tiles: maps overlap; there the last by name is shown and counted" in told[0]
    with rasterio.open(tmp_path / "all.vrt") as dataset:
        assert (dataset.read(1) == np.where(holed, holed, full)).all()


def test_a_folder_is_opened_as_one_map(tiles, tmp_path, told, labels_hw):
    work = tmp_path / "work"
    work.mkdir()
    with open_maps(tiles, work, told.append) as found:
        assert (found.dataset.read(1)[:150] == labels_hw[:150]).all()
        assert found.confidence_path()
    assert told == []
    with pytest.raises(SourceError, match="work: holds no map of flair-engine"):
        open_maps(work, work, told.append).__enter__()


def test_a_map_without_names_is_told(a_map, tmp_path, told):
    a_map.with_name("map.tif.aux.xml").unlink()
    with open_maps(a_map, tmp_path, told.append):
        assert "no names of classes lie beside it" in told[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crs": "EPSG:32631"}, "is in EPSG:32631, a.tif in EPSG:2154"),
        ({"transform": transform_of(0.5)}, "has pixels of another size than a.tif"),
        ({"transform": transform_of(left=LEFT + 0.05)}, "lies 0.250 columns and .*0.000 rows from"),
        ({"values": "zero-based"}, "has other classes, values or colours than a.tif"),
        ({"classes": (replace(CLASSES[0], color="#000001"),)}, "has other classes, values or col"),
    ],
)
def test_maps_that_do_not_fit_are_refused(tmp_path, change, said):
    folder = tmp_path / "tiles"
    write_map(folder / "a.tif", np.ones((10, 10), np.uint8))
    write_map(folder / "b.tif", np.ones((10, 10), np.uint8), **change)
    with pytest.raises(SourceError, match=f"b.tif: {said}.*: put maps of one run in a folder of"):
        write_virtual(tmp_path, maps_in(folder), tmp_path / "all.vrt", tmp_path)
    assert not (tmp_path / "all.vrt").exists()


def test_several_models_are_said(tmp_path):
    folder = tmp_path / "tiles"
    for name in ("a", "b"):
        write_map(folder / f"{name}.tif", np.ones((9, 9), np.uint8), tags={"FLAIR_MODEL": name})
    write_virtual(tmp_path, maps_in(folder), tmp_path / "all.vrt", tmp_path)
    with rasterio.open(tmp_path / "all.vrt") as dataset:
        assert dataset.tags()["FLAIR_MODEL"] == "several models"
