import numpy as np
import pytest
import shapely
from doubles.maps import LOCAL_PLANE, patchy, transform_of
from rasterio.io import MemoryFile

from flair_engine.errors import ReadError
from flair_engine.options import silent
from flair_engine.post.ground import Ground
from flair_engine.post.hectares import zone_hectares
from flair_engine.post.map_file import MapFile
from flair_engine.post.zones import Zones

HEIGHT, WIDTH = 60, 50


@pytest.fixture(scope="module")
def labels_hw():
    """Labels whose pixels are a hectare each."""
    return patchy(HEIGHT, WIDTH, seed=6)


@pytest.fixture
def opened(labels_hw, tmp_path):
    """A map of these."""
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 1, "dtype": "uint8"}
    with MemoryFile() as file:
        with file.open(**profile, transform=transform_of(100)) as dataset:
            dataset.write(labels_hw, 1)
        with file.open() as dataset:
            yield MapFile(
                path=tmp_path / "m.tif", dataset=dataset, classes={}, nodata=0, named=True
            )


def found(opened, shapes):
    zones = Zones(ids=[str(n) for n in range(len(shapes))], shapes=np.array(shapes))
    ground = Ground(LOCAL_PLANE, transform_of(100), HEIGHT, WIDTH)
    return zone_hectares(opened, zones, ground, silent)


def by_shapely(labels_hw, shape):
    """Return the hectares of each value by cutting every pixel."""
    rows, cols = np.indices(labels_hw.shape)
    cells = shapely.box(cols, rows, cols + 1, rows + 1)
    shares = shapely.area(shapely.intersection(cells, shape))
    return np.bincount(labels_hw.ravel(), shares.ravel(), 256)


SHAPES = [
    shapely.Polygon([(3.3, 4.1), (40.2, 7.7), (20.5, 55.9)]),
    shapely.Point(25, 30).buffer(9.7) - shapely.Point(25, 30).buffer(4.2),
    shapely.MultiPolygon([shapely.box(1, 1, 2.5, 3), shapely.box(30.25, 40.5, 33, 44)]),
    shapely.box(10.4, 10.4, 10.6, 10.6),
]


@pytest.mark.usefixtures("small_strips")
def test_pixels_are_cut_exactly(opened, labels_hw):
    done = found(opened, SHAPES)
    for number, shape in enumerate(SHAPES):
        assert np.allclose(done.by_value[number], by_shapely(labels_hw, shape), atol=1e-5)
    assert (done.outside == 0).all()


@pytest.mark.usefixtures("small_strips")
def test_zones_that_tile_the_map_hold_what_it_holds(opened, labels_hw):
    points = np.random.default_rng(1).uniform(0, 50, (30, 2))
    frame = [(0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)]
    tiles = shapely.get_parts(
        shapely.delaunay_triangles(shapely.MultiPoint(np.vstack([points, frame])))
    )
    done = found(opened, list(tiles))
    expected = np.bincount(labels_hw.ravel(), minlength=256)
    assert np.allclose(done.by_value.sum(axis=0), expected, rtol=1e-6, atol=0)


def test_what_lies_beside_the_map_is_counted_apart(opened):
    done = found(opened, [shapely.box(-10, 0, 5, 4), shapely.box(45, 55, 55, 65)])
    assert done.by_value.sum(axis=1).tolist() == pytest.approx([20, 25])
    assert done.outside.tolist() == pytest.approx([40, 75])


def test_damage_is_said(opened, monkeypatch):
    def fails(*_):
        raise ReadError("m.tif: rows 0 to 60 cannot be read", "fetch it again")

    monkeypatch.setattr("flair_engine.post.hectares.read_rows", fails)
    with pytest.raises(ReadError, match="rows 0 to 60"):
        found(opened, SHAPES)
