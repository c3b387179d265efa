"""Maps of a box or of shapes: the map of the whole, cropped and masked by rasterio."""

from itertools import count

import numpy as np
import pytest
import rasterio
from doubles.field import X, Y, flair_run, ground_m2, mapped, noise, read_map, refused, said, write
from doubles.tiny_model import write_box_model
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.mask import mask
from rasterio.windows import from_bounds

shapely = pytest.importorskip("shapely")
pyogrio_raw = pytest.importorskip("pyogrio.raw")

OUTPUTS = ("labels", "confidence", "probabilities")
SIZE = 90
EXACT = 2e-4
"""Relative: a pixel's size in the middle of a strip stands for all of them."""


def put(path, *shapes, layer=None, append=False):
    """Write polygons in Lambert-93."""
    wkb = np.array([shapely.to_wkb(shape) for shape in shapes], object)
    options = {"geometry_type": "Polygon", "crs": "EPSG:2154", "layer": layer, "append": append}
    pyogrio_raw.write(path, wkb, [], [], **options)
    return path


def polygon(*corners):
    """Return the polygon of some (row, column) corners, in pixels."""
    return shapely.Polygon([(X + 0.2 * col, Y - 0.2 * row) for row, col in corners])


TRIANGLE = polygon((3.3, 5.2), (70.1, 11.7), (40.9, 81.3))
RING = shapely.Point(X + 0.2 * 60, Y - 0.2 * 20).buffer(4).difference(
    shapely.Point(X + 0.2 * 60, Y - 0.2 * 20).buffer(2)
)  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write(tmp_path_factory.mktemp("image") / "in.tif", noise(2, SIZE, SIZE))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The box filter with every output."""
    return write_box_model(tmp_path_factory.mktemp("model"), "red", "green", outputs=OUTPUTS)


def rasters(output):
    """Return the paths of a map's outputs."""
    return [output, *(output.with_name(f"{output.stem}.{name}.tif") for name in OUTPUTS[1:])]


def masked(path, shapes):
    """Return what rasterio makes of a raster outside shapes, cropped to the pixels around them."""
    with rasterio.open(path) as dataset:
        nodata = 0 if dataset.nodata is None else dataset.nodata
        pixels_bhw, place = mask(dataset, shapes, crop=True, nodata=nodata)
    return pixels_bhw, place, nodata


def assert_masked(output, whole, shapes):
    """Assert that the rasters of a map are those of the whole, masked."""
    for path, of_whole in zip(rasters(output), rasters(whole), strict=True):
        expected_bhw, place, nodata = masked(of_whole, shapes)
        with rasterio.open(path) as dataset:
            found_bhw = dataset.read()
            row, col = (
                round(v) for v in (~place @ (dataset.bounds.left, dataset.bounds.top))[::-1]
            )
        height, width = found_bhw.shape[1:]
        assert (found_bhw == expected_bhw[:, row : row + height, col : col + width]).all(), path
        around_bhw = expected_bhw.copy()
        around_bhw[:, row : row + height, col : col + width] = nodata
        assert (around_bhw == nodata).all(), "nothing of the shapes is left out"


@pytest.mark.parametrize("options", [(), ("--labels", "zero-based"), ("--cog",)])
@pytest.mark.parametrize("canvas_bytes", [1, 2**29])
def test_an_area_is_the_whole_masked(model, image, tmp_path, monkeypatch, options, canvas_bytes):
    monkeypatch.setattr("flair_engine.reading.schedule.CANVAS_BYTES", canvas_bytes)
    area = put(tmp_path / "area.gpkg", TRIANGLE, RING)
    whole = mapped(model, tmp_path / "whole.tif", image, *options)
    found = mapped(model, tmp_path / "map.tif", image, "--aoi", area, *options)
    assert_masked(tmp_path / "map.tif", tmp_path / "whole.tif", [TRIANGLE, RING])
    nodata = 255 if "zero-based" in options else 0
    values, counts = np.unique(found.labels[found.labels != nodata], return_counts=True)
    assert list(found.report["pixels_by_class"].values()) == counts.tolist()
    assert len(values) == 2
    assert found.report["nodata_pixels"] == (found.labels == nodata).sum()
    assert (found.report["height"], found.report["width"]) == found.labels.shape
    share = counts.sum() / whole.labels.size
    assert found.hectares == pytest.approx(ground_m2(image) / 1e4 * share, rel=EXACT)


numbers = count()
EDGES = st.floats(-20, SIZE + 20).filter(lambda edge: abs(edge % 1 - 0.5) > 1e-6)
"""In pixels, none on a centre, which a rounding error would move to either side."""


@settings(max_examples=12)
@given(st.tuples(*[EDGES] * 4))
def test_a_box_is_the_whole_cropped(band_model, whole, image, edges):
    (west, east), (north, south) = sorted(edges[:2]), sorted(edges[2:])
    box = (X + 0.2 * west, Y - 0.2 * south, X + 0.2 * east, Y - 0.2 * north)
    output = whole.with_name(f"map{next(numbers)}.tif")
    first_row, first_col, last_row, last_col = (
        min(max(round(edge), 0), SIZE) for edge in (north, west, south, east)
    )
    arguments = (
        "-m",
        band_model("red", "green"),
        image,
        output,
        f"--bbox={','.join(map(repr, box))}",
    )
    outcome = flair_run(*arguments)
    if first_row >= last_row or first_col >= last_col:
        assert outcome.code == 2
        return
    assert outcome.code == 0, outcome.err
    expected = read_map(whole)[first_row:last_row, first_col:last_col]
    with rasterio.open(output) as dataset, rasterio.open(whole) as whole_map:
        assert (dataset.read(1) == expected).all()
        window = from_bounds(*dataset.bounds, whole_map.transform)
        offsets = (window.row_off, window.col_off)
    assert offsets == pytest.approx((first_row, first_col)), "the pixel grid does not move"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, band_model, image):
    """The map of the image's labels."""
    output = tmp_path_factory.mktemp("maps") / "whole.tif"
    mapped(band_model("red", "green"), output, image)
    return output


def test_maps_of_files_are_clipped(model, tmp_path):
    pixels = noise(2, SIZE, SIZE)
    for name, col in (("a", 0), ("b", 45)):
        write(tmp_path / "in" / f"{name}.tif", pixels[:, :, col : col + 45], col=col)
    area = put(tmp_path / "area.gpkg", TRIANGLE)
    for folder, options in (("whole", ()), ("clipped", ("--aoi", area))):
        (tmp_path / folder).mkdir()
        arguments = "-m", model, tmp_path / "in", tmp_path / folder, "--per-input", *options
        assert flair_run(*arguments).code == 0
    for name in ("a.tif", "b.tif"):
        assert_masked(tmp_path / "clipped" / name, tmp_path / "whole" / name, [TRIANGLE])


def test_a_layer_may_be_chosen(model, image, tmp_path):
    area = put(tmp_path / "area.gpkg", TRIANGLE, layer="woods")
    put(area, RING, layer="town", append=True)
    mapped(model, tmp_path / "whole.tif", image)
    both = mapped(model, tmp_path / "both.tif", image, "--aoi", area)
    assert "all its layers are mapped: woods, town" in both.notices
    assert_masked(tmp_path / "both.tif", tmp_path / "whole.tif", [TRIANGLE, RING])
    town = mapped(model, tmp_path / "town.tif", image, "--aoi", area, "--aoi-layer", "town")
    assert town.notices == ""
    assert_masked(tmp_path / "town.tif", tmp_path / "whole.tif", [RING])
    line = refused(model, image, tmp_path / "no.tif", "--aoi", area, "--aoi-layer", "lake")
    assert "has no layer of shapes called lake: choose from woods, town" in line


def test_whole_cores_are_mapped_on_request(model, image, tmp_path):
    area = put(tmp_path / "area.gpkg", polygon((20, 20), (20, 40), (21, 40)))
    whole = mapped(model, tmp_path / "whole.tif", image)
    cores = mapped(model, tmp_path / "map.tif", image, "--aoi", area, "--whole-cores")
    assert (cores.labels == whole.labels[16:32, 16:48]).all()


@pytest.mark.parametrize("option", ["--whole-cores", "--aoi-layer=town"])
def test_options_of_an_area_alone_are_refused(model, image, tmp_path, option):
    line = refused(model, image, tmp_path / "map.tif", option)
    assert "whole_cores says how bbox and aoi are mapped: give" in line or (
        "aoi_layer town is of no file of shapes: give aoi" in line
    )


def test_an_unfinished_run_of_other_shapes_is_not_continued(model, image, tmp_path, monkeypatch):
    """The cores that they touch are the same."""
    area = put(tmp_path / "area.gpkg", polygon((1, 1), (1, 30), (30, 1)))
    arguments = "-m", model, image, tmp_path / "map.tif", "--aoi", area, "--resume"
    with monkeypatch.context() as broken:
        broken.setattr("flair_engine.run.write_maps", lambda *_: 1 / 0)
        assert flair_run(*arguments).code == 1
    put(area, polygon((1, 1), (1, 30), (29, 1)))
    assert "area" in said(flair_run(*arguments), 2)
    put(area, polygon((1, 1), (1, 30), (30, 1)))
    assert flair_run(*arguments).code == 0
    mapped(model, tmp_path / "whole.tif", image)
    assert_masked(tmp_path / "map.tif", tmp_path / "whole.tif", [polygon((1, 1), (1, 30), (30, 1))])
