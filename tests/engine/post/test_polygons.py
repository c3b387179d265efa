import numpy as np
import pytest
import shapely
from doubles.maps import LOCAL_PLANE, patchy, write_map
from rasterio.features import shapes

from flair_engine.errors import OutputError
from flair_engine.post import polygons
from flair_engine.post.map_file import open_map
from flair_engine.post.polygons import columns_of, outlined, simplified
from flair_engine.post.regions import measured


@pytest.fixture
def opened(tmp_path):
    """A map of 200 rows in plain metres."""
    path = write_map(tmp_path / "map.tif", patchy(200, 120, seed=5), crs=LOCAL_PLANE)
    with open_map(path) as found:
        yield found


def pieces(opened, rows):
    array = opened.dataset.read(1)
    strips = [(top, array[top : top + rows]) for top in range(0, len(array), rows)]
    regions = measured(strips, 0, opened.ground())
    return regions, list(outlined(strips, opened, regions))


def together(regions, parts):
    found = np.concatenate([part.shapes for part in parts])
    numbers = np.concatenate([part.regions for part in parts])
    bare = shapely.normalize(shapely.simplify(found, 0))
    return sorted((int(regions.values[n]), s.wkt) for n, s in zip(numbers, bare, strict=True))


@pytest.mark.parametrize("rows", [1, 30, 64, 65, 200])
@pytest.mark.parametrize("corners", [50, 2**19])
def test_regions_across_strips_are_whole(opened, rows, corners, monkeypatch):
    monkeypatch.setattr(polygons, "MOST_CORNERS", corners)
    array = opened.dataset.read(1)
    gdals = [(v, shapely.geometry.shape(s)) for s, v in shapes(array, mask=array != 0)]
    expected = sorted((int(v), shapely.normalize(s).wkt) for v, s in gdals)
    regions, parts = pieces(opened, rows)
    assert together(regions, parts) == expected
    assert shapely.coverage_is_valid(np.concatenate([part.shapes for part in parts]))


def test_they_come_as_soon_as_they_are_whole(opened):
    _, parts = pieces(opened, 10)
    assert len(parts) > 2


def test_simplified_polygons_are_a_coverage_of_the_same_outline(opened):
    _regions, parts = pieces(opened, 200)
    before = np.concatenate([part.shapes for part in parts])
    after = list(simplified(iter(parts), 1.5))
    found = np.concatenate([part.shapes for part in after])
    assert shapely.coverage_is_valid(found)
    assert shapely.get_num_coordinates(found).sum() < shapely.get_num_coordinates(before).sum()
    assert shapely.coverage_union_all(found).equals(shapely.coverage_union_all(before))
    assert np.concatenate([part.regions for part in after]).tolist() == [
        n for part in parts for n in part.regions
    ]
    assert not any(shape.exterior.is_ccw for shape in found)  # rows go down
    assert list(simplified(iter([]), 1)) == []


def test_simplifying_takes_no_more_memory_than_there_is(opened, monkeypatch):
    _, parts = pieces(opened, 200)
    monkeypatch.setattr(polygons, "memory_bytes", lambda: 2**20)
    with pytest.raises(
        OutputError, match="--simplify holds all corners in memory.*larger --min-m2"
    ):
        list(simplified(iter(parts), 1))


def test_columns_are_what_the_map_says(opened):
    regions, parts = pieces(opened, 200)
    columns = columns_of(parts[0], opened, regions)
    assert list(columns) == ["value", "class", "color", "area_m2", "geometry"]
    names = {value: entry.name for value, entry in opened.classes.items()}
    assert columns["class"] == [names[v] for v in columns["value"]]
    assert np.allclose(shapely.area(columns["geometry"]), columns["area_m2"])
    array = opened.dataset.read(1)
    expected = shapes(array, mask=array != 0, transform=opened.dataset.transform)
    assert shapely.union_all(columns["geometry"]).equals_exact(
        shapely.union_all([shapely.geometry.shape(s) for s, _ in expected]), 1e-6, normalize=True
    )
