import numpy as np
import pytest
import shapely
from doubles.maps import transform_of, write_map
from doubles.rasters import ORIGIN_M
from doubles.zones import tiling, write_zones
from pyproj import Transformer

from flair_engine.errors import SourceError
from flair_engine.post.map_file import open_map
from flair_engine.post.zones import read_zones

X, Y = ORIGIN_M


@pytest.fixture
def opened(tmp_path):
    """A map of 40 x 20 m."""
    with open_map(write_map(tmp_path / "map.tif", np.ones((100, 200), np.uint8))) as found:
        yield found


def box(left, top, right, bottom):
    """Return metres right of and below the map's corner as a shape."""
    return shapely.box(X + left, Y - bottom, X + right, Y - top)


@pytest.fixture
def read(tmp_path, opened, told):
    """Write shapes and read them as zones."""

    def read(shapes, ids=None, field="insee", layer=None, **written):
        path = write_zones(tmp_path / "zones.gpkg", shapes, ids, **written)
        return read_zones(path, field, layer, opened, told.append)

    return read


def test_zones_are_put_on_pixels(read, told):
    found = read([box(2, 4, 10, 6)])
    assert found.ids == ["z0"]
    assert shapely.equals_exact(
        found.shapes, shapely.box(10, 20, 50, 30), 1e-4, normalize=True
    ).all()
    assert told == []


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:25831"])
def test_zones_of_another_crs_are_put_in_the_maps(read, told, crs):
    shapes = tiling(X, Y - 20, X + 40, Y)
    there = Transformer.from_crs(2154, crs, always_xy=True)
    moved = [shapely.transform(s, lambda xy: np.stack(there.transform(*xy.T), 1)) for s in shapes]
    found = read(moved, crs=crs)
    assert f"zones are in {crs}, put in EPSG:2154" in told[0]
    expected = shapely.transform(np.array(shapes), lambda xy: (xy - (X, Y)) * (5, -5))
    assert (shapely.area(shapely.symmetric_difference(found.shapes, expected)) < 0.05).all()
    assert found.ids == [f"z{n}" for n in range(len(shapes))]


def test_what_does_not_touch_is_left_out_and_told(read, told):
    found = read([box(0, 0, 1, 1), box(-9, 0, 0, 9), box(500, 0, 600, 10)])
    assert found.ids == ["z0"]
    assert "2 of 3 zones do not touch the map, left out" in told[0]


def test_what_is_not_valid_is_made_so_and_told(read, told):
    bow = shapely.Polygon([(X, Y), (X + 4, Y - 4), (X + 4, Y), (X, Y - 4)])
    found = read([bow, None, shapely.Polygon(), shapely.Point(X + 1, Y - 1), box(5, 5, 6, 6)])
    assert found.ids == ["z0", "z4"]
    assert shapely.is_valid(found.shapes).all()
    assert shapely.area(found.shapes)[0] == pytest.approx(8 * 25)
    said = "\n".join(told)
    assert "1 zones are not valid, made so: z0" in said
    assert "1 zones are no areas, left out" in said


def test_shapes_of_one_id_are_one_zone(read, told):
    found = read([box(0, 0, 1, 1), box(9, 9, 10, 10), box(1, 0, 2, 1)], ["a", "b", "a"])
    assert found.ids == ["a", "b"]
    assert shapely.area(found.shapes).tolist() == pytest.approx([50, 25])
    assert "3 shapes have 2 ids" in told[0]


def test_whole_numbers_are_ids(read):
    assert read([box(0, 0, 1, 1)], [11262]).ids == ["11262"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"crs": None}, "zones.gpkg: has no CRS, so where its zones are is not known"),
        ({"field": "name"}, "has no field name, but insee: name the one that tells zones apart"),
        ({"layer": "other"}, "has no layer other, but zones: name one with --layer"),
        ({"ids": [None]}, "1 zones on the map have no id"),
        ({"ids": [""]}, "1 zones on the map have no id"),
    ],
)
def test_what_says_too_little_is_refused(tmp_path, opened, told, given, said):
    ids, crs = given.get("ids"), given.get("crs", "EPSG:2154")
    path = write_zones(tmp_path / "zones.gpkg", [box(0, 0, 1, 1)], ids, crs=crs)
    with pytest.raises(SourceError, match=said):
        read_zones(path, given.get("field", "insee"), given.get("layer"), opened, told.append)


def test_one_of_several_layers(tmp_path, opened, told):
    path = tmp_path / "zones.gpkg"
    write_zones(path, [box(0, 0, 1, 1)], layer="one")
    write_zones(path, [box(0, 0, 2, 2)], ["w"], layer="two", append=True)
    with pytest.raises(SourceError, match="has 2 layers of shapes, but one, two: name one with"):
        read_zones(path, "insee", None, opened, told.append)
    assert read_zones(path, "insee", "two", opened, told.append).ids == ["w"]


def test_what_lies_elsewhere_is_refused(read):
    with pytest.raises(SourceError, match="none of 1 zones touches the map: check their coord"):
        read([box(5000, 0, 5001, 1)])


def test_what_cannot_be_read_is_refused(tmp_path, opened, told):
    (tmp_path / "zones.gpkg").write_bytes(b"no database")
    with pytest.raises(SourceError, match="zones.gpkg: cannot be read .*: give a file of zones"):
        read_zones(tmp_path / "zones.gpkg", "insee", None, opened, told.append)


def test_a_crs_that_is_no_place_on_earth(read, opened):
    with pytest.raises(SourceError, match="zones are in .* which does not reach the map"):
        read([box(0, 0, 1, 1)], crs='LOCAL_CS["a site",UNIT["metre",1]]')


def test_a_crs_that_is_not_known(tmp_path, opened, told, monkeypatch):
    path = write_zones(tmp_path / "zones.gpkg", [box(0, 0, 1, 1)])
    import pyogrio

    facts = {**pyogrio.read_info(path), "crs": "nonsense"}
    monkeypatch.setattr(pyogrio, "read_info", lambda *_, **__: facts)
    with pytest.raises(SourceError, match="its CRS is not known"):
        read_zones(path, "insee", None, opened, told.append)


def test_rotated_maps(tmp_path, told):
    turned = transform_of() @ transform_of(1, 0, 0).rotation(30)
    path = write_map(tmp_path / "turned.tif", np.ones((50, 50), np.uint8), transform=turned)
    corners = [turned @ corner for corner in ((10, 10), (20, 10), (20, 20), (10, 20))]
    zones = write_zones(tmp_path / "zones.gpkg", [shapely.Polygon(corners)])
    with open_map(path) as found:
        (shape,) = read_zones(zones, "insee", None, found, told.append).shapes
    assert shape.equals_exact(shapely.box(10, 10, 20, 20), 1e-4, normalize=True)
