import json
import math
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from unittest import mock

import numpy as np
import pytest
import rasterio
from affine import Affine
from doubles.rasters import ORIGIN_M
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.transform import from_origin

from flair_engine import core_mask
from flair_engine.errors import SourceError
from flair_engine.grid import Cores, Grid, whole_area
from flair_engine.reading.area import area_shapes, touched_cores, touches_nothing
from flair_engine.reading.pixel_grid import PixelGrid

shapely = pytest.importorskip("shapely")
pyogrio_raw = pytest.importorskip("pyogrio.raw")
pyproj = pytest.importorskip("pyproj")

X, Y = ORIGIN_M
GRID = Grid(height=100, width=90, tile_px=32, margin_px=8)
"""7 x 6 cores of 16 px, the last ones of 4 rows and 10 columns."""

LAMBERT = CRS.from_epsg(2154)
LOCAL = CRS.from_wkt('LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1]]')
ELSEWHERE = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')


def pixels(crs=LAMBERT, transform=None, height=100, width=90):
    transform = transform or from_origin(X, Y, 0.2, 0.2)
    return PixelGrid(height=height, width=width, crs=crs, transform=transform)


PIXELS = pixels()


def ground(top, left, bottom, right):
    return (X + left * 0.2, Y - bottom * 0.2, X + right * 0.2, Y - top * 0.2)


def square(top, left, edge=10):
    return shapely.box(*ground(top, left, top + edge, left + edge))


A, B = square(35, 35), square(70, 5)
IN_A, IN_B = {(2, 2)}, {(4, 0)}
"""What the two squares touch, alone: each lies inside of one core."""


def degrees(shape):
    project = pyproj.Transformer.from_crs(2154, 4326, always_xy=True).transform
    return shapely.transform(
        shape, lambda xy: np.column_stack(project(xy[:, 0], xy[:, 1])), include_z=False
    )


def plain(mask):
    return mask.rows(0, len(mask.packed))


def touched(*, bbox=None, aoi=None, pixel_grid=PIXELS, grid=GRID, area=None):
    """The cores that are touched, as a set, and what was told."""
    told = []
    shapes = area_shapes(pixel_grid, bbox, aoi and str(aoi), told.append)
    cores = plain(touched_cores(shapes, pixel_grid, area or whole_area(grid)))
    return set(zip(*(axis.tolist() for axis in np.nonzero(cores)), strict=True)), told


def geojson(path, *shapes, crs="EPSG::2154"):
    """Write geometries: shapely's, dicts, or None; in degrees as the standard has it if `crs` is
    None."""
    geometries = [json.loads(shapely.to_geojson(s)) if hasattr(s, "wkb") else s for s in shapes]
    collection = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": g} for g in geometries],
    }
    if crs:
        collection["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs}"}}
    path.write_text(json.dumps(collection))
    return path


def write(path, *shapes, crs="EPSG:2154", kind="Unknown", **options):
    wkb = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    pyogrio_raw.write(path, wkb, [], [], geometry_type=kind, crs=crs, **options)
    return path


def csv(path, *texts):
    """Write geometries that no writer would let pass, as text; without CRS."""
    path.write_text("WKT,i\n" + "".join(f'"{text}",1\n' for text in texts))
    return path


def of_xy(*pairs):
    return ", ".join(f"{X + 0.2 * col} {Y - 0.2 * row}" for row, col in pairs)


# Boxes.


def test_a_box_selects_the_cores_it_touches():
    assert touched(bbox=ground(20, 40, 45, 60))[0] == {(1, 2), (1, 3), (2, 2), (2, 3)}
    assert area_shapes(PIXELS, None, None, print) is None


def test_a_part_of_the_cores_is_looked_at_alone():
    part = Cores(grid=GRID, rows=range(2, 7), cols=range(3, 6))
    assert touched(bbox=ground(20, 40, 45, 60), area=part)[0] == {(0, 0)}
    everywhere = (-math.inf, -math.inf, math.inf, math.inf)
    assert len(touched(bbox=everywhere, area=part)[0]) == 15
    assert len(touched(bbox=everywhere)[0]) == 42


def test_the_last_cores_end_with_the_raster():
    assert touched(bbox=ground(50, 85, 60, 89))[0] == {(3, 5)}
    assert touched(bbox=ground(97, 70, 99, 75))[0] == {(6, 4)}
    assert touched(bbox=ground(97, 85, 150, 150))[0] == {(6, 5)}
    assert touched(bbox=ground(50, 91, 60, 95))[0] == set()
    assert touched(bbox=ground(101, 20, 110, 30))[0] == set()


@pytest.mark.parametrize("shape", [square(50, 91, 4), square(101, 20, 8)])
def test_shapes_beside_the_raster_touch_no_core(tmp_path, shape):
    assert touched(aoi=geojson(tmp_path / "a.geojson", shape))[0] == set()


def test_a_raster_may_lie_askew_or_nowhere():
    askew = Affine.translation(X, Y) @ Affine.rotation(30) @ Affine.scale(0.2, -0.2)
    x, y = askew @ (40, 88)
    assert touched(bbox=(x - 0.1, y - 0.1, x + 0.1, y + 0.1), pixel_grid=pixels(transform=askew))[
        0
    ] == {(5, 2)}
    plain = pixels(crs=None, transform=Affine.identity())
    assert touched(bbox=(40, 88, 41, 89), pixel_grid=plain)[0] == {(5, 2)}


def test_a_raster_may_be_huge():
    huge = pixels(height=3_000_000, width=3_000_000)
    grid = Grid(height=3_000_000, width=3_000_000, tile_px=512, margin_px=128)
    part = Cores(grid=grid, rows=range(11_700, 11_719), cols=range(11_710, 11_719))
    last = ground(2_999_990, 2_999_990, 3_000_000, 3_000_000)
    assert touched(bbox=last, pixel_grid=huge, grid=grid, area=part)[0] == {(18, 8)}


@pytest.mark.parametrize(
    "bbox", [ground(20, 40, 20, 60), ground(20, 40, 30, 40), (math.nan, 0, 1, 1)]
)
def test_boxes_without_inside(bbox):
    with pytest.raises(SourceError, match="the box .* is empty: give xmin,ymin,xmax,ymax"):
        area_shapes(PIXELS, bbox, None, print)


def test_a_box_needs_no_more_packages(monkeypatch):
    for package in ("pyogrio", "shapely"):
        monkeypatch.setitem(sys.modules, package, None)
    assert touched(bbox=ground(20, 40, 30, 45))[0] == {(1, 2)}
    with pytest.raises(SourceError, match=r"more packages: run pip install 'flair-engine\[aoi\]'"):
        area_shapes(PIXELS, None, "area.gpkg", print)


def test_a_box_and_a_file_are_too_much():
    with pytest.raises(SourceError, match="both a box and a file .*: give one of them"):
        area_shapes(PIXELS, (0, 0, 1, 1), "area.gpkg", print)


def test_what_touches_nothing_is_named():
    error = touches_nothing((0, 1, 2, 3.5), None)
    assert str(error) == (
        "the box 0,1,2,3.5: does not touch the images: check its coordinates against their CRS, "
        "and that it is larger than a pixel"
    )
    assert touches_nothing(None, "a.gpkg").what == "a.gpkg: does not touch the images"


# Shapes of every kind.


def triangle():
    left, bottom, right, top = ground(2, 2, 90, 79)
    return shapely.Polygon([(left, top), (right, top), (left, bottom)])


def test_shapes_select_the_cores_they_touch_in_any_crs(tmp_path):
    plain, told = touched(aoi=geojson(tmp_path / "a.geojson", triangle()))
    assert plain >= {(0, j) for j in range(5)} | {(i, 0) for i in range(5)}
    assert (4, 4) not in plain
    assert told == []
    for crs in (None, "OGC:1.3:CRS84"):
        path = geojson(tmp_path / "b.geojson", degrees(triangle()), crs=crs)
        assert touched(aoi=path) == (plain, [])


KINDS = {
    "polygon": (A, IN_A),
    "hole": (
        square(0, 0, 63).difference(shapely.box(*ground(15, 15, 49, 49))),
        {(i, j) for i in range(4) for j in range(4)} - {(1, 1), (1, 2), (2, 1), (2, 2)},
    ),
    "several": (shapely.MultiPolygon([A, B]), IN_A | IN_B),
    "over one another": (shapely.MultiPolygon([square(33, 33, 47), square(49, 49, 14)]), None),
    "point": (shapely.centroid(A), IN_A),
    "points": (shapely.MultiPoint([A.centroid, B.centroid]), IN_A | IN_B),
    "line": (shapely.LineString([A.centroid, square(35, 67).centroid]), {(2, 2), (2, 3), (2, 4)}),
    "lines": (
        shapely.MultiLineString([A.exterior.coords[:2], B.exterior.coords[:2]]),
        IN_A | IN_B,
    ),
    "collection": (shapely.GeometryCollection([A, B.centroid]), IN_A | IN_B),
    "collections": (
        shapely.GeometryCollection([shapely.GeometryCollection([A]), shapely.Point(), B]),
        IN_A | IN_B,
    ),
    "3D": (shapely.force_3d(A, 12.5), IN_A),
    "3D collection": (shapely.force_3d(shapely.GeometryCollection([A, B]), 12.5), IN_A | IN_B),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wgs84", [False, True])
def test_kinds_of_geometry(tmp_path, kind, wgs84):
    shape, expected = KINDS[kind]
    if expected is None:
        expected = {(i, j) for i in range(2, 5) for j in range(2, 5)}
    path = tmp_path / "a.geojson"
    geojson(path, degrees(shape), crs=None) if wgs84 else geojson(path, shape)
    assert touched(aoi=path) == (expected, [])


NO_CRS = "has no CRS, its coordinates are taken for those of the images"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"CURVEPOLYGON(CIRCULARSTRING({of_xy((24, 40), (40, 24), (56, 40), (40, 56), (24, 40))}))",
         {(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)}),
        (f"COMPOUNDCURVE(CIRCULARSTRING({of_xy((40, 34), (34, 40), (40, 46))}))", IN_A),
        (f"POLYGON(({of_xy((35, 35), (45, 75), (35, 75), (45, 35), (35, 35))}))",
         {(2, 2), (2, 3), (2, 4)}),  # a bow tie
        (f"POLYGON(({of_xy((35, 35), (45, 75), (35, 35))}))", {(2, 2), (2, 3), (2, 4)}),  # flat
        (f"POLYGON(({of_xy((35, 35), (35, 35), (35, 35), (35, 35))}))", IN_A),
        (f"POLYGON(({of_xy((35, 35), (35, 45), (45, 45), (45, 35))}))", IN_A),  # open
        (f"LINESTRING({of_xy((35, 35), (35, 35))})", IN_A),
        (f"POLYGON M(({of_xy((35, 35), (35, 45), (45, 45), (35, 35)).replace(',', ' 5,')} 5))",
         IN_A),
    ],
)  # fmt: skip
def test_curves_and_invalid_geometry(tmp_path, text, expected):
    path = csv(tmp_path / "a.csv", text)
    assert touched(aoi=path) == (expected, [f"{path}: {NO_CRS}"])


def test_what_has_no_shape_is_left_out_and_told(tmp_path):
    holes = (
        None,
        {"type": "Polygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": []},
    )
    path = geojson(tmp_path / "a.geojson", A, *holes)
    assert touched(aoi=path) == (
        IN_A,
        [f"{path}: 3 of 4 features without a usable shape left out"],
    )
    text = f"POLYGON(({of_xy((35, 35), (35, 45), (45, 45), (35, 35))}))"
    tin = "TIN Z (((0 0 0,0 0 1,0 1 0,0 0 0)))"
    path = csv(tmp_path / "b.csv", text, "POINT (nan 1)", "POINT (inf 1)", "POLYGON((0 0))", tin)
    cores, told = touched(aoi=path)
    assert cores == IN_A
    assert told[0] == f"{path}: 4 of 5 features without a usable shape left out"


def test_a_shapefile_cut_off_is_told(tmp_path):
    path = write(tmp_path / "a.shp", *[A] * 50, kind="Polygon")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cores, told = touched(aoi=path)
    assert cores == IN_A
    assert told == [f"{path}: 26 of 50 features without a usable shape left out"]


def test_attributes_in_any_encoding_do_not_matter(tmp_path):
    path = csv(tmp_path / "a.csv", A.wkt)
    path.write_bytes(path.read_bytes().replace(b"WKT,i", b"WKT,\xe9t\xe9"))
    assert touched(aoi=path)[0] == IN_A


# Layers and CRSs.


def test_all_layers_are_read_each_in_its_crs(tmp_path):
    path = write(tmp_path / "a.gpkg", A, layer="one")
    write(path, degrees(B), crs="EPSG:4326", layer="two", append=True)
    assert touched(aoi=path) == (IN_A | IN_B, [f"{path}: all its layers are mapped: one, two"])
    with sqlite3.connect(path) as tables:  # as QGIS keeps its styles
        tables.execute("create table layer_styles (id integer primary key, name text)")
        tables.execute(
            "insert into gpkg_contents (table_name, data_type, identifier) "
            "values ('layer_styles', 'attributes', 'layer_styles')"
        )
    assert touched(aoi=path) == (IN_A | IN_B, [f"{path}: all its layers are mapped: one, two"])


@pytest.mark.parametrize("suffix", ["shp", "gpkg", "fgb"])
def test_an_area_without_crs_is_where_the_images_are(tmp_path, suffix):
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        path = write(tmp_path / f"a.{suffix}", A, crs=None, kind="Polygon")
    assert touched(aoi=path) == (IN_A, [f"{path}: {NO_CRS}"])
    assert touched(aoi=path, pixel_grid=pixels(crs=None)) == (IN_A, [])


@pytest.mark.parametrize("undefined", [-1, 0])
def test_an_undefined_crs_of_a_geopackage_is_none(tmp_path, undefined):
    path = write(tmp_path / "a.gpkg", A)
    with sqlite3.connect(path) as tables:
        for table in ("gpkg_geometry_columns", "gpkg_contents"):
            tables.execute(f"update {table} set srs_id = {undefined}")
    assert touched(aoi=path) == (IN_A, [f"{path}: {NO_CRS}"])
    assert touched(aoi=path, pixel_grid=pixels(crs=None)) == (IN_A, [])


def test_degrees_without_crs_touch_nothing(tmp_path):
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        path = write(tmp_path / "a.shp", degrees(A), crs=None, kind="Polygon")
    assert touched(aoi=path) == (set(), [f"{path}: {NO_CRS}"])


def test_images_without_crs_take_no_area_with_one(tmp_path):
    for crs, name in (("EPSG::2154", "EPSG:2154"), (None, "EPSG:4326")):
        path = geojson(tmp_path / "a.geojson", A, crs=crs)
        with pytest.raises(SourceError, match=f"a.geojson: is in {name} while the images have no"):
            touched(aoi=path, pixel_grid=pixels(crs=None))


def test_images_in_a_crs_by_name_alone(tmp_path):
    path = write(tmp_path / "a.gpkg", A)
    assert touched(aoi=path, pixel_grid=pixels(crs=LOCAL)) == (
        IN_A,
        [f"{path}: its CRS is taken for that of the images, which has the same name"],
    )
    path = geojson(tmp_path / "a.geojson", degrees(A), crs=None)
    for local in (LOCAL, ELSEWHERE):
        with pytest.raises(
            SourceError, match="a.geojson: cannot be brought from EPSG:4326 to "
        ) as e:
            touched(aoi=path, pixel_grid=pixels(crs=local))
        assert "\n" not in str(e.value)


def test_an_area_whose_projection_does_not_reach_the_images(tmp_path):
    path = geojson(tmp_path / "a.geojson", A)
    pole = pixels(crs=CRS.from_epsg(3031), transform=from_origin(-9, 9, 0.2, 0.2))
    with pytest.raises(SourceError, match="cannot be brought from EPSG:2154 to EPSG:3031"):
        touched(aoi=path, pixel_grid=pole)


def test_a_crs_that_gdal_does_not_know(tmp_path, monkeypatch):
    read = pyogrio_raw.read

    def newer(*given, **named):
        meta, *rest = read(*given, **named)
        return {**meta, "crs": "EPSG:999999"}, *rest

    monkeypatch.setattr(pyogrio_raw, "read", newer)
    with pytest.raises(SourceError, match="its CRS EPSG:999999 is unknown to GDAL"):
        touched(aoi=geojson(tmp_path / "a.geojson", A))


WORLD = shapely.box(-180, -90, 180, 90)


@pytest.mark.parametrize("epsg", [2154, 32631, 3857, 3035, 27572])
def test_the_world_covers_every_core(tmp_path, epsg):
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(2.5, 46.5)
    there = pixels(crs=CRS.from_epsg(epsg), transform=from_origin(x, y, 0.2, 0.2))
    path = geojson(tmp_path / "a.geojson", WORLD, crs=None)
    assert len(touched(aoi=path, pixel_grid=there)[0]) == 42


@pytest.mark.parametrize("west", [-180, -540, 180])
def test_longitudes_may_go_on_beyond_the_antimeridian(tmp_path, west):
    """The raster straddles it, 2 degrees south, in UTM zone 1."""
    x, y = pyproj.Transformer.from_crs(4326, 32701, always_xy=True).transform(-180, -2)
    there = pixels(crs=CRS.from_epsg(32701), transform=from_origin(x - 9, y + 10, 0.2, 0.2))
    path = geojson(tmp_path / "a.geojson", shapely.box(west, -3, west + 360, -1), crs=None)
    assert len(touched(aoi=path, pixel_grid=there)[0]) == 42
    east = geojson(tmp_path / "b.geojson", shapely.box(west, -3, west + 1, -1), crs=None)
    cores = touched(aoi=east, pixel_grid=there)[0]
    assert {j for _, j in cores} == {2, 3, 4, 5}


# Files that cannot be used.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.gpkg", "absent.gpkg: no such file: check the path"),
        ("raster.tif", "raster.tif: cannot be read as a vector file .*not recognized.*: give one"),
        ("a.txt", "a.txt: cannot be read as a vector file .*: give one that GDAL opens"),
        ("cut.geojson", "cut.geojson: cannot be read as a vector file .Failed to read GeoJSON"),
        ("folder", "folder: cannot be read as a vector file"),
        ("table.csv", "table.csv: holds no shape: give a vector file with areas"),
        ("null.geojson", "null.geojson: holds no shape"),
        ("empty.geojson", "empty.geojson: holds no shape"),
        ("damaged.gpkg", "damaged.gpkg: cannot be read as a vector file .*malformed"),
        ("b\udce9.gpkg", "cannot be read as a vector file .*can't encode"),
    ],
)
def test_area_files_that_cannot_be_used(tmp_path, name, message):
    path = tmp_path / name
    if name == "raster.tif":
        shape = {
            "count": 1,
            "height": 9,
            "width": 9,
            "dtype": "uint8",
            "transform": Affine.scale(2),
        }
        rasterio.open(path, "w", driver="GTiff", **shape).close()
    elif name == "folder":
        path.mkdir()
    elif name == "damaged.gpkg":
        write(path, *[A] * 5000)
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 20000] = bytes(20000)
        path.write_bytes(content)
    elif name == "cut.geojson":
        geojson(path, A)
        path.write_text(path.read_text()[:100])
    elif name == "null.geojson":
        geojson(path, None, None)
    elif name == "empty.geojson":
        geojson(path)
    elif name in ("a.txt", "table.csv"):
        path.write_text("a,b\n1,2\n")
    elif name != "absent.gpkg":
        shutil.copy(write(tmp_path / "plain.gpkg", A), path)
    with pytest.raises(SourceError, match=message) as error:
        touched(aoi=path)
    assert "\n" not in str(error.value)


def test_nothing_else_reaches_the_terminal(tmp_path):
    """In a process of its own: pytest listens to warnings and logs."""
    world = geojson(tmp_path / "world.geojson", WORLD, degrees(A), crs=None)
    broken = csv(tmp_path / "broken.csv", A.wkt, "POINT (inf 1)")
    cut = write(tmp_path / "cut.shp", *[A] * 9, kind="Polygon")
    cut.write_bytes(cut.read_bytes()[:600])
    script = f"""
from affine import Affine
from rasterio.crs import CRS
from flair_engine.errors import SourceError
from flair_engine.reading.area import area_shapes
from flair_engine.reading.pixel_grid import PixelGrid
crss = [CRS.from_epsg(2154), CRS.from_wkt('LOCAL_CS["site"]'), CRS.from_epsg(3031)]
for crs in crss:
    for path in {[str(world), str(broken), str(cut), "absent.gpkg", str(tmp_path)]}:
        raster = PixelGrid(height=9, width=9, crs=crs, transform=Affine({0.2}, 0, 0, 0, -0.2, 0))
        try:
            area_shapes(raster, None, path, lambda notice: None)
        except SourceError:
            pass
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_straight_edges_stay_where_they_are(tmp_path):
    """A parallel is an arc in Lambert-93: over 400 km it bends by three cores."""
    long = pixels(
        transform=from_origin(500_000, 6_259_000, 0.2, 0.2), height=90_000, width=2_000_000
    )
    grid = Grid(height=90_000, width=2_000_000, tile_px=4096, margin_px=64)
    turned = pyproj.Transformer.from_crs(4326, 2154, always_xy=True).transform
    _, south = pyproj.Transformer.from_crs(2154, 4326, always_xy=True).transform(700_000, 6_250_000)
    path = geojson(tmp_path / "a.geojson", shapely.box(-60, 30, 60, south), crs=None)
    shapes = area_shapes(long, None, str(path), print)
    cores = plain(touched_cores(shapes, long, whole_area(grid)))

    lons = np.linspace(0.4, 5.6, 200_001)
    cols, rows = ~long.transform @ turned(lons, np.full_like(lons, south))
    owner = np.floor_divide(cols, grid.core_px)
    highest = np.array([rows[owner == j].min() for j in range(grid.cols)]) / grid.core_px
    clear = np.abs(highest - np.round(highest)) * grid.core_px > 1
    assert np.ptp(np.floor(highest)) >= 3
    assert (cores.argmax(0) == np.floor(highest))[clear].all()
    assert np.mean(clear) > 0.9


# Against an oracle that knows neither clipping nor cut edges: it brings the cores to the area.

WIDE = Grid(height=90_000, width=70_000, tile_px=4096, margin_px=64)
WIDE_PIXELS = pixels(height=90_000, width=70_000)
"""18 x 14 km: straight lines of other CRSs are up to ten metres off here."""

UNSURE_M = 0.5


@lru_cache
def cores_in(epsg, grown_m):
    """Outlines in another CRS, of 100 points a side, of cores that are so much larger."""
    turned = pyproj.Transformer.from_crs(2154, epsg, always_xy=True).transform
    outlines = []
    for i in range(WIDE.rows):
        for j in range(WIDE.cols):
            core = WIDE.core(i, j)
            box = shapely.box(*ground(core.top, core.left, core.bottom, core.right))
            outlines.append(shapely.segmentize(box.buffer(grown_m, join_style="mitre"), 8))
    return shapely.transform(np.array(outlines), lambda xy: np.column_stack(turned(*xy.T)))


@given(
    epsg=st.sampled_from([2154, 4326, 32631, 3857]),
    place=st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)),
    sides=st.tuples(st.floats(0, 6), st.floats(0, 6)),
)
def test_rectangles_of_any_crs_touch_the_cores_an_oracle_says(tmp_path, epsg, place, sides):
    turned = pyproj.Transformer.from_crs(2154, epsg, always_xy=True).transform
    x, y = turned(X + place[0] * 14_000, Y - place[1] * 18_000)
    across, along = (10**side / (111_000 if epsg == 4326 else 1) / 2 for side in sides)
    rectangle = shapely.box(x - across, y - along, x + across, y + along)
    crs = None if epsg == 4326 else f"EPSG::{epsg}"
    path = geojson(tmp_path / "a.geojson", rectangle, crs=crs)
    cores = area_shapes(WIDE_PIXELS, None, str(path), print)
    found = plain(touched_cores(cores, WIDE_PIXELS, whole_area(WIDE))).ravel()
    assert (found >= shapely.intersects(cores_in(epsg, -UNSURE_M), rectangle)).all()
    assert (found <= shapely.intersects(cores_in(epsg, UNSURE_M), rectangle)).all()


PLACES = st.tuples(st.integers(-9, 330), st.integers(-9, 330))
RINGS = st.lists(PLACES, min_size=3, max_size=5)


@given(st.lists(RINGS, min_size=1, max_size=3), st.sampled_from([1, 3, 2048]), st.integers(0, 5))
def test_cores_looked_at_in_blocks_of_rows_are_those_of_the_plain_mask(rings, at_once, top):
    """But for cores that a shape touches with an edge or a corner alone."""
    pixel_grid = pixels(transform=from_origin(0, 320, 1, 1), height=320, width=320)
    grid = Grid(height=320, width=320, tile_px=32, margin_px=8)
    shapes = shapely.make_valid([shapely.Polygon(ring) for ring in rings])
    parts = shapely.get_parts(shapes).tolist()
    area = replace(whole_area(grid), rows=range(top, grid.rows))
    with mock.patch.object(core_mask, "ROWS_AT_ONCE", at_once):
        found = plain(touched_cores(parts, pixel_grid, area))
    cores = from_origin(0, 320, 16, 16)
    whole = rasterize(parts, out_shape=(20, 20), transform=cores, all_touched=True, dtype="uint8")
    row, col = np.mgrid[:20, :20] * 16
    least, most = (
        shapely.intersects(
            shapely.box(col + px, 304 - row + px, col + 16 - px, 320 - row - px),
            shapely.union_all(shapes),
        )
        for px in (0.01, -0.01)
    )
    assert (found == whole[top:])[(least == most)[top:]].all()
    assert (found >= least[top:]).all()
    assert (found <= most[top:]).all()
