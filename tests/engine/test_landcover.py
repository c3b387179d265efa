import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from flair_engine.errors import OutputError, WriteError
from flair_engine.landcover import MapWriter, output_path
from flair_engine.manifest import read_model_spec
from flair_engine.pipeline import LabelledStrip

TRANSFORM = from_origin(721104.4, 6248980.8, 0.2, 0.2)


@pytest.fixture
def spec(tiny_path):
    return read_model_spec(tiny_path)


def writer(path, spec, height=10, width=7, **options):
    return MapWriter(
        path,
        spec,
        height=height,
        width=width,
        crs=rasterio.CRS.from_epsg(2154),
        transform=TRANSFORM,
        **{"values": "flair", "tags": {"FLAIR_MODEL": "tiny"}, "overwrite": False, **options},
    )


def write_strips(path, spec, labels, rows_per_strip, **options):
    height, width = labels.shape
    with writer(path, spec, height, width, **options) as raster:
        for i, top in enumerate(range(0, height, rows_per_strip)):
            rows = labels[top : top + rows_per_strip]
            raster.write(LabelledStrip(i=i, top=top, outputs={"labels": rows}))
        raster.publish()


@pytest.mark.parametrize("rows_per_strip", [1, 16, 312, 512, 700, 2000])
def test_what_is_written_is_read_back(tmp_path, spec, rows_per_strip):
    labels = np.random.default_rng(0).choice([1, 3], (1301, 613)).astype(np.uint8)
    write_strips(tmp_path / "map.tif", spec, labels, rows_per_strip)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == labels).all()
        assert dataset.crs.to_epsg() == 2154
        assert dataset.transform == TRANSFORM
        assert dataset.nodata == 0
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.compression.name == "deflate"
        assert dataset.colormap(1)[1] == (0xDB, 0x0E, 0x9A, 255)
        assert dataset.colormap(1)[0] == (0, 0, 0, 0)
        assert dataset.tags()["FLAIR_MODEL"] == "tiny"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.tif", "map.tif.aux.xml"]


def category_names(path):
    return [entry.text or "" for entry in ET.parse(f"{path}.aux.xml").iter("Category")]


def test_category_n_names_value_n(tmp_path, spec):
    write_strips(tmp_path / "map.tif", spec, np.ones((4, 4), np.uint8), 4)
    assert category_names(tmp_path / "map.tif") == ["no data", "first", "second", "third"]


def test_zero_based_labels_are_the_official_tools(tmp_path, spec):
    labels = np.array([[1, 3], [3, 1]], np.uint8)
    write_strips(tmp_path / "map.tif", spec, labels, 2, values="zero-based")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read(1) == labels - 1).all()
        assert dataset.nodata == 255
        assert dataset.colormap(1)[2] == (0xF8, 0x0C, 0x00, 255)
    assert category_names(tmp_path / "map.tif") == ["first", "second", "third"]


def test_other_outputs_are_rasters_of_their_own(tmp_path, spec):
    spec = dataclasses.replace(spec, outputs=("labels", "confidence", "probabilities"))
    outputs = {
        "labels": np.full((6, 5), 3, np.uint8),
        "confidence": np.full((6, 5), 200, np.uint8),
        "probabilities": np.arange(3 * 30, dtype=np.uint8).reshape(3, 6, 5),
    }
    path = tmp_path / "map.tif"
    with writer(path, spec, 6, 5) as raster:
        raster.write(LabelledStrip(i=0, top=0, outputs=outputs))
        raster.publish()
    for name, array in outputs.items():
        with rasterio.open(output_path(path, name)) as dataset:
            assert (dataset.read().squeeze() == array).all()
            assert dataset.nodata == (0 if name == "labels" else None)
    with rasterio.open(tmp_path / "map.probabilities.tif") as dataset:
        assert dataset.descriptions == ("first", "second", "third")


def test_nothing_is_left_without_publish(tmp_path, spec):
    with writer(tmp_path / "map.tif", spec) as raster:
        raster.write(LabelledStrip(i=0, top=0, outputs={"labels": np.ones((10, 7), np.uint8)}))
        assert not (tmp_path / "map.tif").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_old_map(tmp_path, spec):
    path = tmp_path / "map.tif"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), writer(path, spec, overwrite=True):
        raise KeyError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_map_is_kept(tmp_path, spec):
    (tmp_path / "map.tif").touch()
    with pytest.raises(OutputError, match="exists already: use --overwrite"):
        writer(tmp_path / "map.tif", spec)


def test_folder_that_is_not_there(tmp_path, spec):
    with pytest.raises(OutputError, match="the folder .* does not exist"):
        writer(tmp_path / "no" / "map.tif", spec)


def test_output_that_is_a_folder(tmp_path, spec):
    with pytest.raises(OutputError, match="is a folder"):
        writer(tmp_path, spec)


def test_output_that_is_no_geotiff(tmp_path, spec):
    with pytest.raises(OutputError, match=r"give a name ending in \.tif"):
        writer(tmp_path / "map.png", spec)


def test_folder_that_may_not_be_written(tmp_path, spec, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(OutputError, match="is not writable by you"):
        writer(tmp_path / "map.tif", spec)


def test_raster_gdal_cannot_create(tmp_path, spec):
    with pytest.raises(OutputError, match="cannot be created"):
        writer(tmp_path / "map.tif", spec, height=2**31 - 1, width=2**31 - 1)


def test_rows_that_cannot_be_written(tmp_path, spec):
    with (
        writer(tmp_path / "map.tif", spec, height=10) as raster,
        pytest.raises(WriteError, match="rows 0 to 1023 cannot be written"),
    ):
        raster.write(LabelledStrip(i=0, top=0, outputs={"labels": np.ones((1024, 7), np.uint8)}))


def test_map_that_cannot_be_put_in_place(tmp_path, spec):
    with (
        writer(tmp_path / "map.tif", spec) as raster,
        pytest.raises(WriteError, match="cannot be put in place"),
    ):
        (tmp_path / "map.tif").mkdir()
        raster.publish()
