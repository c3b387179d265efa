import json
import sqlite3
import xml.etree.ElementTree as ET

import numpy as np
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from rasterio.crs import CRS

from flair_engine.errors import ReadError, WriteError
from flair_engine.mapping.legend import STYLE_MARK, palette_style
from flair_engine.post.map_file import MapClass
from flair_engine.post.vector_file import (
    add_style,
    is_our_vector,
    is_polygon_style,
    polygon_style,
    write_polygons,
)

LAMBERT_93 = CRS.from_epsg(2154)
TAGS = {"FLAIR_MODEL": "tiny"}


def batch(start, count=3):
    numbers = np.arange(start, start + count)
    return {
        "value": numbers.astype(np.int16),
        "class": [f"class {n}" for n in numbers],
        "color": ["#db0e9a"] * count,
        "area_m2": numbers * 1.5,
        "confidence": numbers / 10,
        "geometry": shapely.box(numbers, 0, numbers + 1, 1),
    }


def write(path, batches=None, confidence=True):
    given = iter([batch(0), batch(3)] if batches is None else batches)
    return write_polygons(path, "polygons", given, LAMBERT_93, TAGS, confidence=confidence)


def test_a_geopackage_holds_them_all(tmp_path):
    path = tmp_path / "a.gpkg"
    assert write(path) == 6
    info = pyogrio.read_info(path)
    assert info["crs"] == "EPSG:2154"
    assert info["geometry_type"] == "Polygon"
    assert list(info["fields"]) == ["value", "class", "color", "area_m2", "confidence"]
    _, _, wkb, fields = pyogrio.raw.read(path)
    assert shapely.from_wkb(wkb).tolist() == shapely.box(range(6), 0, range(1, 7), 1).tolist()
    assert fields[3].tolist() == (np.arange(6) * 1.5).tolist()
    assert is_our_vector(path)


def test_geoparquet_has_a_box_for_each(tmp_path):
    path = tmp_path / "a.parquet"
    assert write(path, confidence=False) == 6
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["value", "class", "color", "area_m2", "geometry", "bbox"]
    assert table["bbox"].to_pylist()[4] == {"xmin": 4, "ymin": 0, "xmax": 5, "ymax": 1}
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    assert shapes.tolist() == shapely.box(range(6), 0, range(1, 7), 1).tolist()
    geo = json.loads(pyarrow.parquet.read_metadata(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"][geo["primary_column"]]
    assert column["bbox"] == [0, 0, 6, 1]
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert CRS.from_user_input(json.dumps(column["crs"])) == LAMBERT_93
    assert is_our_vector(path)


@pytest.mark.parametrize("name", ["a.gpkg", "a.parquet"])
def test_no_polygon_is_a_file_too(tmp_path, name):
    assert write(tmp_path / name, []) == 0
    assert is_our_vector(tmp_path / name)


@pytest.mark.parametrize("name", ["a.gpkg", "a.parquet"])
def test_others_are_not_ours(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"something")
    assert not is_our_vector(path)


@pytest.mark.parametrize("name", ["a.gpkg", "a.parquet"])
def test_what_fails_on_the_way_is_said_in_its_own_words(tmp_path, name):
    def batches():
        yield batch(0)
        raise ReadError("map.tif: rows 7 to 9 cannot be read", "fetch it again")

    with pytest.raises(ReadError, match="rows 7 to 9"):
        write(tmp_path / name, batches())


@pytest.mark.parametrize("name", ["a.gpkg", "a.parquet"])
def test_a_place_that_cannot_be_written(tmp_path, name):
    with pytest.raises(WriteError, match=r"a.\w+: cannot be written .*: check the free space"):
        write(tmp_path / "nowhere" / name)


def test_a_style_has_a_category_for_each_class(tmp_path):
    classes = [
        MapClass(value=2, name="<water>", color="#1553ae"),
        MapClass(value=7, name="b", color="#000010"),
    ]
    text = polygon_style(classes)
    assert STYLE_MARK in text
    root = ET.fromstring(text.partition("\n")[2])
    found = {e.get("value"): (e.get("label"), e.get("symbol")) for e in root.iter("category")}
    assert found == {"2": ("<water>", "0"), "7": ("b", "1")}
    colors = [e.get("value") for e in root.iter("Option") if e.get("name") == "color"]
    assert colors == ["21,83,174,255", "0,0,16,255"]


def test_a_style_of_polygons_is_none_of_a_raster(tmp_path):
    (tmp_path / "a.qml").write_text(polygon_style([]))
    (tmp_path / "b.qml").write_text(palette_style([]))
    assert is_polygon_style(tmp_path / "a.qml")
    assert not is_polygon_style(tmp_path / "b.qml")


def test_a_geopackage_holds_its_style(tmp_path):
    path = tmp_path / "a.gpkg"
    write(path)
    add_style(path, "polygons", "<qgis/>")
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        )
        assert rows.fetchall() == [("polygons", "geom", "<qgis/>", 1)]
    assert pyogrio.read_info(path, layer="polygons")["features"] == 6
    with pytest.raises(WriteError, match=r"a.gpkg: cannot be written .*already exists"):
        add_style(path, "polygons", "<qgis/>")
