import json

import numpy as np
import pytest
import rasterio
from doubles.rasters import ORIGIN_M
from rasterio.transform import from_origin

from flair_engine.errors import SourceError
from flair_engine.grid import Grid
from flair_engine.reading.area import selected_cores
from flair_engine.reading.pixel_grid import PixelGrid

X, Y = ORIGIN_M
GRID = Grid(height=100, width=90, tile_px=32, margin_px=8)


PIXELS = PixelGrid(
    height=100,
    width=90,
    crs=rasterio.CRS.from_epsg(2154),
    transform=from_origin(X, Y, 0.2, 0.2),
)


def ground(top, left, bottom, right):
    return (X + left * 0.2, Y - bottom * 0.2, X + right * 0.2, Y - top * 0.2)


def test_a_box_selects_the_cores_it_touches():
    cores = selected_cores(GRID, PIXELS, ground(20, 40, 45, 60), None)
    assert cores.shape == (7, 6)
    assert sorted(zip(*np.nonzero(cores), strict=True)) == [(1, 2), (1, 3), (2, 2), (2, 3)]
    assert selected_cores(GRID, PIXELS, None, None) is None


@pytest.mark.parametrize(
    ("bbox", "message"),
    [(ground(20, 40, 20, 60), "is empty"), (ground(500, 40, 600, 60), "does not touch the images")],
)
def test_boxes_that_select_nothing(bbox, message):
    with pytest.raises(SourceError, match=message):
        selected_cores(GRID, PIXELS, bbox, None)


def write_shapes(path, *rings, crs="urn:ogc:def:crs:EPSG::2154"):
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [r]}}
        for r in rings
    ]
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))
    return str(path)


def triangle(project=lambda x, y: (x, y)):
    left, bottom, right, top = ground(2, 2, 90, 80)
    return [project(*xy) for xy in ((left, top), (right, top), (left, bottom), (left, top))]


def test_shapes_select_the_cores_they_touch_in_any_crs(tmp_path):
    pytest.importorskip("fiona")
    plain = selected_cores(GRID, PIXELS, None, write_shapes(tmp_path / "a.geojson", triangle()))
    assert plain[0, :5].all()
    assert plain[:5, 0].all()
    assert not plain[4, 4]

    def to_degrees(x, y):
        xs, ys = rasterio.warp.transform("EPSG:2154", "EPSG:4326", [x], [y])
        return xs[0], ys[0]

    degrees = write_shapes(
        tmp_path / "b.geojson", triangle(to_degrees), crs="urn:ogc:def:crs:OGC:1.3:CRS84"
    )
    assert (selected_cores(GRID, PIXELS, None, degrees) == plain).all()


def test_area_files_that_cannot_be_used(tmp_path, monkeypatch):
    pytest.importorskip("fiona")
    with pytest.raises(SourceError, match="cannot be read .*: give a vector file"):
        selected_cores(GRID, PIXELS, None, str(tmp_path / "absent.gpkg"))
    with pytest.raises(SourceError, match="holds no shape"):
        selected_cores(GRID, PIXELS, None, write_shapes(tmp_path / "empty.geojson"))
    monkeypatch.setitem(__import__("sys").modules, "fiona", None)
    with pytest.raises(SourceError, match=r"pip install 'flair-engine\[aoi\]'"):
        selected_cores(GRID, PIXELS, None, "area.gpkg")
