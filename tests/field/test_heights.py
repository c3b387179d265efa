"""Heights as they are delivered: types, scales, units, nodata values and grids of their own."""

import re

import numpy as np
import pytest
import rasterio
from doubles.field import X, Y, box_labels, flat, mapped, noise, refused, write

RED = 60
"""The image's one value: what is taller than 12 m is class 3."""
LOWEST = float(np.finfo(np.float32).min)
FOOT_M = 1200 / 3937


@pytest.fixture
def red(tmp_path):
    return write(tmp_path / "red.tif", flat(RED, 60, 100))


def labels(counts_hw):
    return box_labels(np.full(counts_hw.shape, RED), counts_hw)


@pytest.mark.parametrize("holed", ["dsm", "dtm"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(-9999.0, LOWEST), (-9999.0, np.nan), (-9999.0, -32768.0), (None, -9999.0), (np.nan, 0.0)],
)
def test_each_tile_has_its_own_nodata_value(red, colour_and_height, tmp_path, holed, first, second):
    for name, height_m in (("dsm", 105), ("dtm", 100)):
        for tile, nodata, col in (("a", first, 0), ("b", second, 50)):
            metres = flat(height_m, 60, 50, "float32")
            if name == holed and nodata is not None:
                metres[:, 15:45, 15:35] = nodata
            write(tmp_path / name / f"{tile}.tif", metres, col=col, nodata=nodata)
    found = mapped(
        colour_and_height, tmp_path / "map.tif", red,
        "--dsm", tmp_path / "dsm", "--dtm", tmp_path / "dtm",
    )  # fmt: skip
    assert (found.labels == 1).all()
    holes = 2 if first is not None else 1
    assert found.report["missing_height_pixels"] == holes * 30 * 20


def test_what_is_known_in_one_of_two_tiles_is_known(red, colour_and_height, tmp_path):
    left, right = flat(120, 60, 70, "float32"), flat(120, 60, 70, "float32")
    left[:, :, 60:] = right[:, :, :10] = -9999
    write(tmp_path / "dsm" / "a.tif", left, nodata=-9999)
    write(tmp_path / "dsm" / "b.tif", right, col=30, nodata=-9999)
    dtm = write(tmp_path / "dtm.tif", flat(100, 60, 100, "float32"))
    found = mapped(
        colour_and_height, tmp_path / "map.tif", red, "--dsm", tmp_path / "dsm", "--dtm", dtm
    )
    assert (found.labels == 3).all()
    assert found.report["missing_height_pixels"] == 0


def test_each_tile_has_its_own_type(colour_and_height, tmp_path):
    image = write(tmp_path / "red.tif", flat(1, 60, 100))
    dtm = write(tmp_path / "dtm.tif", flat(100, 60, 100, "float32"))
    write(tmp_path / "dsm" / "a.tif", flat(100, 60, 50, "int16"))
    write(tmp_path / "dsm" / "b.tif", flat(100.45, 60, 50, "float32"), col=50)
    found = mapped(
        colour_and_height, tmp_path / "map.tif", image, "--dsm", tmp_path / "dsm", "--dtm", dtm
    )
    counts = np.zeros((60, 100))
    counts[:, 50:] = 2
    assert (found.labels == box_labels(np.ones((60, 100)), counts)).all()


def house(height_m):
    """Return metres [H, W] of flat ground and a block on it."""
    metres = np.zeros((60, 100))
    metres[10:50, 20:80] = height_m
    return metres


@pytest.mark.parametrize("height_m", [3, 10, 20])
@pytest.mark.parametrize(
    "said",
    [
        {"dtype": "int16", "scale": 0.01, "unit": "m"},
        {"dtype": "int16", "unit": "cm"},
        {"dtype": "int32", "unit": "mm"},
        {"dtype": "float32", "unit": "US survey foot"},
        {"dtype": "float64", "unit": "ft"},
        {"dtype": "float32", "crs": "EPSG:2154+6360"},
    ],
    ids=["scale", "cm", "mm", "survey foot", "foot", "vertical CRS"],
)
def test_metres_by_what_the_file_says(red, colour_and_height, tmp_path, said, height_m):
    said = dict(said)
    dtype, scale, unit = said.pop("dtype"), said.get("scale", 1), said.get("unit", "US survey foot")
    unit_m = {"m": 1, "cm": 0.01, "mm": 0.001, "ft": 0.3048, "US survey foot": FOOT_M}[unit]
    for name, metres in (("dsm", 100 + house(height_m)), ("dtm", 100 + house(0))):
        values = metres[None] / unit_m / scale
        stored = np.rint(values) if dtype.startswith("int") else values
        write(tmp_path / f"{name}.tif", stored.astype(dtype), **said)
    found = mapped(
        colour_and_height, tmp_path / "map.tif", red,
        "--dsm", tmp_path / "dsm.tif", "--dtm", tmp_path / "dtm.tif",
    )  # fmt: skip
    assert (found.labels == labels(5 * house(height_m))).all()


def test_an_unknown_unit_is_refused(red, colour_and_height, tmp_path):
    dsm = write(tmp_path / "dsm.tif", flat(1, 60, 100, "float32"), unit="furlong")
    dtm = write(tmp_path / "dtm.tif", flat(1, 60, 100, "float32"))
    line = refused(colour_and_height, red, "--dsm", dsm, "--dtm", dtm, tmp_path / "map.tif")
    assert re.search(r"dsm\.tif.*furlong", line)


@pytest.mark.parametrize("holed", ["dsm", "dtm"])
@pytest.mark.parametrize("value", [-9999, -32767, 1e20])
def test_holes_that_are_not_declared_are_missing_and_told(
    red, colour_and_height, tmp_path, holed, value
):
    for name in ("dsm", "dtm"):
        metres = flat(100, 60, 100, "float32")
        if name == holed:
            metres[:, 20:40, 30:60] = value
        write(tmp_path / f"{name}.tif", metres)
    found = mapped(
        colour_and_height, tmp_path / "map.tif", red,
        "--dsm", tmp_path / "dsm.tif", "--dtm", tmp_path / "dtm.tif",
    )  # fmt: skip
    assert (found.labels == 1).all()
    assert found.report["missing_height_pixels"] == 20 * 30
    assert f"{holed}.tif" in found.notices


def town(dtype="float32"):
    """Return metres above ground [1, H, W] in quarters of a count's 0.2 m, and one tower."""
    metres = np.zeros((1, 60, 100))
    metres[0, 10:50, 10:90] = np.random.default_rng(0).integers(20, 90, (40, 80)) * 0.2
    metres[0, 0, 0] = 60
    return metres.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", 1), ("float64", 1), ("int16", 0.01), ("uint16", 0.1), ("uint8", 0.4)],
)
def test_height_above_ground_in_metres(red, colour_and_height, tmp_path, dtype, scale):
    stored = town() / scale if dtype.startswith("float") else np.rint(town() / scale)
    counts = np.clip(np.rint(5 * scale * stored.astype(dtype).astype(float)), 0, 255)[0]
    height = write(tmp_path / "mnh.tif", stored.astype(dtype), scale=scale, nodata=None)
    found = mapped(colour_and_height, tmp_path / "map.tif", red, "--ndsm", height)
    assert (found.labels == labels(counts)).all()


def test_height_above_ground_in_counts(red, colour_and_height, tmp_path):
    counts = np.rint(5 * town()).clip(0, 255).astype(np.uint8)
    height = write(tmp_path / "counts.tif", counts)
    found = mapped(colour_and_height, tmp_path / "map.tif", red, "--ndsm", height)
    assert (found.labels == labels(counts[0])).all()


def test_holes_of_height_in_metres_are_missing(red, colour_and_height, tmp_path):
    metres = flat(20, 60, 100, "float32")
    metres[:, 20:40, 30:60] = -9999
    counts = np.where(metres[0] > 0, 100, 0)
    height = write(tmp_path / "mnh.tif", metres, nodata=-9999)
    found = mapped(colour_and_height, tmp_path / "map.tif", red, "--ndsm", height)
    assert (found.labels == labels(counts)).all()
    assert found.report["missing_height_pixels"] == 20 * 30


def test_tiles_of_a_surface_need_not_share_a_grid(red, colour_and_height, tmp_path):
    write(tmp_path / "dsm" / "a.tif", flat(120, 24, 20, "float32"), gsd_m=0.5)
    write(tmp_path / "dsm" / "b.tif", flat(120, 12, 10, "int16"), gsd_m=1.0, col=10)
    dtm = write(tmp_path / "dtm.tif", flat(100, 60, 100, "float32"))
    found = mapped(
        colour_and_height, tmp_path / "map.tif", red, "--dsm", tmp_path / "dsm", "--dtm", dtm
    )
    assert (found.labels == 3).all()
    assert found.report["missing_height_pixels"] == 0


def write_asc(path, left, columns, rows):
    """Write an ASCII grid of 1 m as RGE ALTI is delivered: no CRS, corner off by half a metre."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"ncols {columns}\nnrows {rows}\nxllcorner {left - 0.5}\nyllcorner {Y + 0.5 - rows}\n"
        "cellsize 1.0\nNODATA_value -99999.00\n" + ("100.00 " * columns + "\n") * rows
    )


@pytest.mark.parametrize("pattern", ["", "*.asc"])
def test_ascii_grids_without_a_crs(red, colour_and_height, tmp_path, pattern):
    folder = tmp_path / "RGEALTI"
    write_asc(folder / "a.asc", X, 15, 20)
    write_asc(folder / "b.asc", X + 15, 15, 20)
    place = rasterio.Affine(0.5, 0, X - 0.5, 0, -0.5, Y + 0.5)
    dsm = write(tmp_path / "dsm.tif", flat(120, 60, 60, "float32"), transform=place)
    found = mapped(
        colour_and_height, tmp_path / "map.tif", red, "--dsm", dsm, "--dtm", folder / pattern
    )
    assert (found.labels == 3).all()
    assert found.report["missing_height_pixels"] == 0
    assert re.search(r"\.asc.*CRS", found.notices)


@pytest.mark.parametrize("declared", [-99.99, float(np.float32(-99.99)), -99.989990234375])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nodata_that_was_rounded_is_nodata(red, colour_and_height, tmp_path, declared, dtype):
    """GDAL takes floats that differ in the last place for equal."""
    surface = flat(130, 60, 100, dtype)
    ground = flat(100, 60, 100, dtype)
    ground[:, 20:40, 30:60] = np.float32(-99.99)
    dtm = write(tmp_path / "dtm.tif", ground, nodata=declared)
    dsm = write(tmp_path / "dsm.tif", surface)
    found = mapped(colour_and_height, tmp_path / "map.tif", red, "--dsm", dsm, "--dtm", dtm)
    assert found.report["missing_height_pixels"] == 20 * 30
    counts = np.full((60, 100), 150)
    counts[20:40, 30:60] = 0
    assert (found.labels == labels(counts)).all()


@pytest.mark.parametrize("holed", ["dsm", "dtm"])
def test_holes_of_0_m_are_told(red, colour_and_height, tmp_path, holed):
    given = []
    for name, height_m in (("dsm", 630), ("dtm", 600)):
        metres = flat(height_m, 60, 100, "float32")
        if name == holed:
            metres[:, 20:40, 30:60] = 0
        given += [f"--{name}", write(tmp_path / f"{name}.tif", metres)]
    found = mapped(colour_and_height, tmp_path / "map.tif", red, *given)
    height_m = -600 if holed == "dsm" else 630
    assert f"{height_m} m above ground, which nothing is: are there holes of 0 m" in found.notices


@pytest.mark.parametrize("option", ["--ndsm", "--dsm", "--dtm"])
def test_images_are_no_heights(red, colour_and_height, tmp_path, option):
    image = write(tmp_path / "rgb.tif", noise(3, 60, 100))
    given = [option, image]
    if option != "--ndsm":
        other = write(tmp_path / "other.tif", flat(9, 60, 100, "float32"))
        given += ["--dtm" if option == "--dsm" else "--dsm", other]
    line = refused(colour_and_height, red, *given, tmp_path / "map.tif")
    assert "rgb.tif: has 3 bands, a height has one" in line


@pytest.mark.parametrize("crs", ["EPSG:2154", "EPSG:32631"])
def test_heights_beside_the_images_are_refused(red, colour_and_height, tmp_path, crs):
    col = 1000 if crs == "EPSG:2154" else 0
    path = write(tmp_path / "away.tif", flat(9, 60, 100), col=col, crs=crs)
    line = refused(colour_and_height, red, "--ndsm", path, tmp_path / "map.tif")
    assert "away.tif: lies beside the images, as all of ndsm does" in line
