"""The file of a plan: written once, read as it was written, refused where it is not ours."""

import json

import pytest
from affine import Affine
from rasterio.crs import CRS

from flair_engine.errors import OutputError, SourceError, WriteError
from flair_engine.grid import Window
from flair_engine.reading.frame import Frame, OwnGrid
from flair_engine.reading.pixel_grid import PixelGrid
from flair_engine.territory import plan_file
from flair_engine.territory.plan_file import frame_fields, read_plan, write_plan


def test_a_second_plan_of_the_same_is_the_first(planned):
    first = planned()
    content = (first.folder / "plan.json").read_bytes()
    second = planned()
    assert second == first
    assert (first.folder / "plan.json").read_bytes() == content
    assert [path.name for path in first.folder.iterdir()] == ["plan.json"]


def test_another_plan_is_refused(planned):
    planned()
    with pytest.raises(OutputError, match="is another plan, it differs in parts: use --update"):
        planned(part_px=1024)


def test_no_plan_and_no_plan_of_ours(planned, tmp_path):
    with pytest.raises(SourceError, match="cannot be read .*: make it with flair-job plan"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(SourceError, match="is no plan of flair-job"):
        read_plan(tmp_path)
    made = planned()
    fields = json.loads((made.folder / "plan.json").read_text())
    (made.folder / "plan.json").write_text(json.dumps(fields | {"version": "0.0.1"}))
    with pytest.raises(SourceError, match=r"is of flair-engine 0.0.1, this is"):
        read_plan(made.folder)


def test_a_full_disk(planned, monkeypatch, tmp_path):
    made = planned()

    def full(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_file, "write_whole", full)
    (made.folder / "plan.json").unlink()
    with pytest.raises(WriteError, match="cannot be written .No space left on device"):
        write_plan(made)
    assert list(made.folder.iterdir()) == []


def test_a_frame_goes_through_json():
    place = Affine(0.2, 0, 1 / 3, 0, -0.2, 1e7 / 7)
    grid = PixelGrid(height=5, width=7, crs=CRS.from_epsg(2154), transform=place)
    own = OwnGrid(grid=grid, window=Window(top=-3, left=4, height=5, width=6), first=2)
    nameless = PixelGrid(height=1, width=1, crs=None, transform=Affine.identity())
    for frame in (
        Frame(pixel_grid=grid, own_grids={"rvb": (own, own), "dsm": ()}, counts=True),
        Frame(pixel_grid=nameless, own_grids={}, counts=False),
    ):
        fields = json.loads(json.dumps(frame_fields(frame)))
        assert plan_file._frame_of(fields) == frame


def test_of_two_that_plan_at_once_one_is_told(planned, monkeypatch):
    made = planned()
    (made.folder / "plan.json").unlink()
    real = plan_file.write_whole

    def slow(path, content):
        real(path, content)
        real(path, content.replace(b'"r0_c0"', b'"r9_c9"'))  # the other one's

    monkeypatch.setattr(plan_file, "write_whole", slow)
    with pytest.raises(OutputError, match="is another plan, it differs in parts"):
        write_plan(made)
