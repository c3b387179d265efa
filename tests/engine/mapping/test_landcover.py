import dataclasses
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.paths import listing
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate

from flair_engine.errors import ReadError, WriteError
from flair_engine.grid import Window
from flair_engine.manifest import read_model_spec
from flair_engine.mapping import landcover
from flair_engine.mapping.landcover import MapStyle, write_maps
from flair_engine.mapping.legend import confidence_style
from flair_engine.mapping.targets import Target, output_path
from flair_engine.options import silent

TRANSFORM = from_origin(721104.4, 6248980.8, 0.2, 0.2)


@pytest.fixture
def style(tiny_path):
    return MapStyle(
        spec=read_model_spec(tiny_path),
        crs=rasterio.CRS.from_epsg(2154),
        transform=TRANSFORM,
        values="flair",
        tags={"FLAIR_MODEL": "tiny"},
        cog=False,
    )


@pytest.fixture
def write(tmp_path, style):
    """Write outputs (by name, uint8 [bands, H, W]) as maps and return the path of the labels."""

    def write(outputs, window=None, folder=tmp_path, check=silent, **changes):
        _, height, width = outputs["labels"].shape
        whole = Window(top=0, left=0, height=height, width=width)
        work = folder / "work"
        work.mkdir(exist_ok=True)

        def read(name, part):
            return outputs[name][:, part.top : part.bottom, part.left : part.right]

        spec = dataclasses.replace(style.spec, outputs=tuple(outputs))
        made = dataclasses.replace(style, spec=spec, **changes)
        target = Target(path=folder / "map.tif", window=window or whole)
        write_maps(target, made, read, work, check)
        return folder / "map.tif"

    return write


def labels(height=1301, width=613):
    return np.random.default_rng(0).choice([0, 1, 3], (1, height, width)).astype(np.uint8)


def test_what_is_written_is_read_back(write, tmp_path):
    expected = labels()
    path = write({"labels": expected})
    with rasterio.open(path) as dataset:
        assert (dataset.read() == expected).all()
        assert dataset.crs.to_epsg() == 2154
        assert dataset.transform == TRANSFORM
        assert dataset.nodata == 0
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.compression.name == "deflate"
        assert dataset.colormap(1)[1] == (0xDB, 0x0E, 0x9A, 255)
        assert dataset.colormap(1)[0] == (0, 0, 0, 0)
        assert dataset.tags()["FLAIR_MODEL"] == "tiny"
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["map.qml", "map.tif", "map.tif.aux.xml", "work"]
    assert list((tmp_path / "work").iterdir()) == []


def test_a_window_is_where_it_belongs(write):
    expected = labels()
    window = Window(top=300, left=16, height=700, width=80)
    with rasterio.open(write({"labels": expected}, window)) as dataset:
        assert (dataset.read() == expected[:, 300:1000, 16:96]).all()
        assert dataset.transform.almost_equals(
            from_origin(721104.4 + 16 * 0.2, 6248980.8 - 300 * 0.2, 0.2, 0.2), 1e-6
        )


def category_names(path):
    return [entry.text or "" for entry in ET.parse(f"{path}.aux.xml").iter("Category")]


def qml_entries(path):
    return {
        int(entry.get("value")): (entry.get("label"), entry.get("color"))
        for entry in ET.parse(path.with_suffix(".qml")).iter("paletteEntry")
    }


def test_names_and_colours_belong_to_their_values(write):
    path = write({"labels": labels(9, 9)})
    assert category_names(path) == ["no data", "first", "second", "third"]
    assert qml_entries(path) == {1: ("first", "#db0e9a"), 3: ("third", "#f80c00")}


def test_zero_based_labels_are_the_official_tools(write):
    expected = labels(600, 30)
    path = write({"labels": expected}, values="zero-based")
    with rasterio.open(path) as dataset:
        assert (dataset.read() == np.where(expected == 0, 255, expected - 1)).all()
        assert dataset.nodata == 255
        assert dataset.colormap(1)[2] == (0xF8, 0x0C, 0x00, 255)
    assert category_names(path) == ["first", "second", "third"]
    assert qml_entries(path) == {0: ("first", "#db0e9a"), 2: ("third", "#f80c00")}


def all_outputs(height, width):
    rng = np.random.default_rng(1)
    return {
        "labels": labels(height, width),
        "confidence": rng.integers(0, 256, (1, height, width), dtype=np.uint8),
        "probabilities": rng.integers(0, 256, (3, height, width), dtype=np.uint8),
    }


@pytest.mark.parametrize("cog", [False, True])
def test_other_outputs_are_rasters_of_their_own(write, cog):
    outputs = all_outputs(600, 530)
    path = write(outputs, cog=cog)
    for name, array in outputs.items():
        with rasterio.open(output_path(path, name)) as dataset:
            assert (dataset.read() == array).all()
            assert dataset.nodata == (None if name == "probabilities" else 0)
    with rasterio.open(output_path(path, "probabilities")) as dataset:
        assert dataset.descriptions == ("first", "second", "third")
    with rasterio.open(output_path(path, "confidence")) as dataset:
        assert dataset.descriptions == ("confidence",)
    assert (path.parent / "map.confidence.qml").read_text() == confidence_style()


@pytest.mark.parametrize(
    ("cog", "options"),
    [(False, {"compress": "LZW", "predictor": "2"}), (True, {"compress": "LZW"}),
     (False, {"compress": "NONE", "bigtiff": "YES"})],
)  # fmt: skip
def test_a_map_is_written_with_the_options_that_are_chosen(write, cog, options):
    expected = labels(600, 530)
    path = write({"labels": expected}, cog=cog, creation=options)
    with rasterio.open(path) as dataset:
        assert (dataset.read() == expected).all()
        written = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
        assert written == options["compress"]
        assert dataset.block_shapes == [(512, 512)]
    assert (path.read_bytes()[2] == 43) == ("bigtiff" in options)  # BigTIFF's version


def test_what_is_made_of_the_rasters_gets_its_name_with_them(write, tmp_path, style):
    """And what an older run made is gone, unless it is made again."""
    seen = {}

    def beside(rasters, sidecars):
        assert sorted(path.name for path in sidecars) == ["map.qml", "map.tif.aux.xml"]
        seen.update({name: path.read_bytes() for name, path in rasters.items()})
        return {tmp_path / "map.preview.png": b"ours: preview of flair-engine"}

    target = Target(path=tmp_path / "map.tif", window=Window(top=0, left=0, height=9, width=9))
    (tmp_path / "work").mkdir()
    drawn = np.ones((1, 9, 9), np.uint8)
    write_maps(target, style, lambda *_: drawn, tmp_path / "work", beside=beside)
    assert seen == {"labels": (tmp_path / "map.tif").read_bytes()}
    assert (tmp_path / "map.preview.png").read_bytes() == b"ours: preview of flair-engine"
    write_maps(target, style, lambda *_: drawn, tmp_path / "work")
    assert not (tmp_path / "map.preview.png").exists()


def test_a_cog_is_valid_and_its_overviews_show_the_most_frequent_class(write):
    blocky = np.repeat(np.repeat(labels(300, 300), 4, 1), 4, 2)
    path = write({"labels": blocky}, cog=True)
    valid, errors, warnings = cog_validate(path)
    assert valid, (errors, warnings)
    assert (errors, warnings) == ([], [])
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
        assert dataset.colormap(1)[1] == (0xDB, 0x0E, 0x9A, 255)
        assert dataset.nodata == 0
        assert dataset.tags()["FLAIR_MODEL"] == "tiny"
    with rasterio.open(path, overview_level=1) as dataset:
        assert (dataset.read(1) == blocky[0, ::4, ::4]).all()


def test_an_old_map_stays_until_the_new_is_whole(write, tmp_path, monkeypatch):
    path = write({"labels": labels(9, 9)})
    before = path.read_bytes()

    def fails(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(landcover, "check_complete", fails)
    with pytest.raises(WriteError, match=r"map.tif: cannot be written .* continue with --resume"):
        write({"labels": labels(20, 20)})
    assert path.read_bytes() == before
    assert list((tmp_path / "work").iterdir()) == []


def test_a_cog_that_cannot_be_made(write, monkeypatch):
    def fails(*_, **__):
        raise rasterio.errors.RasterioIOError("no COG")

    monkeypatch.setattr(rasterio.shutil, "copy", fails)
    with pytest.raises(WriteError, match="cannot be made a COG .no COG."):
        write({"labels": labels(20, 20)}, cog=True)


def half_written(path):
    """What GDAL leaves on a full disk: it opens that before it would replace it, and fails."""
    path.write_bytes(b"II*\0\x08\0\0\0" + b"\xff" * 10)


@pytest.mark.parametrize("cog", [False, True])
def test_what_an_earlier_attempt_left_half_written_is_removed(write, tmp_path, cog):
    work = tmp_path / "work"
    work.mkdir()
    for name in ("map.tif", "cog-map.tif", "map.tif.aux.xml", "map.qml", "other.tif.ovr.tmp"):
        half_written(work / name)
    (work / "strips.bin").write_bytes(b"strips")
    (work / "lock").touch()
    expected = labels(20, 20)
    path = write({"labels": expected}, cog=cog)
    with rasterio.open(path) as dataset:
        assert (dataset.read() == expected).all()
    assert listing(work) == ["lock", "strips.bin"]


def test_what_cannot_be_removed_is_said(write, tmp_path):
    (tmp_path / "work" / "map.tif").mkdir(parents=True)
    with pytest.raises(
        WriteError, match=r"work: cannot be cleared \(.*\): mend that, then use --r"
    ):
        write({"labels": labels(9, 9)})


@pytest.mark.parametrize("cog", [False, True])
def test_a_failure_to_remove_does_not_hide_what_failed(write, tmp_path, monkeypatch, cog):
    def fails(*_, **__):
        raise rasterio._err.CPLE_AppDefinedError(3, 1, "TIFFReadDirectory: failed")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(rasterio.shutil if cog else rasterio, "copy" if cog else "open", fails)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(WriteError, match=r"cannot be (made a COG|written) \(TIFFReadDirectory: f"):
        write({"labels": labels(9, 9)}, cog=cog)


def test_nothing_is_published_where_the_check_raises(write, tmp_path):
    seen = []

    def check():
        seen.append((listing(tmp_path), listing(tmp_path / "work")))
        raise ReadError("in.tif: changed while it was read", "use --resume")

    with pytest.raises(ReadError, match="changed while it was read"):
        write({"labels": labels(9, 9)}, check=check)
    assert seen == [(["work"], ["map.qml", "map.tif", "map.tif.aux.xml"])]
    assert listing(tmp_path) == ["work"]
    write({"labels": labels(9, 9)}, check=lambda: seen.append("checked"))
    assert seen[1:] == ["checked"]


@pytest.mark.parametrize("cog", [False, True])
def test_equal_maps_have_equal_bytes(write, tmp_path, cog):
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write(all_outputs(600, 530), folder=tmp_path / name, cog=cog)
        files = sorted(path for path in (tmp_path / name).iterdir() if path.is_file())
        found.append({path.name: path.read_bytes() for path in files})
    assert len(found[0]) == 6
    assert found[0] == found[1]


def test_a_block_that_gdal_failed_to_write_is_seen(write):
    path = write({"labels": labels(1024, 1024)})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"block \(1, 1\) is not in the file"):
        landcover.check_complete(path)


def test_a_block_of_an_overview_that_gdal_failed_to_write_is_seen(write):
    path = write({"labels": labels(1024, 1024)})
    landcover._build_overviews(path, Resampling.mode)
    landcover.check_complete(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"block \(0, 0\) is not in the file"):
        landcover.check_complete(path)


@pytest.mark.parametrize(
    ("height", "width", "factors"),
    [(300, 511, []), (513, 20, [2]), (1024, 1025, [2, 4]), (2049, 530, [2, 4, 8])],
)
def test_overviews_go_on_until_one_block_shows_all(write, height, width, factors):
    path = write(all_outputs(height, width), cog=True)
    for name in ("labels", "confidence", "probabilities"):
        with rasterio.open(output_path(path, name)) as dataset:
            assert dataset.overviews(1) == factors
        assert cog_validate(output_path(path, name)) == (True, [], [])


def test_an_overview_of_probabilities_is_their_mean(write):
    outputs = all_outputs(640, 512)
    path = write(outputs, cog=True)
    bands = outputs["probabilities"]
    mean_bhw = bands.reshape(len(bands), 320, 2, 256, 2).mean((2, 4))
    with rasterio.open(output_path(path, "probabilities"), overview_level=0) as dataset:
        assert np.abs(dataset.read() - mean_bhw).max() <= 0.5


def test_a_map_that_cannot_be_put_in_place(write, tmp_path):
    (tmp_path / "map.tif.aux.xml").mkdir()
    with pytest.raises(WriteError, match="cannot be put in place"):
        write({"labels": labels(9, 9)})
    assert not (tmp_path / "map.tif").exists()


@pytest.mark.parametrize("name", ["map.tif", "map.confidence.tif"])
def test_what_comes_to_a_name_during_the_run_is_kept(write, tmp_path, name):
    (tmp_path / name).write_bytes(b"somebody's")
    with pytest.raises(WriteError, match=f"{name}: came during the run .* move it away, then use"):
        write({key: array for key, array in all_outputs(9, 9).items() if key != "probabilities"})
    assert (tmp_path / name).read_bytes() == b"somebody's"
    assert listing(tmp_path) == sorted([name, "work"])


def zoomed_out(path):
    with rasterio.open(path) as dataset:
        return set(np.unique(dataset.read(1, out_shape=(64, 64)))), dataset.overviews(1)


@pytest.mark.parametrize("cog", [False, True])
def test_pyramids_of_an_old_map_go_with_it(write, tmp_path, cog):
    shape = (1, 600, 600)
    outputs = {"labels": np.ones(shape, np.uint8), "confidence": np.full(shape, 10, np.uint8)}
    path = write(outputs)
    for name in outputs:
        raster = output_path(path, name)
        shutil.copy(raster, f"{raster}.ovr")
        Path(f"{raster}.msk").write_bytes(b"old")
        Path(f"{raster}.aux").write_bytes(b"old")
        Path(f"{raster}.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / "map.tif.tfw").write_text("somebody's")
    assert zoomed_out(path)[1]
    write({"labels": np.full(shape, 3, np.uint8), "confidence": outputs["confidence"]}, cog=cog)
    seen, overviews = zoomed_out(path)
    assert seen == {3}
    assert bool(overviews) == cog
    assert listing(tmp_path) == ["map.confidence.qml", "map.confidence.tif", "map.qml", "map.tif",
                                 "map.tif.aux.xml", "map.tif.tfw", "work"]  # fmt: skip
    assert category_names(path) == ["no data", "first", "second", "third"]


def test_a_style_of_somebody_is_kept_and_ours_is_not(write, tmp_path):
    style = tmp_path / "map.qml"
    style.write_text("<!DOCTYPE qgis><qgis/>")
    write({"labels": labels(9, 9)})
    assert style.read_text() == "<!DOCTYPE qgis><qgis/>"
    style.unlink()
    path = write({"labels": labels(9, 9)})
    assert qml_entries(path)[1] == ("first", "#db0e9a")
    write({"labels": labels(9, 9)}, values="zero-based")
    assert qml_entries(path)[0] == ("first", "#db0e9a")
