import pytest

from flair_engine import Inputs, MapOptions
from flair_engine.errors import OutputError
from flair_engine.grid import Window
from flair_engine.mapping.targets import (
    check_place,
    journal_folder,
    output_path,
    targets_per_input,
)
from flair_engine.options import Job

WHOLE = Window(top=0, left=0, height=90, width=80)


def job(output, **write):
    inputs = Inputs(images=("in.tif",))
    return Job(model=output, inputs=inputs, output=output, write=MapOptions(**write))


def test_an_existing_map_is_kept(tmp_path):
    (tmp_path / "map.tif").touch()
    with pytest.raises(OutputError, match="exists already: use --overwrite"):
        check_place(job(tmp_path / "map.tif"))
    check_place(job(tmp_path / "map.tif", overwrite=True))


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
        check_place(job(tmp_path / name))


def test_folder_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(OutputError, match="is not writable by you"):
        check_place(job(tmp_path / "map.tif"))


def test_a_complete_map_leaves_nothing_to_resume(tmp_path):
    (tmp_path / "map.tif").touch()
    with pytest.raises(OutputError, match="nothing is left to resume: leave out --resume"):
        check_place(job(tmp_path / "map.tif", resume=True))


def test_maps_of_files_go_to_a_folder(tmp_path):
    (tmp_path / "map.tif").touch()
    with pytest.raises(OutputError, match="is a file, --per-input writes a folder"):
        check_place(job(tmp_path / "map.tif", per_input=True))
    check_place(job(tmp_path, per_input=True))
    assert journal_folder(job(tmp_path, per_input=True)) == tmp_path / ".flair-run"


def test_each_file_has_a_map_where_that_is_asked_for(tmp_path):
    path = tmp_path / "map.tif"
    delivered = [("a.tif", WHOLE), ("x/b.jp2", WHOLE)]
    assert targets_per_input(job(path), delivered) == []
    found = targets_per_input(job(tmp_path, per_input=True), delivered)
    assert [target.path.name for target in found] == ["a.tif", "b.tif"]
    assert {target.window for target in found} == {WHOLE}


def test_maps_that_would_replace_each_other_or_their_input(tmp_path):
    wanted = job(tmp_path, per_input=True, overwrite=True)
    with pytest.raises(OutputError, match="two inputs have this name: give them in separate runs"):
        targets_per_input(wanted, [("x/a.tif", WHOLE), ("y/a.tif", WHOLE)])
    path = tmp_path / "a.tif"
    path.touch()
    with pytest.raises(OutputError, match="is the input itself: give another folder"):
        targets_per_input(wanted, [(str(path), WHOLE)])


def test_other_outputs_stand_beside_the_labels(tmp_path):
    assert output_path(tmp_path / "map.tif", "labels") == tmp_path / "map.tif"
    assert output_path(tmp_path / "map.tif", "confidence") == tmp_path / "map.confidence.tif"
