"""Names that GDAL opens, names no one can print, and georeferences that say half of it."""

import os
import re
import subprocess
import sys
from zipfile import ZipFile

import pytest
import rasterio
from doubles.field import (
    LOCAL,
    Placed,
    X,
    Y,
    box_labels,
    flat,
    mapped,
    noise,
    refused,
    write,
    write_vrt,
)
from doubles.rasters import LAMBERT_93
from rasterio.control import GroundControlPoint

LATIN_1 = b"d\xe9partement.tif"


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """An image, a DSM and a DTM, 20 m apart, the DSM at 0.5 m too, and all in an archive."""
    folder = tmp_path_factory.mktemp("products")
    write(folder / "red.tif", flat(60, 40, 50))
    write(folder / "dsm.tif", flat(120, 40, 50, "float32"), nodata=-9999)
    write(folder / "dtm.tif", flat(100, 40, 50, "float32"), nodata=-9999)
    write(folder / "coarse.tif", flat(120, 20, 20, "float32"), gsd_m=0.5)
    with ZipFile(folder / "e.zip", "w") as archive:
        for path in folder.glob("*.tif"):
            archive.write(path, path.name)
    return folder


@pytest.fixture(scope="module")
def address(products):
    """Where a server of the products answers; in this process GDAL would wait for itself."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=products, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        port = re.search(r"port (\d+)", server.stdout.readline()).group(1)
        yield f"http://127.0.0.1:{port}"
        server.kill()  # SIGTERM may be ignored, as by a command that has just ended


@pytest.fixture
def served(address, monkeypatch):
    """The server's address, to be asked without a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    return address


NAMES = {
    "path": "{folder}/{name}",
    "file": "file://{folder}/{name}",
    "vsizip": "/vsizip/{folder}/e.zip/{name}",
    "zip": "zip://{folder}/e.zip!{name}",
    "first image of the file": "GTIFF_DIR:1:{folder}/{name}",
    "http": "{address}/{name}",
    "vsicurl": "/vsicurl/{address}/{name}",
}


@pytest.mark.parametrize("product", ["dsm", "dtm", "red"])
@pytest.mark.parametrize("spelling", NAMES)
def test_a_name_that_gdal_opens_serves_every_product(
    band_model, products, served, tmp_path, product, spelling
):
    given = {name: f"{products}/{name}.tif" for name in ("red", "dsm", "dtm")}
    given[product] = NAMES[spelling].format(folder=products, address=served, name=f"{product}.tif")
    found = mapped(
        band_model("red", "elevation"), tmp_path / "map.tif", given["red"],
        "--dsm", given["dsm"], "--dtm", given["dtm"],
    )  # fmt: skip
    assert (found.labels == 3).all()
    assert found.report["missing_height_pixels"] == 0


@pytest.mark.parametrize("spelling", ["file", "vsizip", "zip", "http"])
def test_a_surface_to_be_warped_by_any_name(band_model, products, served, tmp_path, spelling):
    dsm = NAMES[spelling].format(folder=products, address=served, name="coarse.tif")
    found = mapped(
        band_model("red", "elevation"), tmp_path / "map.tif", products / "red.tif",
        "--dsm", dsm, "--dtm", products / "dtm.tif",
    )  # fmt: skip
    assert (found.labels == 3).all()


def run_with(model, *arguments):
    """Run the command in a process, which alone can be given names of any bytes."""
    command = [sys.executable, "-m", "flair_engine", "-m", model, *arguments]
    return subprocess.run([os.fsencode(x) for x in command], capture_output=True, check=False)


@pytest.mark.parametrize("given", ["input", "folder", "output"])
def test_names_that_are_no_utf_8_are_refused(red_and_green, tmp_path, given):
    path = write(tmp_path / "in.tif", noise(2, 40, 50))
    odd = os.path.join(os.fsencode(tmp_path / "tiles"), LATIN_1)  # noqa: PTH118  bytes
    (tmp_path / "tiles").mkdir()
    if given != "output":
        os.rename(path, odd)  # noqa: PTH104  bytes
    arguments = {
        "input": (odd, tmp_path / "map.tif"),
        "folder": (tmp_path / "tiles", tmp_path / "map.tif"),
        "output": (path, odd),
    }[given]
    result = run_with(red_and_green, *arguments)
    assert result.returncode == 2
    assert b"UTF-8" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "map.tif").exists()
    assert len(list((tmp_path / "tiles").iterdir())) == (given != "output")


NAMES_OF_FILES = ["été à l'œuvre", "50%25 off", 'quo"te & amp <x>', "a#b?c", "star*[1]", "co;l,on"]


@pytest.mark.parametrize("name", NAMES_OF_FILES)
def test_any_other_name_is_one(band_model, products, tmp_path, name):
    dsm = write(tmp_path / "heights" / f"{name}.tif", flat(120, 20, 20, "float32"), gsd_m=0.5)
    found = mapped(
        band_model("red", "elevation"), tmp_path / f"{name}.tif", products / "red.tif",
        "--dsm", dsm, "--dtm", products / "dtm.tif",
    )  # fmt: skip
    assert (found.labels == 3).all()


def test_a_tile_whose_crs_is_a_name(red_and_green, tmp_path):
    whole = noise(2, 40, 100)
    write(tmp_path / "in" / "a.tif", whole[:, :, :50])
    write(tmp_path / "in" / "b.tif", whole[:, :, 50:], col=50, crs=LOCAL)
    found = mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in")
    assert (found.labels == box_labels(*whole)).all()
    assert re.search(r"b\.tif.*CRS", found.notices)


@pytest.mark.parametrize("first", ["a.tif", "b.tif"])
def test_the_map_has_the_crs_that_says_most(red_and_green, tmp_path, first):
    for name, col in (("a.tif", 0), ("b.tif", 50)):
        crs = LOCAL if name == first else LAMBERT_93
        write(tmp_path / "in" / name, noise(2, 40, 50), col=col, crs=crs)
    mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.crs.to_epsg() == 2154
        assert (dataset.transform.c, dataset.transform.f) == (X, Y)


@pytest.mark.parametrize("gsd_m", [0.2, 0.5])
@pytest.mark.parametrize("product", ["ndsm", "dsm", "dtm"])
def test_heights_whose_crs_is_a_name(band_model, products, tmp_path, product, gsd_m):
    size = round(10 / gsd_m)
    metres = {"ndsm": 20, "dsm": 120, "dtm": 100}
    given = ["--ndsm"] if product == "ndsm" else ["--dsm", "--dtm"]
    arguments = []
    for option in given:
        name = option[2:]
        place = {"crs": LOCAL, "gsd_m": gsd_m} if name == product else {}
        pixels = flat(metres[name], size if place else 40, size if place else 50, "float32")
        arguments += [option, write(tmp_path / f"{name}.tif", pixels, **place)]
    found = mapped(
        band_model("red", "elevation"), tmp_path / "map.tif", products / "red.tif", *arguments
    )
    assert (found.labels == 3).all()
    assert re.search(rf"{product}\.tif.*CRS", found.notices)


def test_products_that_all_have_but_a_name(band_model, tmp_path):
    red = write(tmp_path / "red.tif", flat(60, 40, 50), crs=LOCAL)
    dsm = write(tmp_path / "dsm.tif", flat(120, 40, 50, "float32"), crs=LOCAL)
    dtm = write(tmp_path / "dtm.tif", flat(100, 40, 50, "float32"), crs=LOCAL)
    model = band_model("red", "elevation")
    found = mapped(model, tmp_path / "map.tif", red, "--dsm", dsm, "--dtm", dtm)
    assert (found.labels == 3).all()


@pytest.fixture
def scan(tmp_path):
    """An image placed by ground control points alone; (path, image)."""
    image = noise(2, 40, 50)
    path = write(tmp_path / "gcp.tif", image, crs=None, transform=None)
    corners = [(0, 0), (0, 50), (40, 0), (40, 50)]
    points = [GroundControlPoint(row, col, X + 0.2 * col, Y - 0.2 * row) for row, col in corners]
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, rasterio.crs.CRS.from_epsg(2154)
    return path, image


def test_control_points_alone_are_refused(red_and_green, scan, tmp_path):
    line = refused(red_and_green, scan[0], tmp_path / "map.tif")
    assert re.search("control point|GCP", line)
    assert "gdalwarp" in line


def test_control_points_are_left_out_where_the_sampling_is_given(red_and_green, scan, tmp_path):
    path, image = scan
    found = mapped(red_and_green, tmp_path / "map.tif", path, "--gsd", "0.2")
    assert (found.labels == box_labels(*image)).all()
    assert "georeference" in found.notices


@pytest.fixture
def world_file(tmp_path):
    """An image with a world file and no CRS; (path, image)."""
    image = noise(2, 40, 50)
    path = write(tmp_path / "in.png", image, driver="PNG", crs=None, transform=None)
    (tmp_path / "in.png.aux.xml").unlink(missing_ok=True)
    (tmp_path / "in.pgw").write_text(f"0.2\n0\n0\n-0.2\n{X + 0.1}\n{Y - 0.1}\n")
    return path, image


def test_a_world_file_without_a_crs_is_said_to_be_one(red_and_green, world_file, tmp_path):
    line = refused(red_and_green, world_file[0], tmp_path / "map.tif")
    assert "has no georeference" not in line
    assert re.search("CRS", line)
    assert "gdal_edit.py -a_srs" in line
    assert "--gsd" in line


def test_a_world_file_places_the_map(red_and_green, world_file, tmp_path):
    path, image = world_file
    found = mapped(red_and_green, tmp_path / "map.tif", path, "--gsd", "0.2")
    assert (found.labels == box_labels(*image)).all()
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.transform.c, dataset.transform.f) == pytest.approx((X, Y))


@pytest.mark.parametrize("option", [[], ["--ndsm"], ["--rvb"]])
def test_an_empty_name_is_refused(red_and_green, tmp_path, option, monkeypatch):
    """In a folder with one raster, GDAL may take it for that."""
    path = write(tmp_path / "in" / "a.tif", noise(2, 40, 50))
    monkeypatch.chdir(tmp_path / "in")
    given = [*option, ""] if option else [""]
    line = refused(red_and_green, *([path] if option else []), *given, tmp_path / "map.tif")
    assert "an input has an empty name" in line


def test_hidden_files_of_a_folder_are_no_inputs(red_and_green, tmp_path):
    image = noise(2, 40, 50)
    write(tmp_path / "in" / "a.tif", image)
    for name in ("._a.tif", ".a.tif"):
        (tmp_path / "in" / name).write_bytes(b"what another system notes")
    found = mapped(red_and_green, tmp_path / "map.tif", tmp_path / "in")
    assert (found.labels == box_labels(*image)).all()


@pytest.mark.parametrize(
    "numbers", ["{x},0,0,{y},0,0", "{x},0.2,0,{y},0,0", "nan,0.2,0,{y},0,-0.2",
                "{x},0.2,0.2,{y},0.2,0.2", "{x},0.2,0,{y},0,1e-300", "1e300,0.2,0,{y},0,-0.2"],
)  # fmt: skip
@pytest.mark.parametrize("product", ["images", "ndsm"])
def test_a_place_that_is_none_is_refused_in_a_line(band_model, tmp_path, numbers, product):
    image = write(tmp_path / "a.tif", noise(1, 40, 50))
    path = write_vrt(tmp_path / "in.vrt", [Placed(image, 0, 0, 40, 50)], height=40, width=50)
    text = path.read_text().replace(f"{X}, 0.2, 0, {Y}, 0, -0.2", numbers.format(x=X, y=Y))
    path.write_text(text)
    given = [path] if product == "images" else [image, "--ndsm", path]
    bands = ["red"] if product == "images" else ["red", "elevation"]
    line = refused(band_model(*bands), *given, tmp_path / "map.tif")
    assert "in.vrt: " in line
    assert len(line) < 600
