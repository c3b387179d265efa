"""Maps and what is made of them, as a QGIS without a window opens and draws them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from doubles.field import noise, write
from doubles.paths import ROOT
from doubles.tiny_model import SPEC
from PIL import Image

from flair_engine import MapOptions, RunOptions, segment

CPU = RunOptions(engine="ort", device="cpu")


def python_of_qgis():
    """The Python of the system, where it has QGIS."""
    for name in ("/usr/bin/python3", "python3-qgis"):
        if shutil.which(name):
            known = subprocess.run(
                [name, "-c", "import qgis.core"], check=False, capture_output=True
            )
            if known.returncode == 0:
                return name
    return None


QGIS = python_of_qgis()
needs_qgis = pytest.mark.skipif(not QGIS, reason="QGIS is not installed (apt: python3-qgis)")


@pytest.fixture
def seen(tmp_path):
    """Open layers in QGIS; return the legend of each and the picture of all, uint8 [3, h, w]."""

    def seen(*layers):
        picture = tmp_path / "picture.png"
        done = subprocess.run(
            [QGIS, str(ROOT / "docs" / "in_qgis.py"), str(picture), *map(str, layers)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with Image.open(picture) as image:
            return json.loads(done.stdout), np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)

    return seen


@pytest.fixture
def mapped(tiny_path, tmp_path):
    """The map of one file by the tiny model."""
    image = write(tmp_path / "in.tif", noise(2, 96, 96, 5))
    segment(tiny_path, [image], tmp_path / "map.tif", CPU, write=MapOptions())
    return tmp_path / "map.tif"


def post(*arguments):
    command = [sys.executable, "-m", "flair_engine.post", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


NAMES = [[entry.name, entry.color] for entry in SPEC.classes]
COLOURS = {tuple(bytes.fromhex(entry.color[1:])) for entry in SPEC.active_classes}


def colours_in(picture):
    return set(map(tuple, np.unique(picture.reshape(3, -1), axis=1).T.tolist()))


@needs_qgis
def test_a_map_has_its_names_and_colours(mapped, seen):
    legends, picture = seen(mapped)
    active = [[entry.name, entry.color] for entry in SPEC.active_classes]
    assert legends == {str(mapped): active}
    assert colours_in(picture) == COLOURS


@needs_qgis
def test_a_virtual_map_has_them_too(mapped, seen, tmp_path):
    (tmp_path / "maps").mkdir()
    for path in (mapped, mapped.with_name("map.tif.aux.xml")):
        shutil.copy(path, tmp_path / "maps")
    virtual = tmp_path / "all.vrt"
    post("vrt", tmp_path / "maps", virtual)
    legends, picture = seen(virtual)
    assert [entry for entry in legends[str(virtual)] if entry in NAMES] == NAMES
    assert colours_in(picture) == COLOURS


@needs_qgis
@pytest.mark.parametrize("alone", [False, True])
def test_polygons_have_them_too(mapped, seen, tmp_path, alone):
    """Also where the file has been sent without what stood beside it."""
    polygons = tmp_path / "polygons.gpkg"
    post("polygons", mapped, polygons)
    if alone:
        polygons.with_suffix(".qml").unlink()
    legends, picture = seen(polygons)
    assert [entry for entry in legends[str(polygons)] if entry in NAMES] == NAMES
    assert colours_in(picture) >= COLOURS


@needs_qgis
def test_what_has_not_changed_is_not_drawn(mapped, seen, tmp_path):
    post("change", mapped, mapped, "-o", tmp_path / "change.csv", "--map", tmp_path / "change.tif")
    legends, picture = seen(tmp_path / "change.tif")
    assert legends[str(tmp_path / "change.tif")][0][0] == "unchanged"
    assert colours_in(picture) == {(255, 255, 255)}
