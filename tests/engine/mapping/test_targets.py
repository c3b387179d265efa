import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from doubles.paths import listing
from doubles.rasters import write_tiff

from flair_engine import Inputs, MapOptions
from flair_engine.errors import OutputError
from flair_engine.grid import Window
from flair_engine.mapping.legend import NAMES_MARK, STYLE_MARK
from flair_engine.mapping.standing import PREVIEW_MARK
from flair_engine.mapping.targets import (
    PAGE_MARK,
    Target,
    check_place,
    check_report,
    journal_folder,
    output_path,
    outputs_of,
    targets_per_input,
)
from flair_engine.options import Job
from flair_engine.overwriting import refuse_inputs

WHOLE = Window(top=0, left=0, height=90, width=80)
LABELS = ("labels",)
EVERY = ("labels", "confidence", "probabilities")
SIDECARS = (".aux.xml", ".ovr", ".msk", ".aux")


def job(output, **write):
    inputs = Inputs(images=("in.tif",))
    return Job(model=output, inputs=inputs, output=output, write=MapOptions(**write))


@pytest.fixture
def put(tmp_path):
    """Put a map of ours, or with `tags` another raster, at a name; return its path."""

    def put(name="map.tif", **tags):
        path = write_tiff(tmp_path / name, np.ones((1, 4, 4), np.uint8))
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**(tags or {"FLAIR_MODEL": "tiny"}))
        return path

    return put


@pytest.fixture
def interrupted(tmp_path):
    """A journal of a run on map.tif that has finished some of its strips."""
    folder = journal_folder(job(tmp_path / "map.tif"))
    folder.mkdir()
    (folder / "strips.bin").write_bytes(b"header\nstrips")
    return folder


@pytest.mark.parametrize("name", ["map.tif", "map.confidence.tif", "map.probabilities.tif"])
def test_a_map_of_ours_is_replaced_where_that_is_asked_for(tmp_path, put, name):
    put(name)
    with pytest.raises(OutputError, match=f"{name}: exists already: use --overwrite, or another"):
        check_place(job(tmp_path / "map.tif"), EVERY)
    check_place(job(tmp_path / "map.tif", overwrite=True), EVERY)
    if name != "map.tif":  # which this model does not give
        check_place(job(tmp_path / "map.tif"), LABELS)


def test_maps_of_a_run_to_resume_are_replaced(tmp_path, put, interrupted):
    put()
    put("map.confidence.tif")
    check_place(job(tmp_path / "map.tif", resume=True), EVERY)
    with pytest.raises(OutputError, match="exists already: use --overwrite"):
        check_place(job(tmp_path / "map.tif"), EVERY)
    assert interrupted.is_dir()


def foreign(kind, path, put):
    """Put something at `path` that is no map of ours."""
    if kind == "image":
        put(path.name, AREA="here")
    elif kind == "image with our tag beside it":
        put(path.name, AREA="here")
        mark = '<Metadata><MDI key="FLAIR_MODEL">tiny</MDI></Metadata>'
        Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{mark}</PAMDataset>")
    elif kind == "link to nothing":
        path.symlink_to("absent.tif")
    elif kind == "link to an image":
        path.symlink_to(put("other.tif", AREA="here").name)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"" if kind == "nothing" else b"text")


FOREIGN = ["image", "image with our tag beside it", "link to nothing", "link to an image", "pipe",
           "nothing", "text"]  # fmt: skip


@pytest.mark.parametrize("write", [{}, {"overwrite": True}, {"resume": True}])
@pytest.mark.parametrize("name", ["map.tif", "map.confidence.tif"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_map_of_ours_is_kept(tmp_path, put, interrupted, kind, name, write):
    foreign(kind, tmp_path / name, put)
    said = rf"{name}: exists already and is no map of flair-engine: the last name is the output: "
    with pytest.raises(OutputError, match=said + "give one that does not exist") as caught:
        check_place(job(tmp_path / "map.tif", **write), EVERY)
    assert "overwrite" not in str(caught.value)
    assert interrupted.is_dir()


@pytest.mark.parametrize("name", ["map.tif", "map.confidence.tif"])
@pytest.mark.parametrize("suffix", SIDECARS)
def test_what_gdal_would_take_for_a_part_of_the_map(tmp_path, put, name, suffix):
    beside = tmp_path / f"{name}{suffix}"
    beside.write_text("<PAMDataset/>")
    for write in ({}, {"overwrite": True}):
        with pytest.raises(OutputError, match=rf"{beside.name}: exists .* of {name} .*: remove it"):
            check_place(job(tmp_path / "map.tif", **write), EVERY)
    put(name)  # whose part it is
    check_place(job(tmp_path / "map.tif", overwrite=True), EVERY)


def test_class_names_of_a_map_that_was_deleted_do_not_matter(tmp_path):
    (tmp_path / "map.tif.aux.xml").write_text(f"<PAMDataset>{NAMES_MARK}</Metadata></PAMDataset>")
    (tmp_path / "map.qml").write_text("somebody's")
    check_place(job(tmp_path / "map.tif"), EVERY)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/map.tif", "the folder .* does not exist: create it first"),
        ("", "is a folder: give the name"),
        ("map.png", r"give a name ending in \.tif"),
    ],
)
def test_places_a_map_cannot_be_put(tmp_path, name, message):
    with pytest.raises(OutputError, match=message):
        check_place(job(tmp_path / name), LABELS)


def test_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(OutputError, match="is not writable by you"):
        check_place(job(tmp_path / "map.tif"), LABELS)


def test_maps_that_may_be_of_the_run_to_resume_stay_for_now(tmp_path, put):
    """Whose they are is known with the run: resuming.check_complete."""
    put()
    check_place(job(tmp_path / "map.tif", resume=True), LABELS)
    put("b.tif")
    delivered = [("x/a.tif", WHOLE), ("x/b.tif", WHOLE)]
    assert (
        len(targets_per_input(job(tmp_path, per_input=True, resume=True), delivered, LABELS)) == 2
    )
    with pytest.raises(OutputError, match=r"b\.tif: exists already: use --overwrite"):
        targets_per_input(job(tmp_path, per_input=True), delivered, LABELS)


def test_maps_of_files_go_to_a_folder(tmp_path):
    (tmp_path / "map.tif").touch()
    with pytest.raises(OutputError, match="is a file, --per-input writes a folder"):
        check_place(job(tmp_path / "map.tif", per_input=True), LABELS)
    check_place(job(tmp_path, per_input=True), LABELS)
    assert journal_folder(job(tmp_path, per_input=True)) == tmp_path / ".flair-run"


def test_each_file_has_a_map_where_that_is_asked_for(tmp_path):
    path = tmp_path / "map.tif"
    delivered = [("a.tif", WHOLE), ("x/b.jp2", WHOLE)]
    assert targets_per_input(job(path), delivered, LABELS) == []
    found = targets_per_input(job(tmp_path, per_input=True), delivered, LABELS)
    assert [target.path.name for target in found] == ["a.tif", "b.tif"]
    assert {target.window for target in found} == {WHOLE}


def test_maps_that_would_replace_each_other_or_their_input(tmp_path):
    wanted = job(tmp_path, per_input=True, overwrite=True)
    with pytest.raises(OutputError, match="two inputs have this name: give them in separate runs"):
        targets_per_input(wanted, [("x/a.tif", WHOLE), ("y/a.tif", WHOLE)], LABELS)
    path = tmp_path / "a.tif"
    path.touch()
    with pytest.raises(OutputError, match="is the input itself: give another folder"):
        targets_per_input(wanted, [(str(path), WHOLE)], LABELS)
    (tmp_path / "b.tif").symlink_to("a.tif")
    for name in (str(tmp_path / "b.tif"), f"zip://{path}!/b.tif"):
        with pytest.raises(OutputError, match="b.tif: is the input itself: give another folder"):
            targets_per_input(wanted, [(name, WHOLE)], LABELS)


def test_maps_of_files_replace_ours_alone(tmp_path, put):
    delivered = [("x/a.tif", WHOLE), ("https://there/b.tif", WHOLE)]
    put("b.confidence.tif")
    with pytest.raises(OutputError, match=r"b\.confidence\.tif: exists already: use --overwrite"):
        targets_per_input(job(tmp_path, per_input=True), delivered, EVERY)
    wanted = job(tmp_path, per_input=True, overwrite=True)
    assert len(targets_per_input(wanted, delivered, EVERY)) == 2
    put("b.tif", AREA="here")
    with pytest.raises(OutputError, match=r"b\.tif: .* no map of flair-engine: give another fol"):
        targets_per_input(wanted, delivered, EVERY)
    (tmp_path / "b.tif").unlink()
    (tmp_path / "b.tif.ovr").touch()
    with pytest.raises(
        OutputError, match=r"b\.tif\.ovr: exists already, would be taken for a part"
    ):
        targets_per_input(wanted, delivered, EVERY)


def test_other_outputs_stand_beside_the_labels(tmp_path):
    assert output_path(tmp_path / "map.tif", "labels") == tmp_path / "map.tif"
    assert output_path(tmp_path / "map.tif", "confidence") == tmp_path / "map.confidence.tif"


def test_every_path_that_a_job_writes(tmp_path, interrupted):
    wanted = job(tmp_path / "map.tif", report=tmp_path / "run.json")
    targets = [Target(path=tmp_path / "map.tif", window=WHOLE)]
    rasters = ["map.tif", "map.confidence.tif"]
    beside = [f"{raster}{suffix}" for raster in rasters for suffix in SIDECARS]
    journal = interrupted.name
    inside = [f"{journal}/{name}" for name in listing(interrupted)]
    styles = ("map.qml", "map.confidence.qml")
    expected = {*rasters, *beside, *styles, "run.json", journal, f"{journal}.done", *inside}
    found = outputs_of(wanted, targets, ("labels", "confidence"))
    assert sorted(found) == sorted(tmp_path / name for name in expected)
    (tmp_path / "map.preview.png").write_bytes(PREVIEW_MARK.encode())
    added = {tmp_path / "map.preview.png", tmp_path / "map.json"}
    stac = job(tmp_path / "map.tif", stac=True, report=tmp_path / "run.json")
    assert {*outputs_of(stac, targets, ("labels", "confidence"))} == {*found} | added
    (tmp_path / "map.preview.png").write_bytes(b"somebody's")
    assert outputs_of(wanted, targets, ("labels", "confidence")) == found
    (tmp_path / "map.qml").write_text("somebody's")
    assert tmp_path / "map.qml" not in outputs_of(wanted, targets, LABELS)
    (tmp_path / "map.qml").write_text(STYLE_MARK)
    assert tmp_path / "map.qml" in outputs_of(wanted, targets, LABELS)


@pytest.mark.parametrize("name", ["map.preview.png", "map.json"])
@pytest.mark.parametrize("per_input", [False, True])
def test_a_place_beside_a_map_is_free_or_ours(tmp_path, name, per_input):
    wanted = {"preview": True, "stac": True, "overwrite": True, "per_input": per_input}
    output = tmp_path if per_input else tmp_path / "map.tif"

    def check():
        check_place(job(output, **wanted), LABELS)
        targets_per_input(job(output, **wanted), [("map.jp2", WHOLE)], LABELS)

    check()
    (tmp_path / "map.preview.png").write_bytes(b"\x89PNG " + PREVIEW_MARK.encode())
    item = {"properties": {"processing:software": {"flair-engine": "0.1.0"}}}
    (tmp_path / "map.json").write_text(json.dumps(item))
    check()
    (tmp_path / name).write_text("of somebody else")
    with pytest.raises(OutputError, match=f"{name}: exists already and is not of flair-engine: mo"):
        check()
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=f"{name}: exists already and is not of flair-engine"):
        check()
    check_place(job(tmp_path / "map.tif"), LABELS)


@pytest.mark.parametrize("name", ["run.html", "run.HTM"])
def test_a_page_is_replaced_by_a_page_alone(tmp_path, name):
    path = tmp_path / name
    check_report(path)
    path.write_text(f"<!doctype html><head>{PAGE_MARK}")
    check_report(path)
    for other in ("<!doctype html><p>of somebody else", '{"weights_sha256": "", "wall_s": 1}'):
        path.write_text(other)
        with pytest.raises(OutputError, match="exists already and is no report of flair-run"):
            check_report(path)


@pytest.mark.parametrize(
    "place",
    ["map.tif", "map.confidence.tif", "map.tif.ovr", "map.tif.msk", "map.tif.aux.xml", "map.qml",
     ".map.tif.flair-run/strips.bin", ".map.tif.flair-run/a.tif", ".map.tif.flair-run.done/a.tif",
     "run.json"],
)  # fmt: skip
@pytest.mark.parametrize("link", [Path.hardlink_to, Path.symlink_to])
def test_an_input_by_another_name_is_refused_and_stays(tmp_path, put, place, link):
    image = put("in.tif", AREA="here")
    before = image.read_bytes()
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    link(path, image)
    wanted = job(tmp_path / "map.tif", report=tmp_path / "run.json", overwrite=True)
    targets = [Target(path=tmp_path / "map.tif", window=WHOLE)]
    if place == "map.qml":
        path.unlink()
        path.write_text(STYLE_MARK)
        image = path
        before = path.read_bytes()
    elif place.endswith(".done/a.tif"):
        image = path
    with pytest.raises(OutputError, match=r": (is|holds) the input "):
        refuse_inputs(outputs_of(wanted, targets, EVERY), [str(image)])
    assert image.read_bytes() == before


def test_reports_that_may_be_written(tmp_path):
    check_report(tmp_path / "new.json")
    (tmp_path / "empty.json").touch()
    check_report(tmp_path / "empty.json")
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"weights_sha256": "0", "wall_s": 1.0, "more": []}))
    check_report(old)
    (tmp_path / "link.json").symlink_to("to-come.json")
    check_report(tmp_path / "link.json")
    check_report(Path(os.devnull))


@pytest.mark.parametrize(
    "content", ["text", "[1]", "{}", '{"wall_s": 1}', "[" * 100_000, "\xff", '{"weights_sha256": 1']
)
def test_what_is_no_report_is_kept(tmp_path, content):
    path = tmp_path / "notes.json"
    path.write_text(content, encoding="latin-1")
    before = path.read_bytes()
    with pytest.raises(
        OutputError, match=r"is no report of flair-run: give one that does"
    ) as error:
        check_report(path)
    assert "overwrite" not in str(error.value)
    assert path.read_bytes() == before


def test_places_a_report_cannot_be_put(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="is a folder: give the name of the report"):
        check_report(tmp_path)
    (tmp_path / "link.json").symlink_to("no/run.json")
    for name in ("no/run.json", "link.json"):
        with pytest.raises(OutputError, match="its folder does not exist: create it first"):
            check_report(tmp_path / name)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    (tmp_path / "there.json").touch()
    for name in ("new.json", "there.json"):
        with pytest.raises(OutputError, match=f"{name}: the report is not writable by you"):
            check_report(tmp_path / name)


def test_a_file_where_the_run_keeps_its_work_is_refused(tmp_path):
    (tmp_path / ".map.tif.flair-run").touch()
    with pytest.raises(OutputError, match="is a file where the run keeps its work: move it away"):
        check_place(job(tmp_path / "map.tif"), ("labels",))
