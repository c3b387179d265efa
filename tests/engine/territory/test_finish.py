"""Maps put together from parts: those of one run, or a refusal that names what is not there."""

import shutil
from dataclasses import replace

import pytest
import rasterio
from doubles.territory import CPU, labels_of, put_together

from flair_engine import MapOptions, segment
from flair_engine.errors import OutputError, WriteError
from flair_engine.territory.finish import UnfinishedError, finish, hectares
from flair_engine.territory.part import Worker, run_parts
from flair_engine.territory.state import (
    Failure,
    failure_of,
    map_of,
    record_of,
    states,
    write_record,
)


def make(plan):
    with Worker(plan, pauses_s=()) as worker:
        return list(run_parts(worker, plan.parts))


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [
        {},
        {"cog": True},
        {"labels": "zero-based"},
        {"per_input": True},
        {"co": ("COMPRESS=ZSTD",), "bbox": (721150.0, 6248900.0, 721300.0, 6249000.0)},
    ],
    ids=str,
)
def test_maps_have_the_bytes_of_one_run(planned, territory, tmp_path, write):
    rows = str(territory.tiles / "t[01]*.tif")
    plan = planned(inputs=rows, write=write)
    make(plan)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    name = "" if write.get("per_input") else "map.tif"
    segment(territory.model, rows, tmp_path / "one" / name, CPU, write=MapOptions(**write))
    done = finish(plan, tmp_path / "other" / name)
    assert done.left_out == ()
    one, other = bytes_in(tmp_path / "one"), bytes_in(tmp_path / "other")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_a_vrt_shows_all_parts(made, whole, tmp_path):
    done = finish(made, tmp_path / "map.vrt")
    with rasterio.open(tmp_path / "map.vrt") as dataset, rasterio.open(whole) as one:
        assert (dataset.read(1) == one.read(1)).all()
        assert dataset.colormap(1)[3] == one.colormap(1)[3]
        assert (dataset.crs, dataset.transform) == (one.crs, one.transform)
    assert (tmp_path / "map.qml").exists()
    assert sum(done.hectares_by_class.values()) == pytest.approx(1980**2 * 0.04e-4, rel=0.002)
    assert done.hectares_by_class == hectares([state.record for state in states(made)])


def lose(plan, *numbers):
    """Take parts away."""
    for number in numbers:
        for path in (plan.folder / "parts").glob(f"{plan.parts[number].id}.*"):
            path.unlink()


def test_what_is_missing_is_named(made, tmp_path):
    plan = made
    lose(plan, 3)
    with pytest.raises(UnfinishedError, match=f"1 of 16 parts.*{plan.parts[3].id} is missing"):
        finish(plan, tmp_path / "map.vrt")
    assert not (tmp_path / "map.vrt").exists()
    done = finish(plan, tmp_path / "map.tif", allow_missing=True)
    assert done.left_out == (plan.parts[3].id,)
    found = labels_of(tmp_path / "map.tif")
    assert (found == put_together(plan)).all()
    assert not found[plan.parts[3].window.slices].any()


def test_a_failed_part_is_named_before_those_that_are_missing(made, tmp_path):
    plan = made
    lose(plan, 0, 15)
    failure = Failure(reason="t55.tif: spoilt: fetch it", exit_code=1, tries=3, at="now")
    write_record(failure_of(plan, plan.parts[15]), failure)
    match = r"2 of 16 .*: r3_c3 failed \(t55.tif: spoilt: fetch it\); r0_c0 is missing: make them"
    with pytest.raises(UnfinishedError, match=match):
        finish(plan, tmp_path / "map.vrt")


def test_nothing_to_put_together(planned, tmp_path):
    plan = planned()
    with pytest.raises(UnfinishedError, match="16 of 16 parts.* and 11 more"):
        finish(plan, tmp_path / "map.vrt")
    with pytest.raises(UnfinishedError, match="no part holds a pixel with a label"):
        finish(plan, tmp_path / "map.vrt", allow_missing=True)


def test_outputs_that_are_refused(planned, territory, tmp_path):
    rows = str(territory.tiles / "t0[01].tif")
    plan = planned(inputs=rows, write={"per_input": True}, part_px=4096)
    make(plan)
    with pytest.raises(OutputError, match="was planned with --per-input, whose maps go to a fol"):
        finish(plan, tmp_path / "map.tif")
    with pytest.raises(OutputError, match="the folder cannot be made .*: name another"):
        finish(plan, tmp_path / "absent" / "maps")
    (tmp_path / "map.vrt").write_text("mine")
    with pytest.raises(OutputError, match="exists already and is not of flair-engine"):
        finish(plan, tmp_path / "map.vrt", overwrite=True)
    (tmp_path / "maps").mkdir()
    shutil.copy(map_of(plan, plan.parts[0]), tmp_path / "maps" / "t00.tif")
    with pytest.raises(OutputError, match="exists already: use --overwrite"):
        finish(plan, tmp_path / "maps")
    finish(plan, tmp_path / "maps", overwrite=True)


def test_a_part_that_was_spoilt_is_found(made, tmp_path):
    plan = made
    path = map_of(plan, plan.parts[0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WriteError, match="is not as it was written: delete it, and make the part"):
        finish(plan, tmp_path / "map.tif")


def test_parts_of_two_engines(made, tmp_path):
    plan = made
    state = states(plan)[1]
    write_record(record_of(plan, state.part), replace(state.record, batch=7))
    with pytest.raises(OutputError, match="parts were made by .* and by .*: make them again"):
        finish(plan, tmp_path / "map.tif")
