"""Folders of maps: each written once, whoever writes it, and made again where its parts are."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import rasterio
from doubles.territory import labels_of, put_together

from flair_engine.errors import OutputError, WriteError
from flair_engine.territory import delivery as module
from flair_engine.territory.claim import Claim
from flair_engine.territory.finish import finish
from flair_engine.territory.part import Worker
from flair_engine.territory.state import record_of, states, write_record


@pytest.fixture
def small(planned, territory):
    """A job of four tiles and as many parts, with a COG for each tile."""
    tiles = str(territory.tiles / "t[01][01].tif")
    plan = planned(inputs=tiles, write={"per_input": True, "cog": True})
    with Worker(plan) as worker:
        for part in plan.parts:
            worker.run(part)
    return plan


def written_at(folder: Path):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tif")}


def test_maps_of_parts_by_several_processes_and_the_last(made, whole, tmp_path):
    out = tmp_path / "maps"
    names = [f"{part.id}.tif" for part in made.parts]
    done = finish(made, out, shard=(1, 3))
    assert [path.name for path in done.outputs] == names[1::3]
    assert sorted(written_at(out)) == names[1::3]
    finish(made, out, shard=(2, 3))
    before = written_at(out)
    assert not out.with_suffix(".vrt").exists()
    done = finish(made, out)  # what is left, and the VRT
    assert [path.name for path in done.outputs] == names
    after = written_at(out)
    assert {name: after[name] for name in before} == before
    assert (labels_of(tmp_path / "maps.vrt") == labels_of(whole)).all()
    with rasterio.open(tmp_path / "maps.vrt") as dataset, rasterio.open(whole) as one:
        assert dataset.colormap(1)[3] == one.colormap(1)[3]
    assert (tmp_path / "maps.qml").exists()
    assert not list(out.glob(".*"))
    finish(made, out)
    assert written_at(out) == after


def test_a_map_is_made_again_where_a_part_of_it_was(small, tmp_path):
    out = tmp_path / "maps"
    finish(small, out)
    before = written_at(out)
    part = states(small)[-1]
    path = small.folder / "parts" / f"{part.part.id}.tif"
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read())
        dataset.update_tags(changed="yes")
    files = {path.name: (path.stat().st_size, module.sha256_of(path))}
    write_record(record_of(small, part.part), replace(part.record, files=files))
    with pytest.raises(OutputError, match="t11.tif: exists already: use --overwrite"):
        finish(small, out)
    finish(small, out, overwrite=True)
    after = written_at(out)
    assert {name for name in after if after[name] != before[name]} == {"t11.tif"}
    assert (labels_of(tmp_path / "maps.vrt") == put_together(small)).all()


def test_what_was_ended_before_its_note_is_written_again(small, tmp_path, monkeypatch):
    out, real = tmp_path / "maps", module.write_maps

    def write_maps(*given):
        real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_maps", write_maps)
    with pytest.raises(KeyboardInterrupt):
        finish(small, out)
    monkeypatch.undo()
    assert written_at(out).keys() == {"t00.tif"}
    assert len(finish(small, out).outputs) == 4


def test_a_map_that_was_spoilt_is_found(small, tmp_path):
    finish(small, tmp_path / "maps")
    path = tmp_path / "maps" / "t01.tif"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WriteError, match="t01.tif: is not as it was written: delete it, and fin"):
        finish(small, tmp_path / "maps")
    path.unlink()
    finish(small, tmp_path / "maps")


def test_the_second_at_a_map_waits_for_the_first(small, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.05)
    (small.folder / "maps").mkdir()
    claim = Claim(small.folder / "maps" / "t00.tif.claim")
    finishing = threading.Thread(target=finish, args=(small, tmp_path / "maps"))
    finishing.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "maps" / "t11.tif").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "maps" / "t00.tif").exists()
    claim.__exit__()
    finishing.join(60)
    assert (tmp_path / "maps" / "t00.tif").exists()
    assert (tmp_path / "maps.vrt").exists()


@pytest.mark.parametrize(
    ("shard", "name", "said"),
    [
        ((3, 3), "maps", "shard 3/3 is none: count from 0"),
        ((-1, 3), "maps", "shard -1/3 is none"),
        ((0, 3), "map.tif", "map.tif: one file is written by one process: name a folder"),
        ((0, 3), "map.vrt", "one file is written by one process"),
    ],
)
def test_shards_that_are_refused(made, tmp_path, shard, name, said):
    with pytest.raises(OutputError, match=said):
        finish(made, tmp_path / name, shard=shard)


def test_places_that_cannot_be_written(made, tmp_path, monkeypatch):
    out = tmp_path / "maps"
    out.mkdir()
    (out / ".r0_c0.tif.flair-job").touch()
    with pytest.raises(OutputError, match="r0_c0.tif: nothing can be written beside it .*: give"):
        finish(made, out)
    (out / ".r0_c0.tif.flair-job").unlink()

    def full(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(WriteError, match="r0_c0.tif.json: cannot be written .No space .*: check"):
        finish(made, out)
    shutil.rmtree(made.folder / "maps")
    (made.folder / "maps").touch()
    with pytest.raises(WriteError, match="maps: cannot be made .*: check the job's folder"):
        finish(made, out)
    with pytest.raises(OutputError, match="map.png: the map is a GeoTIFF"):
        (made.folder / "maps").unlink()
        finish(made, tmp_path / "map.png")
