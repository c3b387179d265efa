"""One map for each file: files that cover one another, lie far apart, or are not touched."""

import re
import subprocess
import sys

import numpy as np
import pytest
from doubles.field import X, Y, box_labels, mapped, mapped_apart, noise, read_map, refused, write

NOWHERE = {"crs": None, "transform": None}


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


@pytest.fixture
def patches(tmp_path):
    """Patches without georeference; (folder, images by name)."""
    images = {f"p{i}": noise(2, 40 + i, 50, seed=i) for i in range(4)}
    for name, image in images.items():
        write(tmp_path / "in" / f"{name}.tif", image, **NOWHERE)
    return tmp_path / "in", images


def test_patches_without_georeference_are_mapped_apart(red_and_green, patches, tmp_path):
    folder, images = patches
    mapped_apart(red_and_green, tmp_path / "out", folder, "--gsd", "0.2")
    for name, image in images.items():
        labels = read_map(tmp_path / "out" / f"{name}.tif")
        assert labels.shape == image.shape[1:]
        assert (labels == box_labels(*image)).all(), name


def test_patches_without_georeference_make_no_mosaic(red_and_green, patches, tmp_path):
    line = refused(red_and_green, patches[0], "--gsd", "0.2", tmp_path / "map.tif")
    assert re.search("georeference|--per-input", line)
    assert not (tmp_path / "map.tif").exists()


@pytest.fixture
def dates(tmp_path):
    """One square at two dates; (folder, images by name)."""
    images = {f"{year}_tile": noise(2, 40, 50, seed=year) for year in (2019, 2023)}
    for name, image in images.items():
        write(tmp_path / "in" / f"{name}.tif", image)
    return tmp_path / "in", images


def test_two_dates_of_one_place_are_mapped_apart(red_and_green, dates, tmp_path):
    folder, images = dates
    mapped_apart(red_and_green, tmp_path / "out", folder)
    for name, image in images.items():
        assert (read_map(tmp_path / "out" / f"{name}.tif") == box_labels(*image)).all(), name


def test_two_dates_in_one_map_are_told(red_and_green, dates, tmp_path):
    folder, images = dates
    found = mapped(red_and_green, tmp_path / "map.tif", folder)
    assert (found.labels == box_labels(*images["2019_tile"])).all()
    assert "cover one another" in found.notices


@pytest.mark.parametrize("seam", [0, 2])
def test_neighbours_are_one_mosaic_and_nothing_is_told(red_and_green, tmp_path, seam):
    whole = noise(2, 40, 100)
    write(tmp_path / "in" / "a.tif", whole[:, :, : 50 + seam])
    write(tmp_path / "in" / "b.tif", whole[:, :, 50 - seam :], col=50 - seam)
    outcome = mapped_apart(red_and_green, tmp_path / "out", tmp_path / "in")
    expected = box_labels(*whole)
    assert (read_map(tmp_path / "out" / "a.tif") == expected[:, : 50 + seam]).all()
    assert (read_map(tmp_path / "out" / "b.tif") == expected[:, 50 - seam :]).all()
    assert "cover one another" not in outcome.notices


def test_sheets_of_two_dates(red_and_green, tmp_path):
    images = {f"{year}_{side}": noise(2, 40, 50, seed=len(side) * year)
              for year in (2019, 2023) for side in ("e", "west")}  # fmt: skip
    for name, image in images.items():
        write(tmp_path / "in" / f"{name}.tif", image, col=50 if name.endswith("_e") else 0)
    mapped_apart(red_and_green, tmp_path / "out", tmp_path / "in")
    for name, image in images.items():
        labels = read_map(tmp_path / "out" / f"{name}.tif")
        own = np.s_[:, 2:] if name.endswith("_e") else np.s_[:, :-2]
        assert (labels[own] == box_labels(*image)[own]).all(), name


def test_dates_of_several_products_are_refused(band_model, tmp_path):
    for year in ("2019", "2023"):
        for product in ("rvb", "irc"):
            write(tmp_path / product / f"{year}.tif", noise(3, 40, 50, seed=int(year)))
    (tmp_path / "out").mkdir()
    line = refused(
        band_model("red", "green", "blue", "nir"), "--per-input",
        "--rvb", tmp_path / "rvb", "--irc", tmp_path / "irc", tmp_path / "out",
    )  # fmt: skip
    assert re.search("irc: .*same ground", line)
    assert not list((tmp_path / "out").iterdir())


def test_dates_of_one_product_have_the_other_in_common(band_model, tmp_path):
    images = {year: noise(3, 40, 50, seed=int(year)) for year in ("2019", "2023")}
    for year, image in images.items():
        write(tmp_path / "rvb" / f"{year}.tif", image)
    infrared = noise(1, 40, 50)
    irc = write(tmp_path / "irc.tif", infrared)
    model = band_model("red", "green", "blue", "nir")
    mapped_apart(model, tmp_path / "out", "--rvb", tmp_path / "rvb", "--irc", irc)
    for year, image in images.items():
        expected = box_labels(image[0], infrared[0])
        assert (read_map(tmp_path / "out" / f"{year}.tif") == expected).all(), year


def test_only_what_a_box_touches_is_written(red_and_green, tmp_path):
    whole = noise(2, 48, 96)
    write(tmp_path / "in" / "a.tif", whole[:, :, :48])
    write(tmp_path / "in" / "b.tif", whole[:, :, 48:], col=48)
    box = f"{X + 1},{Y - 2},{X + 2},{Y - 1}"
    mapped_apart(red_and_green, tmp_path / "out", tmp_path / "in", "--bbox", box)
    assert [path.name for path in (tmp_path / "out").glob("*.tif")] == ["a.tif"]
    labels = read_map(tmp_path / "out" / "a.tif")
    assert labels.shape == (5, 5)
    assert (labels == box_labels(*whole)[5:10, 5:10]).all()


def flair_run_for(seconds, *arguments):
    """Run the command in a process of its own: what costs by the distance never ends."""
    command = [sys.executable, "-m", "flair_engine", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)


def test_files_far_apart_cost_what_they_cover(red_and_green, tmp_path):
    images = {"here": noise(2, 60, 60), "there": noise(2, 50, 70, seed=1)}
    write(tmp_path / "in" / "here.tif", images["here"])
    write(tmp_path / "in" / "there.tif", images["there"], row=-250_003, col=300_001)
    out = tmp_path / "out"
    out.mkdir()
    result = flair_run_for(20, "-m", red_and_green, "--per-input", tmp_path / "in", out)
    assert result.returncode == 0, result.stderr
    for name, image in images.items():
        inner = np.s_[2:-2, 2:-2]  # what lies beyond the edges is not said
        assert (read_map(out / f"{name}.tif") == box_labels(*image))[inner].all(), name


def test_a_mosaic_of_nothing_but_distance_is_refused(red_and_green, tmp_path):
    for name, col in (("a", 0), ("b", 60), ("lost", 300_000)):
        write(tmp_path / "in" / f"{name}.tif", noise(2, 60, 60), row=-col, col=col)
    result = flair_run_for(20, "-m", red_and_green, tmp_path / "in", tmp_path / "map.tif")
    assert result.returncode == 2
    assert "lost.tif" in result.stderr
    assert len(result.stderr.splitlines()) == 1
