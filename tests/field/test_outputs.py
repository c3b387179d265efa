"""Files that a run must not touch: inputs under any name, and what others left beside a map."""

import os
import stat
from errno import EINVAL
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.field import box_labels, flair_run, flat, mapped, noise, read_map, refused, said, write
from doubles.paths import listing


@pytest.fixture
def red_and_green(band_model):
    return band_model("red", "green")


def contents(folder):
    """Return every file of a folder, and of those inside, with its bytes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("product", ["rvb", "irc", "ndsm"])
def test_tiles_of_a_product_are_not_replaced_by_their_maps(band_model, tmp_path, product):
    for name, bands in (("rvb", 3), ("irc", 3), ("ndsm", 1)):
        for tile in range(2):
            path = tmp_path / name / f"dalle_{tile}.tif"
            write(path, noise(bands, 40, 40, seed=tile), col=40 * tile)
    before = contents(tmp_path)
    refused(
        band_model("red", "green", "blue", "nir", "elevation"), "--rvb", tmp_path / "rvb",
        "--irc", tmp_path / "irc", "--ndsm", tmp_path / "ndsm", "--per-input", "--overwrite",
        tmp_path / product,
    )  # fmt: skip
    assert contents(tmp_path) == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_the_last_of_the_tiles_is_not_taken_for_the_map(red_and_green, tmp_path, overwrite):
    tiles = [write(tmp_path / f"{n}.tif", noise(2, 40, 40), col=40 * n) for n in range(3)]
    before = contents(tmp_path)
    line = refused(red_and_green, *tiles, *overwrite)
    assert "2.tif" in line
    assert "--overwrite" not in line
    assert contents(tmp_path) == before


@pytest.mark.parametrize("foreign", ["raster", "text"])
def test_only_maps_are_replaced(red_and_green, tmp_path, foreign):
    path = write(tmp_path / "in" / "in.tif", noise(2, 40, 40))
    output = tmp_path / "map.tif"
    if foreign == "raster":
        write(output, flat(1, 40, 40))
    else:
        output.write_text("not a raster")
    before = contents(tmp_path)
    line = refused(red_and_green, path, output, "--overwrite")
    assert "map.tif" in line
    assert "use --overwrite" not in line
    assert contents(tmp_path) == before


def test_a_map_is_replaced_on_request(red_and_green, tmp_path):
    images = [noise(2, 40, 40, seed=seed) for seed in range(2)]
    paths = [write(tmp_path / f"{seed}.tif", image) for seed, image in enumerate(images)]
    output = tmp_path / "map.tif"
    mapped(red_and_green, output, paths[0])
    assert "--overwrite" in refused(red_and_green, paths[1], output)
    assert (read_map(output) == box_labels(*images[0])).all()
    assert (mapped(red_and_green, output, paths[1], "--overwrite").labels
            == box_labels(*images[1])).all()  # fmt: skip


def halves(tmp_path, size=96):
    """Write an image of class 1 alone and one of class 3."""
    low, high = flat(10, size, size), flat(200, size, size)
    one = write(tmp_path / "one.tif", np.concatenate([high, low]))
    return one, write(tmp_path / "two.tif", np.concatenate([low, high]))


def test_pyramids_of_the_older_map_are_not_kept(red_and_green, tmp_path):
    one, two = halves(tmp_path)
    output = tmp_path / "map.tif"
    mapped(red_and_green, output, one)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(output, "r+") as dataset:
        dataset.build_overviews([2, 4])
    assert (tmp_path / "map.tif.ovr").exists()
    mapped(red_and_green, output, two, "--overwrite")
    with rasterio.open(output) as dataset:
        assert (dataset.read(1) == 3).all()
        assert (dataset.read(1, out_shape=(24, 24)) == 3).all()


def test_a_mask_of_the_older_map_is_not_kept(red_and_green, tmp_path):
    one, two = halves(tmp_path)
    output = tmp_path / "map.tif"
    mapped(red_and_green, output, one)
    other = write(
        tmp_path / "other.tif", flat(1, 96, 96), mask_hw=np.zeros((96, 96), bool), sidecar=True
    )
    Path(f"{other}.msk").rename(f"{output}.msk")
    mapped(red_and_green, output, two, "--overwrite")
    with rasterio.open(output) as dataset:
        assert (dataset.dataset_mask() > 0).all()


def test_the_style_of_an_image_is_kept(red_and_green, tmp_path):
    image = write(
        tmp_path / "site.jp2", noise(2, 64, 64), driver="JP2OpenJPEG", QUALITY="100",
        REVERSIBLE="YES",
    )  # fmt: skip
    style = tmp_path / "site.qml"
    style.write_text('<qgis><pipe><rasterrenderer type="multibandcolor"/></pipe></qgis>')
    before = style.read_bytes()
    found = mapped(red_and_green, tmp_path / "site.tif", image)
    assert (found.labels == box_labels(*noise(2, 64, 64))).all()
    assert style.read_bytes() == before
    assert "site.qml" in found.notices
    assert mapped(red_and_green, tmp_path / "site.tif", image, "--overwrite").labels.any()
    assert style.read_bytes() == before


def test_the_style_of_a_map_is_written_anew(red_and_green, tmp_path):
    one, two = halves(tmp_path)
    found = mapped(red_and_green, tmp_path / "map.tif", one)
    before = (tmp_path / "map.qml").read_bytes()
    assert b"first" in before
    found = mapped(red_and_green, tmp_path / "map.tif", two, "--overwrite")
    assert "map.qml" not in found.notices
    assert (tmp_path / "map.qml").read_bytes() == before


def test_folders_that_cannot_be_synchronised_hold_maps_too(red_and_green, tmp_path, monkeypatch):
    synchronise = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(EINVAL, os.strerror(EINVAL))
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    image = noise(2, 40, 40)
    found = mapped(red_and_green, tmp_path / "map.tif", write(tmp_path / "in.tif", image))
    assert (found.labels == box_labels(*image)).all()


@pytest.mark.parametrize("report", ["folder", "no/run.json", "in.tif", "map.tif"])
def test_a_report_that_cannot_be_written_is_refused_before_the_map(red_and_green, tmp_path, report):
    path = write(tmp_path / "in.tif", noise(2, 40, 40))
    (tmp_path / "folder").mkdir()
    before = contents(tmp_path)
    line = refused(red_and_green, path, tmp_path / "map.tif", "--report", tmp_path / report)
    assert report in line
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_report_in_a_closed_folder_is_refused_before_the_map(red_and_green, tmp_path):
    path = write(tmp_path / "in.tif", noise(2, 40, 40))
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    refused(red_and_green, path, tmp_path / "map.tif", "--report", closed / "run.json")
    assert not (tmp_path / "map.tif").exists()


def test_nothing_is_left_where_a_run_is_refused(red_and_green, tmp_path):
    write(tmp_path / "in.tif", noise(2, 40, 40))
    link = tmp_path / "link.tif"
    link.symlink_to("in.tif")
    assert flair_run("-m", red_and_green, tmp_path / "in.tif", link, "--overwrite").code == 2
    assert listing(tmp_path) == ["in.tif", "link.tif"]


def test_a_file_in_the_place_of_the_journal_is_kept(red_and_green, tmp_path):
    image = write(tmp_path / "in.tif", noise(2, 40, 50))
    mine = tmp_path / ".map.tif.flair-run"
    mine.write_text("mine")
    for options in ([], ["--overwrite"], ["--resume"]):
        outcome = flair_run("-m", red_and_green, image, tmp_path / "map.tif", *options)
        assert ".map.tif.flair-run: is a file where the run keeps" in said(outcome, 2)
        assert mine.read_text() == "mine"
