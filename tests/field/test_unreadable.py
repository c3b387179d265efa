"""Files that are cut short or gone: the run stops, or nodata lies exactly where they lack."""

import subprocess
import sys

import numpy as np
import pytest
import rasterio
from doubles.field import (
    Placed,
    away,
    box_labels,
    flair_run,
    flat,
    mapped,
    noise,
    said,
    write,
    write_vrt,
)
from rasterio.errors import RasterioError

TILED = {"tiled": True, "blockxsize": 16, "blockysize": 32}
SKIP = ["--on-error", "skip"]


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


@pytest.fixture
def colour_and_height(band_model):
    return band_model("red", "elevation")


def can_be_read(dataset, window):
    try:
        dataset.read(window=window)
    except RasterioError:
        return False
    return True


def cut_short(path, share=0.6):
    """Leave the first part of a file; return bool [H, W], True where blocks are gone."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with rasterio.open(path) as dataset:
        gone = np.zeros(dataset.shape, bool)
        for _, window in dataset.block_windows(1):
            gone[window.toslices()] = not can_be_read(dataset, window)
    assert 0 < gone.sum() < gone.size
    return gone


def check_stops(model, output, *arguments):
    line = said(flair_run("-m", model, *arguments, output), 1)
    assert not output.exists()
    return line


def check_skips(model, output, gone, expected, *arguments):
    """Check that nodata lies where blocks are gone and nowhere else, and labels beyond them."""
    found = mapped(model, output, *arguments, *SKIP, "--overwrite", code=3)
    assert ((found.labels == 0) == gone).all()
    clear = away(gone)
    assert (found.labels[clear] == expected[clear]).all()
    assert found.report["skipped_blocks"] >= 1
    assert found.report["nodata_pixels"] == gone.sum()
    assert "skipped" in found.notices


@pytest.fixture
def broken(tmp_path):
    """A VRT whose second source is gone, and one of it; (paths, image, where it is gone)."""
    image = noise(2, 60, 100)
    parts = {"a": np.s_[:, :, :50], "gone": np.s_[:, :, 50:80], "c": np.s_[:, :, 80:]}
    placed = [
        Placed(write(tmp_path / f"{name}.tif", image[part], col=part[2].start or 0),
               0, part[2].start or 0, 60, image[part].shape[2])
        for name, part in parts.items()
    ]  # fmt: skip
    size = {"height": 60, "width": 100, "bands": 2}
    path = write_vrt(tmp_path / "all.vrt", placed, **size)
    outer = write_vrt(tmp_path / "outer.vrt", [Placed(path, 0, 0, 60, 100)], **size)
    (tmp_path / "gone.tif").unlink()
    gone = np.zeros((60, 100), bool)
    gone[:, 50:80] = True
    return {"vrt": path, "nested": outer}, image, gone


@pytest.mark.parametrize("which", ["vrt", "nested"])
def test_a_vrt_whose_source_is_gone(red_and_green, broken, tmp_path, which):
    paths, image, gone = broken
    assert "gone.tif" in check_stops(red_and_green, tmp_path / "map.tif", paths[which])
    check_skips(red_and_green, tmp_path / "map.tif", gone, box_labels(*image), paths[which])


@pytest.mark.parametrize("missing", ["dsm", "dtm"])
def test_a_vrt_of_heights_whose_source_is_gone(colour_and_height, tmp_path, missing):
    red = write(tmp_path / "red.tif", flat(60, 60, 100))
    given = []
    for name, height_m in (("dsm", 130), ("dtm", 100)):
        placed = [
            Placed(write(tmp_path / f"{name}{col}.tif", flat(height_m, 60, 50, "float32"),
                         col=col, nodata=-9999), 0, col, 60, 50)
            for col in (0, 50)
        ]  # fmt: skip
        size = {"height": 60, "width": 100, "dtype": "Float32", "nodata": -9999.0}
        given += [f"--{name}", write_vrt(tmp_path / f"{name}.vrt", placed, **size)]
    (tmp_path / f"{missing}50.tif").unlink()
    gone = np.zeros((60, 100), bool)
    gone[:, 50:] = True
    check_stops(colour_and_height, tmp_path / "map.tif", red, *given)
    expected = np.full((60, 100), 3)
    check_skips(colour_and_height, tmp_path / "map.tif", gone, expected, red, *given)


@pytest.mark.parametrize("product", ["image", "ndsm", "dsm", "dtm"])
def test_a_file_that_is_cut_short(colour_and_height, tmp_path, product):
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 200, (1, 120, 100)).astype(np.uint8)
    ground = (100 + rng.integers(0, 9, counts.shape)).astype(np.float32)
    pixels = {
        "image": noise(1, 120, 100),
        "ndsm": counts,
        "dsm": ground + counts.astype(np.float32) / 5,
        "dtm": ground,
    }
    names = ["image", "ndsm"] if product == "ndsm" else ["image", "dsm", "dtm"]
    paths = {name: write(tmp_path / f"{name}.tif", pixels[name], **TILED) for name in names}
    gone = cut_short(paths[product])
    given = [paths["image"]]
    for name in names[1:]:
        given += [f"--{name}", paths[name]]
    line = check_stops(colour_and_height, tmp_path / "map.tif", *given)
    assert f"{product}.tif" in line
    expected = box_labels(pixels["image"][0], counts[0])
    check_skips(colour_and_height, tmp_path / "map.tif", gone, expected, *given)


def test_a_whole_file_shows_through_where_another_cannot_be_read(red_and_green, tmp_path):
    image = noise(2, 120, 100)
    a = write(tmp_path / "a.tif", image, **TILED)
    b = write(tmp_path / "b.tif", image)
    cut_short(a)
    found = mapped(red_and_green, tmp_path / "map.tif", a, b, *SKIP, code=3)
    assert (found.labels == box_labels(*image)).all()


@pytest.mark.parametrize("kind", ["cut short", "no georeference"])
def test_libraries_keep_silent(red_and_green, tmp_path, kind):
    path = tmp_path / "in.tif"
    if kind == "cut short":
        cut_short(write(path, noise(2, 120, 100), compress="lzw", **TILED))
    else:
        write(path, noise(2, 40, 50), crs=None, transform=None)
    command = [sys.executable, "-m", "flair_engine", "-m", red_and_green, path, *SKIP]
    result = subprocess.run(
        [*map(str, command), "--gsd", "0.2", str(tmp_path / "map.tif")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == (3 if kind == "cut short" else 0)
    lines = result.stderr.splitlines()
    assert [line for line in lines if not line.startswith("flair-run: ")] == []


PYTHON_BAND = """
  <VRTRasterBand dataType="Float32" band="1" subClass="VRTDerivedRasterBand">
    <PixelFunctionType>heights</PixelFunctionType>
    <PixelFunctionLanguage>Python</PixelFunctionLanguage>
    <PixelFunctionCode><![CDATA[
def heights(sources, out, *_):
    open({proof!r}, "w").close()
    out[:] = 10
]]></PixelFunctionCode>
    <SimpleSource>
      <SourceFilename relativeToVRT="1">plain.tif</SourceFilename>
      <SourceBand>1</SourceBand>
    </SimpleSource>
  </VRTRasterBand>
</VRTDataset>"""


@pytest.mark.parametrize("product", ["ndsm", "dsm", "dtm"])
def test_heights_by_python_code_end_the_run_and_never_are_zeros(
    colour_and_height, tmp_path, product
):
    """GDAL refuses the code at the first read, and answers the next through the handle with 0."""
    red = write(tmp_path / "red.tif", flat(60, 60, 100))
    plain = write(tmp_path / "plain.tif", flat(100, 60, 100, "float32"))
    proof = tmp_path / "code was run"
    size = {"height": 60, "width": 100, "dtype": "Float32"}
    hostile = write_vrt(tmp_path / "hostile.vrt", [Placed(plain, 0, 0, 60, 100)], **size)
    head, _, _ = hostile.read_text().partition("<VRTRasterBand")
    hostile.write_text(head + PYTHON_BAND.format(proof=str(proof)))
    given = [f"--{product}", hostile]
    if product != "ndsm":
        given += ["--dtm" if product == "dsm" else "--dsm", plain]
    output = tmp_path / "map.tif"
    line = check_stops(colour_and_height, output, red, *given)
    assert "hostile.vrt" in line
    assert "Python" in line
    found = mapped(colour_and_height, output, red, *given, *SKIP, code=3)
    assert not found.labels.any()
    assert not proof.exists()


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_a_picture_that_is_cut_short(band_model, tmp_path, extension):
    model = band_model("red", "green", "blue")
    path = tmp_path / f"in.{extension}"
    image = noise(3, 120, 100)
    write(path, image, driver={"png": "PNG", "jpg": "JPEG"}[extension])
    with rasterio.open(path) as dataset:
        whole = dataset.read()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    (tmp_path / f"in.{extension}.aux.xml").unlink(missing_ok=True)
    gsd = ["--gsd", "0.2"]
    line = check_stops(model, tmp_path / "map.tif", path, *gsd)
    assert path.name in line
    found = mapped(model, tmp_path / "map.tif", path, *gsd, *SKIP, code=3)
    gone = found.labels == 0
    assert gone[-40:].all()
    assert not gone[:40].any()
    expected = box_labels(whole[0], whole[2])
    assert (found.labels[away(gone)] == expected[away(gone)]).all()


@pytest.mark.parametrize("nested", [False, True])
def test_a_raw_file_that_is_shorter_than_its_header_says(red_and_green, tmp_path, nested):
    """GDAL reads zeros where it ends."""
    path = write(tmp_path / "in.img", noise(2, 60, 100), driver="ENVI")
    given = path
    if nested:
        placed = [Placed(path, 0, 0, 60, 100)]
        given = write_vrt(tmp_path / "in.vrt", placed, height=60, width=100, bands=2)
    whole = mapped(red_and_green, tmp_path / "map.tif", given)
    assert (whole.labels == box_labels(*noise(2, 60, 100))).all()
    path.write_bytes(path.read_bytes()[:7000])
    line = said(flair_run("-m", red_and_green, given, tmp_path / "map2.tif"), 2)
    assert "in.img: has 7,000 bytes, its header says 12,000: fetch it again" in line
