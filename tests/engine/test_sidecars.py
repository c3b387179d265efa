"""Files that stand beside maps, by whole runs of the golden model."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.field import ground_m2, noise, write
from doubles.paths import listing
from rasterio.errors import RasterioIOError

from flair_engine import Inputs, MapOptions, ReadOptions, RunOptions, segment, sidecars
from flair_engine.errors import CompleteError, OutputError, WriteError
from flair_engine.sidecars import MOST_PICTURES, check_beside

CPU = RunOptions(engine="ort", device="cpu", threads=2)
Image = pytest.importorskip("PIL.Image", reason="needs Pillow")


@pytest.fixture
def mapped(tiny_path, tmp_path):
    """Map a raster, or what is given; return the report and what was told."""

    def mapped(*paths, output="map.tif", model=tiny_path, **options):
        told = []
        if not paths:
            paths = (tmp_path / "in.tif",)
            if not paths[0].exists():
                write(paths[0], noise(2, 60, 80, seed=1))
        inputs = Inputs(images=tuple(map(str, paths)))
        options = {"overwrite": True, **options}
        report = segment(
            model, inputs, tmp_path / output, CPU, write=MapOptions(**options), notify=told.append
        )
        return report, told

    return mapped


def test_nothing_more_stands_beside_a_map_unless_it_is_asked_for(mapped, tmp_path):
    mapped()
    assert listing(tmp_path) == ["in.tif", "map.qml", "map.tif", "map.tif.aux.xml"]


def test_a_preview_shows_the_map(mapped, tmp_path):
    mapped(preview=True)
    sheet = np.asarray(Image.open(tmp_path / "map.preview.png"))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        colors = {color[:3] for value, color in dataset.colormap(1).items() if value in (1, 3)}
    found = {tuple(color) for color in sheet.reshape(-1, 3).tolist()}
    assert colors <= found


def test_hectares_of_a_preview_are_those_of_the_report(mapped, monkeypatch):
    """They are counted of what is written, the report's of strips."""
    said = []
    monkeypatch.setattr(
        sidecars, "preview_png", lambda _picture, caption: said.append(caption) or b""
    )
    report, _ = mapped(preview=True)
    (caption,) = said
    assert {e.name: e.pixels for e in caption.entries} == report.pixels_by_class
    for entry in caption.entries:
        assert entry.hectares == pytest.approx(report.hectares_by_class[entry.name], rel=1e-6)
    assert sum(e.share for e in caption.entries) == pytest.approx(1)
    assert caption.nodata == "every pixel has a label"


def test_maps_apart_have_a_preview_and_an_item_each(mapped, tmp_path):
    pytest.importorskip("pystac", reason="needs pystac")
    files = [write(tmp_path / "in" / f"{n}.tif", noise(2, 40, 50, n), col=60 * n) for n in range(2)]
    (tmp_path / "out").mkdir()
    report, _ = mapped(*files, output="out", per_input=True, preview=True, stac=True,
                       acquired="2023")  # fmt: skip
    names = listing(tmp_path / "out")
    assert [n for n in names if n.endswith((".png", ".json"))] == [
        "0.json", "0.preview.png", "1.json", "1.preview.png",
    ]  # fmt: skip
    for n in range(2):
        item = json.loads((tmp_path / "out" / f"{n}.json").read_text())
        sources = [link["href"] for link in item["links"]]
        assert sources[1:] == [f"../in/{n}.tif"]
        assert sources[0].endswith("tiny.onnx")
    assert {Path(o.path).name for o in report.outputs} == set(names)


def test_an_item_has_the_digest_of_the_map(mapped, tmp_path):
    pytest.importorskip("pystac", reason="needs pystac")
    report, told = mapped(stac=True, preview=True)
    assert any("the STAC Item says when the map was made" in line for line in told)
    item = json.loads((tmp_path / "map.json").read_text())
    for name, file in (("labels", "map.tif"), ("preview", "map.preview.png")):
        content = (tmp_path / file).read_bytes()
        asset = item["assets"][name]
        assert asset["href"] == f"./{file}"
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert item["properties"]["start_datetime"][:16] == report.started[:16]


def test_a_record_has_the_digest_of_every_file(mapped, tmp_path):
    where = tmp_path / "run.json"
    mapped(report=where, preview=True)
    record = json.loads(where.read_text())
    files = {Path(o["path"]).name: o for o in record["outputs"]}
    assert sorted(files) == ["map.preview.png", "map.qml", "map.tif", "map.tif.aux.xml"]
    for name, told in files.items():
        content = (tmp_path / name).read_bytes()
        assert (told["size"], told["sha256"]) == (
            len(content), hashlib.sha256(content).hexdigest(),
        )  # fmt: skip
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert files["map.tif"]["bbox"] == pytest.approx(list(dataset.bounds))
        assert (files["map.tif"]["height"], files["map.tif"]["width"]) == dataset.shape
        assert files["map.tif"]["crs"] == record["crs"] == "EPSG:2154"
    assert record["inputs"] == [
        {"path": str(tmp_path / "in.tif"), "size": (tmp_path / "in.tif").stat().st_size}
    ]
    rounded_m2 = 0.00005 * len(record["hectares_by_class"])
    assert sum(record["hectares_by_class"].values()) * 1e4 == pytest.approx(
        ground_m2(tmp_path / "map.tif"), abs=rounded_m2
    )


def test_without_a_record_no_map_is_read_for_its_digest(mapped):
    report, _ = mapped()
    assert [o.sha256 for o in report.outputs if o.kind == "labels"] == [None]


def test_times_of_an_item_are_those_that_are_given(mapped, tmp_path, monkeypatch):
    pytest.importorskip("pystac", reason="needs pystac")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    mapped(stac=True)
    first = (tmp_path / "map.json").read_bytes()
    properties = json.loads(first)["properties"]
    assert {properties[n] for n in ("created", "start_datetime", "end_datetime")} == {
        "2023-11-14T22:13:20Z"
    }
    mapped(stac=True)
    assert (tmp_path / "map.json").read_bytes() == first


def test_maps_have_the_same_bytes_with_and_without_what_stands_beside(mapped, tmp_path):
    mapped()
    before = (tmp_path / "map.tif").read_bytes()
    mapped(preview=True, report=tmp_path / "run.html")
    assert (tmp_path / "map.tif").read_bytes() == before


def test_a_page_has_pictures_of_the_first_maps(mapped, tmp_path):
    count = MOST_PICTURES + 2
    files = [
        write(tmp_path / "in" / f"{n}.tif", noise(2, 40, 50, n), col=60 * n) for n in range(count)
    ]
    (tmp_path / "out").mkdir()
    mapped(*files, output="out", per_input=True, report=tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert text.count("<figure>") == MOST_PICTURES
    assert "and 2 maps more" in text
    photo = re.search(r"data:image/jpeg;base64,([^\"]+)", text)[1]
    assert Image.open(io.BytesIO(base64.b64decode(photo))).size == (50, 40)


def test_what_an_older_run_left_beside_a_map_goes_with_it(mapped, tmp_path):
    """Else it would show, and describe, another map."""
    pytest.importorskip("pystac", reason="needs pystac")
    mapped(preview=True, stac=True)
    mapped()
    assert listing(tmp_path) == ["in.tif", "map.qml", "map.tif", "map.tif.aux.xml"]


@pytest.mark.parametrize("name", ["map.preview.png", "map.json"])
def test_what_is_not_ours_is_kept(mapped, tmp_path, name):
    pytest.importorskip("pystac", reason="needs pystac")
    (tmp_path / name).write_text("of somebody else")
    mapped()
    with pytest.raises(OutputError, match=f"{name}: exists already and is not of flair-engine"):
        mapped(preview=True, stac=True)
    assert (tmp_path / name).read_text() == "of somebody else"


@pytest.mark.parametrize("name", ["map.preview.png", "map.json"])
def test_an_input_is_never_overwritten(mapped, tmp_path, name):
    pytest.importorskip("pystac", reason="needs pystac")
    mapped(preview=True, stac=True)
    ours = (tmp_path / name).read_bytes()
    source = write(tmp_path / "in.tif", noise(2, 60, 80, seed=1))
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(source)
    with pytest.raises(OutputError, match="exists already and is not of"):
        mapped(source, preview=True, stac=True)
    assert ours
    assert source.exists()


def test_a_complete_map_without_its_preview_is_not_complete(mapped, tmp_path):
    mapped()
    with pytest.raises(CompleteError, match="is complete"):
        mapped(overwrite=False, resume=True)
    with pytest.raises(OutputError, match=r"map\.preview\.png: is not there, though its map is"):
        mapped(overwrite=False, resume=True, preview=True)
    mapped(preview=True)
    with pytest.raises(CompleteError, match="is complete"):
        mapped(overwrite=False, resume=True, preview=True)


def test_a_map_that_cannot_be_read_again_keeps_its_run(mapped, tmp_path, monkeypatch):
    """The strips stay, and the map comes without a picture or once the disk is mended."""

    def fails(*_given):
        raise RasterioIOError("read error")

    with monkeypatch.context() as faulty:
        faulty.setattr(sidecars, "map_picture", fails)
        with pytest.raises(
            WriteError, match=r"map\.tif: cannot be read again for its picture \(rea"
        ):
            mapped(overwrite=False, preview=True)
    assert not (tmp_path / "map.tif").exists()
    report, _ = mapped(overwrite=False, resume=True)
    assert report.resumed_pixels == report.pixels
    assert report.inferred_pixels == report.mpx_per_s == 0
    assert "0.00 of them inferred, 0.00 resumed" in report.closing_line
    assert not (tmp_path / "map.preview.png").exists()


def test_a_date_is_for_an_item():
    check_beside(MapOptions(), lambda _: None)
    with pytest.raises(OutputError, match="--acquired is said in the Item of --stac alone: add"):
        check_beside(MapOptions(acquired="2023"), lambda _: None)
    with pytest.raises(OutputError, match="is no day, month, year"):
        check_beside(MapOptions(acquired="soon"), lambda _: None)


def test_a_preview_of_images_without_a_place(mapped, tmp_path, tiny_path):
    path = write(tmp_path / "bare.tif", noise(2, 60, 80, seed=1), crs=None)
    told = []
    segment(
        tiny_path, [path], tmp_path / "map.tif", CPU, read=ReadOptions(gsd_m=0.2),
        write=MapOptions(preview=True), notify=told.append,
    )  # fmt: skip
    assert Image.open(tmp_path / "map.preview.png").size[0] > 480
