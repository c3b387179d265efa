import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
from doubles.maps import CLASSES, write_map
from rasterio.enums import Resampling
from rio_cogeo.cogeo import cog_validate

from flair_engine.errors import WriteError
from flair_engine.post import raster_file
from flair_engine.post.map_file import open_map
from flair_engine.post.raster_file import sidecars, stale, tags_of, write_raster


def copied(path, folder, rows=37):
    """Write a map anew from strips; return where."""
    with open_map(path) as found:
        array = found.dataset.read(1)
        strips = [(top, array[top : top + rows]) for top in range(0, len(array), rows)]
        tags = tags_of(found.dataset, "nothing")
        return write_raster(folder / "copy.tif", found, strips, found.classes, tags)


@pytest.mark.parametrize("values", ["flair", "zero-based"])
@pytest.mark.parametrize("cog", [False, True])
def test_a_map_stays_what_it_was(tmp_path, cog, values):
    labels_hw = np.random.default_rng(0).integers(0, 5, (1100, 530)).astype(np.uint8)
    path = write_map(tmp_path / "map.tif", labels_hw, cog=cog, values=values)
    made = copied(path, tmp_path)
    with rasterio.open(path) as old, rasterio.open(made) as new:
        assert (new.read() == old.read()).all()
        for name in ("crs", "transform", "nodata", "block_shapes", "compression"):
            assert getattr(new, name) == getattr(old, name)
        assert new.colormap(1) == old.colormap(1)
        assert new.overviews(1) == old.overviews(1)
        assert bool(new.overviews(1)) == cog
        assert new.tags() == {**old.tags(), "FLAIR_POST": "nothing"}
    assert not cog or cog_validate(made)[0]


def test_overviews_are_made_again(tmp_path):
    path = write_map(tmp_path / "map.tif", np.ones((1100, 530), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.mode)
    with rasterio.open(copied(path, tmp_path)) as dataset:
        assert dataset.overviews(1) == [2, 4]
    with rasterio.open(tmp_path / "copy.tif", overview_level=1) as dataset:
        assert (dataset.read() == 1).all()


def test_what_has_been_done_is_a_list(a_map, tmp_path):
    with open_map(copied(a_map, tmp_path)) as found:
        assert tags_of(found.dataset, "more")["FLAIR_POST"] == "nothing; more"


def test_names_and_style_lie_beside(a_map, tmp_path):
    target = tmp_path / "new.tif"
    with open_map(a_map) as found:
        made = dict(sidecars(target, found, found.classes, "tiny", tmp_path))
    assert sorted(p.name for p in made.values()) == ["new.qml", "new.tif.aux.xml"]
    names = [e.text for e in ET.parse(tmp_path / "new.tif.aux.xml").iter("Category")]
    assert names == ["no data", *(entry.name for entry in CLASSES)]
    entries = [e.attrib for e in ET.parse(tmp_path / "new.qml").iter("paletteEntry")]
    assert [(e["label"], e["color"]) for e in entries] == [(c.name, c.color) for c in CLASSES]
    (tmp_path / "new.qml").write_text("<qgis/>")
    with open_map(a_map) as found:
        made = sidecars(target, found, found.classes, "tiny", tmp_path)
    assert [p.name for _, p in made] == ["new.tif.aux.xml"]


def test_what_belongs_to_an_old_map(a_map, tmp_path):
    assert a_map.with_name("map.tif.ovr") in stale(a_map)
    assert stale(tmp_path / "no.tif") == []


def test_a_disk_that_refuses(a_map, tmp_path, monkeypatch):
    def fails(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(raster_file, "check_complete", fails)
    with pytest.raises(WriteError, match=r"copy.tif: cannot be written .*No space.* run it again"):
        copied(a_map, tmp_path)
