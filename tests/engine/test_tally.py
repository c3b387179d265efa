"""Pixels and hectares of each label: the oracle is the geodesic area of every pixel."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from doubles.tiny_model import SPEC
from pyproj import Geod, Transformer
from rasterio.crs import CRS

from flair_engine.grid import Cores, Grid, Window, blocks
from flair_engine.options import ReadOptions
from flair_engine.reading.pixel_grid import PixelGrid
from flair_engine.tally import NOTHING, tallied, tally
from flair_engine.work import Panel

WGS84 = Geod(ellps="WGS84")
US_FOOT_M = 1200 / 3937
PLACES = {
    "Lambert-93, Paris": ("EPSG:2154", (652_000.0, 6_862_000.0), 0.2),
    "Lambert-93, Corsica": ("EPSG:2154", (1_220_000.0, 6_050_000.0), 0.2),
    "Lambert-93, between its parallels": ("EPSG:2154", (700_000.0, 6_600_000.0), 0.2),
    "Web Mercator at 47 N": ("EPSG:3857", (267_000.0, 5_942_000.0), 0.2 / np.cos(np.radians(47))),
    "US survey feet": ("EPSG:2263", (984_000.0, 208_000.0), 0.2 / US_FOOT_M),
    "UTM": ("EPSG:32631", (301_000.0, 4_650_000.0), 0.2),
}


def sheet(crs, origin=(0.0, 0.0), px=0.2, *, height=40, width=53, turned=0.0):
    place = Affine.translation(*origin) @ Affine.rotation(turned) @ Affine.scale(px, -px)
    crs = CRS.from_string(crs) if crs else None
    grid = PixelGrid(height=height, width=width, crs=crs, transform=place)
    return SimpleNamespace(pixel_grid=grid)


def panels_of(*sheets):
    """Two panels of each sheet, numbered on."""
    panels = []
    for each in sheets:
        size = {"height": each.pixel_grid.height, "width": each.pixel_grid.width}
        grid = Grid(**size, tile_px=32, margin_px=8)
        for cols in (range(1), range(1, grid.cols)):
            cores = Cores(grid=grid, rows=range(grid.rows), cols=cols)
            panels.append(Panel(number=len(panels), sheet=each, cores=cores, selected=None))
    return panels


def work_of(panels, read=ReadOptions()):
    return SimpleNamespace(job=SimpleNamespace(read=read), spec=SPEC, panels=panels)


def counts_of(panels, labels_hw):
    """What the journal says of the strips of panels that all show the same labels."""
    for panel in panels:
        for i in panel.cores.rows:
            strip = labels_hw[panel.cores.strip(i).slices]
            yield (panel.number, i), np.bincount(strip.ravel(), minlength=256)


def noise(height=40, width=53):
    return np.random.default_rng(5).choice([0, 1, 3, 19], (height, width)).astype(np.uint8)


def pixel_m2(pixel_grid, row, col, height=1, width=1):
    """Return the geodesic area of a rectangle of pixels on the WGS 84 ellipsoid."""
    corners = ((row, col), (row, col + width), (row + height, col + width), (row + height, col))
    xs, ys = zip(*(pixel_grid.transform @ (x, y) for y, x in corners), strict=True)
    lons, lats = to_degrees(pixel_grid.crs.to_wkt()).transform(xs, ys)
    return abs(WGS84.polygon_area_perimeter(lons, lats)[0])


@cache
def to_degrees(crs):
    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def geodesic_hectares(pixel_grid, labels_hw):
    """Return float64 [256], the sum over the pixels of each label."""
    found = np.zeros(256)
    for (row, col), label in np.ndenumerate(labels_hw):
        found[label] += pixel_m2(pixel_grid, row, col) / 10_000
    return found


@pytest.mark.parametrize("name", PLACES)
def test_hectares_are_those_on_the_ground(name):
    crs, origin, px = PLACES[name]
    here, labels = sheet(crs, origin, px), noise()
    found = tally(work_of(panels_of(here)), counts_of(panels_of(here), labels))
    assert (found.pixels == np.bincount(labels.ravel(), minlength=256)).all()
    assert found.pixels.dtype == np.int64
    expected = geodesic_hectares(here.pixel_grid, labels)
    np.testing.assert_allclose(found.hectares, expected, rtol=2e-6)
    per_px_m2 = found.hectares.sum() * 10_000 / labels.size
    assert per_px_m2 == pytest.approx(0.04, rel=0.006)


def test_a_raster_that_lies_askew():
    here, labels = sheet("EPSG:3857", (267_000.0, 5_942_000.0), 0.29, turned=30), noise()
    found = tally(work_of(panels_of(here)), counts_of(panels_of(here), labels))
    # Karney's area of a rectangle askew is good to some 1e-4 m2: that of the whole is taken.
    expected = pixel_m2(here.pixel_grid, 0, 0, *labels.shape) / labels.size / 10_000
    np.testing.assert_allclose(found.hectares, found.pixels * expected, rtol=1e-5)


def test_each_strip_is_measured_at_its_own_place():
    """A map of 70 km from north to south in Web Mercator, whose pixels grow by 1 % on the way."""
    tall = sheet("EPSG:3857", (267_000.0, 5_942_000.0), 0.29, height=240_000, width=16)
    grid = Grid(height=240_000, width=16, tile_px=32, margin_px=8)
    cores = Cores(grid=grid, rows=range(grid.rows), cols=range(1))
    panel = Panel(number=0, sheet=tall, cores=cores, selected=None)
    ends = [0, grid.rows - 1]
    counts = [((0, i), np.bincount([1 + n] * 256, minlength=256)) for n, i in enumerate(ends)]
    found = tally(work_of([panel]), counts)
    for n, i in enumerate(ends):
        expected = pixel_m2(tall.pixel_grid, 16 * i, 0, 16, 16) / 10_000
        assert found.hectares[1 + n] == pytest.approx(expected, rel=2e-6)
    assert found.hectares[2] / found.hectares[1] > 1.01


def test_windows_of_a_map_sum_up_to_its_strips():
    """Parts are cut elsewhere than strips: each pixel is measured a little further off."""
    crs, origin, px = PLACES["Web Mercator at 47 N"]
    here, labels = sheet(crs, origin, px), noise()
    whole = tally(work_of(panels_of(here)), counts_of(panels_of(here), labels))
    found = NOTHING
    height, width = labels.shape
    for part in blocks(Window(top=0, left=0, height=height, width=width), (20, 30)):
        found += tallied(work_of([]), here, part, labels[part.slices])
    assert (found.pixels == whole.pixels).all()
    np.testing.assert_allclose(found.hectares, whole.hectares, rtol=1e-6)
    assert not NOTHING.pixels.any()
    assert not NOTHING.hectares.any()


def test_sheets_are_counted_together_each_by_its_own_pixels():
    crs, origin, px = PLACES["Web Mercator at 47 N"]
    here, there = sheet(crs, origin, px), sheet("EPSG:2154", (700_000.0, 6_600_000.0), height=20)
    panels = panels_of(here, there)
    assert [panel.number for panel in panels] == [0, 1, 2, 3]
    labels, others = noise(), noise(20)
    counts = [*counts_of(panels[2:], others), *counts_of(panels[:2], labels)]
    found = tally(work_of(panels), counts)
    expected = geodesic_hectares(here.pixel_grid, labels)
    expected += geodesic_hectares(there.pixel_grid, others)
    np.testing.assert_allclose(found.hectares, expected, rtol=2e-6)
    assert found.pixels.sum() == labels.size + others.size


TOLD = {
    "no CRS": (None, ReadOptions()),
    "no CRS, --gsd": (None, ReadOptions(gsd_m=0.2)),
    "a CRS that the user overrules": ("EPSG:3857", ReadOptions(gsd_m=0.2)),
}


@pytest.mark.parametrize("name", TOLD)
def test_without_a_place_a_pixel_is_what_the_model_was_trained_at(name):
    crs, read = TOLD[name]
    here, labels = sheet(crs, px=1.0), noise()
    found = tally(work_of(panels_of(here), read), counts_of(panels_of(here), labels))
    expected = np.bincount(labels.ravel(), minlength=256) * 0.04 / 10_000
    np.testing.assert_allclose(found.hectares, expected, rtol=1e-12)


def test_a_crs_without_a_place_is_taken_at_its_word():
    local = 'LOCAL_CS["RGF93 v1 / Lambert-93",UNIT["metre",1]]'
    here, labels = sheet(local, (652_000.0, 6_862_000.0), 0.2), noise()
    found = tally(work_of(panels_of(here)), counts_of(panels_of(here), labels))
    assert found.hectares.sum() == pytest.approx(labels.size * 0.04 / 10_000)


def test_a_run_without_strips_shows_nothing():
    found = tally(work_of(panels_of(sheet("EPSG:2154"))), [])
    assert not found.pixels.any()
    assert not found.hectares.any()
