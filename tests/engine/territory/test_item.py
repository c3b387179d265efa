"""STAC Items of maps of a territory: those that one run writes."""

import sys

import pytest
from doubles.territory import CPU

from flair_engine import MapOptions, segment
from flair_engine.errors import OutputError
from flair_engine.options import Listener
from flair_engine.territory.finish import finish
from flair_engine.territory.part import Worker, run_parts


def make(plan):
    with Worker(plan, pauses_s=()) as worker:
        return list(run_parts(worker, plan.parts))


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_stac_item_is_that_of_one_run(territory, planned, tmp_path, monkeypatch):
    pytest.importorskip("pystac")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    row = str(territory.tiles / "t0[0-2].tif")
    write = {"cog": True, "stac": True, "acquired": "2023-07"}
    plan = planned(inputs=row, write=write)
    make(plan)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    segment(territory.model, row, tmp_path / "one" / "map.tif", CPU, write=MapOptions(**write))
    said = []
    finish(plan, tmp_path / "other" / "map.tif")
    one, other = bytes_in(tmp_path / "one"), bytes_in(tmp_path / "other")
    assert "map.json" in one
    assert one == other
    finish(plan, tmp_path / "all.vrt", listener=Listener(notify=said.append))
    assert said == [f"{tmp_path}/all.vrt: a VRT has no STAC Item, its maps would: finish OUT.tif"]


def test_an_item_needs_its_package_before_anything_is_planned(planned, monkeypatch):
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(OutputError, match=r"--stac needs .*flair-engine\[stac\]"):
        planned(write={"stac": True})
    with pytest.raises(OutputError, match="--acquired is said in the Item of --stac alone"):
        planned(write={"acquired": "2023"})
