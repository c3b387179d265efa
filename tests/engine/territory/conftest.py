"""A territory, the map that one run makes of it, and plans of it."""

import shutil

import pytest
from doubles.territory import CPU, write_territory

from flair_engine import MapOptions, segment
from flair_engine.territory.part import Worker
from flair_engine.territory.plan import plan
from flair_engine.territory.plan_file import read_plan


@pytest.fixture(scope="session")
def territory(tmp_path_factory):
    """36 tiles and a model."""
    return write_territory(tmp_path_factory.mktemp("territory"))


@pytest.fixture(scope="session")
def whole(territory, tmp_path_factory):
    """The map of one run."""
    path = tmp_path_factory.mktemp("whole") / "map.tif"
    segment(territory.model, territory.tiles, path, CPU)
    return path


@pytest.fixture
def planned(territory, tmp_path):
    """Plan parts of 512 px."""

    def make(inputs=None, name="job", **options):
        write = MapOptions(**options.pop("write", {}))
        given = {"part_px": 512, "write": write, **options}
        return plan(territory.model, inputs or territory.tiles, tmp_path / name, CPU, **given)

    return make


@pytest.fixture(scope="session")
def all_made(territory, tmp_path_factory):
    """A job of 16 parts, all of them made."""
    folder = tmp_path_factory.mktemp("made") / "job"
    made = plan(territory.model, territory.tiles, folder, CPU, part_px=512)
    with Worker(made) as worker:
        for part in made.parts:
            worker.run(part)
    return made


@pytest.fixture
def made(all_made, tmp_path):
    """A copy of it, to be spoilt."""
    return read_plan(shutil.copytree(all_made.folder, tmp_path / "job"))
