"""The demo's own parts on small input; the whole of it is what `make demo` runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rasterio

from flair_export import demo
from flair_export.errors import DemoError
from flair_export.synthetic.scene import synthetic_orthophoto


def test_the_share_counts_equal_pixels():
    truth = np.array([[1, 2], [3, 4]], np.uint8)
    labels = np.array([[1, 2], [3, 5]], np.uint8)
    assert demo.equal_share(labels, truth) == 0.75


def test_a_map_of_another_size_is_refused():
    with pytest.raises(DemoError, match=r"the map is \(2, 3\), the image is \(2, 2\) pixels"):
        demo.equal_share(np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.uint8))


def test_the_orthophoto_is_a_georeferenced_five_band_raster(tmp_path):
    image, _ = synthetic_orthophoto(90, 70, 1)
    path = tmp_path / "orthophoto.tif"
    demo.write_orthophoto(path, image)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(), image)
        assert raster.crs.to_epsg() == 2154
        assert raster.res == (0.2, 0.2)
        assert raster.descriptions == ("red", "green", "blue", "nir", "elevation")
        assert raster.block_shapes == [(512, 512)] * 5
        assert raster.nodata is None
    np.testing.assert_array_equal(demo.read_labels(path), image[0])


class Told:
    """Stands for verdict and report: what the demo reads of them."""

    total = property(lambda self: self)
    share, pixels = 1.0, 100
    closing_line = "mapped"
    model = "rgbie_15cl_resnet34-unet"


@pytest.fixture
def without_network(monkeypatch):
    """Replace weights, export and run by a map on which every pixel is greenhouse."""
    monkeypatch.setattr(demo, "MAPPED_SCENE_PX", 64)
    monkeypatch.setattr(demo, "write_standin", lambda _: "not IGN's")
    monkeypatch.setattr(demo, "export", lambda *_: Told())
    monkeypatch.setattr(demo.flair_engine, "segment", lambda *_, **_options: Told())
    monkeypatch.setattr(demo, "read_labels", lambda _: np.full((64, 64), 18, np.uint8))


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["demo", *map(str, arguments)])
    demo.main()


@pytest.mark.usefixtures("without_network")
def test_too_poor_a_map_is_a_failure_that_leaves_its_picture(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, tmp_path / "deep" / "demo")
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "0.0% of the pixels are labelled as drawn, expected at least 80%" in said.err
    assert said.err.count("\n") == 1
    assert "not IGN's" in said.out
    assert (tmp_path / "deep" / "demo" / "preview.png").is_file()


@pytest.mark.usefixtures("without_network")
def test_a_good_map_is_a_success(tmp_path, monkeypatch, capsys):
    _, truth = synthetic_orthophoto(64, 64, demo.MAPPED_SCENE_SEED)
    monkeypatch.setattr(demo, "read_labels", lambda _: truth)
    run_main(monkeypatch, tmp_path)
    said = capsys.readouterr()
    assert "100.0% of the pixels are labelled as drawn" in said.out
    assert not said.err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, tmp_path / "file" / "demo")
    assert stop.value.code == 2
    assert "cannot be made (Not a directory): name another" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_failures_on_the_way_are_one_line(tmp_path, monkeypatch, capsys, fault):
    def fail(_):
        raise fault

    monkeypatch.setattr(demo, "demonstrate", fail)
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch, tmp_path)
    assert stop.value.code == (1 if isinstance(fault, OSError) else 130)
    assert capsys.readouterr().err.strip() in (
        "demo: failed with OSError: disk full: see where with --debug",
        "demo: interrupted",
    )


def test_a_missing_argument_is_one_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(monkeypatch)
    assert stop.value.code == 2
    assert "(see demo --help)" in capsys.readouterr().err


def test_the_traceback_is_shown_for_debug(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        run_main(monkeypatch, tmp_path / "file" / "demo", "--debug")
    assert "Traceback" in capsys.readouterr().err
