"""Parts of a territory: each equal to the same pixels of one run, whoever makes them and when."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import filelock
import numpy as np
import pytest
from affine import Affine
from doubles.field import noise, write
from doubles.position_model import position_labels, write_position_model
from doubles.territory import CPU, labels_of, put_together
from doubles.tiny_model import write_box_model

from flair_engine import Inputs, Model, ReadOptions, segment
from flair_engine.errors import InferenceError, ManifestError, ReadError, SourceError
from flair_engine.options import Listener
from flair_engine.reading import files
from flair_engine.territory import part as part_module
from flair_engine.territory.finish import UnfinishedError, finish
from flair_engine.territory.part import PartError, Worker, run_part, run_parts
from flair_engine.territory.plan import plan
from flair_engine.territory.seeing import Sight
from flair_engine.territory.state import (
    Failure,
    claim_of,
    failure_of,
    record_of,
    states,
    write_record,
)


@pytest.fixture
def model(territory):
    with Model(territory.model, CPU) as model:
        yield model


def copied(territory, folder, rows):
    """Copy so many rows of tiles, to be changed; return their folder."""
    (folder / "tiles").mkdir()
    for path in sorted(territory.tiles.glob(f"t[0-{rows - 1}]*.tif")):
        shutil.copy2(path, folder / "tiles")
    return folder / "tiles"


def run_all(plan, model):
    return [run_part(plan, part.id, model=model) for part in plan.parts]


def test_parts_equal_the_whole(all_made, whole, territory):
    assert [state.name for state in states(all_made)] == ["done"] * 16
    assert (put_together(all_made) == labels_of(whole)).all()
    assert (labels_of(whole) == position_labels(territory.image_bhw)).all()


def test_a_frame_that_is_moved_by_a_pixel_gives_other_labels(planned, whole, model):
    plan = planned()
    grid = plan.frame.pixel_grid
    moved = replace(grid, transform=grid.transform @ Affine.translation(1, 0))
    plan = replace(plan, frame=replace(plan.frame, pixel_grid=moved))
    part = plan.parts[5]
    run_part(plan, part.id, model=model)
    found = labels_of(plan.folder / "parts" / f"{part.id}.tif")
    assert (found != labels_of(whole)[part.window.slices]).mean() > 0.9


def test_a_part_opens_the_files_that_it_sees_alone(planned, model, monkeypatch):
    opened = []
    real = files.open_dataset
    monkeypatch.setattr(files, "open_dataset", lambda name: opened.append(name) or real(name))
    plan = planned()
    opened.clear()
    with Worker(plan, model=model) as worker:
        worker.run(plan.parts[0])
    assert sorted({name[-7:-4] for name in opened}) == ["t00", "t01", "t10", "t11"]


@pytest.fixture
def delivery(tmp_path):
    """RVB of which two tiles lie on grids of their own, IRC, a surface and a terrain; a model."""
    image = noise(4, 1300, 1300, seed=3)
    for number, (top, left) in enumerate((t, c) for t in (0, 650) for c in (0, 650)):
        part = image[:, top : top + 650, left : left + 650]
        off = 0.4 if number in (1, 2) else 0.0
        write(tmp_path / "rvb" / f"{number}.tif", part[:3], row=top + off, col=left - off)
        write(tmp_path / "irc" / f"{number}.tif", part[3:], row=top, col=left)
    # 1 m and 5 m, in tiles of which the first of the terrain covers little.
    surface = noise(1, 280, 280, seed=4).astype(np.float32)
    terrain = noise(1, 60, 60, seed=5).astype(np.float32) / 8
    for number, rows in enumerate((slice(0, 140), slice(140, 280))):
        path = tmp_path / "dsm" / f"{number}.tif"
        write(path, surface[:, rows], row=rows.start - 2.3, col=-2.3, gsd_m=1.0)
    for number, rows in enumerate((slice(0, 6), slice(6, 30), slice(30, 60))):
        path = tmp_path / "dtm" / f"{number}.tif"
        write(path, terrain[:, rows], row=rows.start - 1.7, col=-1.7, gsd_m=5.0)
    inputs = {product: (str(tmp_path / product),) for product in ("rvb", "irc", "dsm", "dtm")}
    bands = ("red", "green", "blue", "nir", "elevation")
    return Inputs(**inputs), write_position_model(tmp_path, *bands)


@pytest.mark.slow
def test_parts_of_what_is_warped_and_of_heights_equal_the_whole(delivery, tmp_path):
    inputs, path = delivery
    segment(path, inputs, tmp_path / "whole.tif", CPU)
    made = plan(path, inputs, tmp_path / "job", CPU, part_px=512)
    assert len(made.parts) == 9
    assert [len(grids) for grids in made.frame.own_grids.values()] == [1, 0, 1, 1]
    with Model(path, CPU) as model:
        run_all(made, model)
    assert (put_together(made) == labels_of(tmp_path / "whole.tif")).all()
    sight = Sight(made)
    seen = [sight.numbers(part)["rvb"] for part in made.parts]
    assert seen[0] != (0, 1, 2, 3), "no part opens less than all"


def done_at(plan):
    """Return when each file of the maps was written."""
    return {path.name: path.stat().st_mtime_ns for path in (plan.folder / "parts").glob("*.tif")}


def test_what_is_done_is_seen_to_be_done(planned, model):
    plan = planned()
    part = plan.parts[0]
    first = run_part(plan, part.id, model=model)
    before = done_at(plan)
    assert run_part(plan, part.id, model=model) == first
    assert done_at(plan) == before
    assert list((plan.folder / "parts").glob("*.claim")) == []
    assert {name[-7:] for name in first.inputs} == {"t00.tif", "t01.tif", "t10.tif", "t11.tif"}
    assert sorted(path.name for path in (plan.folder / "parts").iterdir()) == [
        "r0_c0.part.json", "r0_c0.qml", "r0_c0.tif", "r0_c0.tif.aux.xml",
    ]  # fmt: skip


def test_a_file_that_has_changed_is_refused_by_the_parts_that_see_it(territory, tmp_path, model):
    tiles = shutil.copytree(territory.tiles, tmp_path / "tiles")
    made = plan(territory.model, tiles, tmp_path / "job", CPU, part_px=512)
    os.utime(tiles / "t00.tif", ns=(1, 1))
    (tiles / "t55.tif").unlink()
    with Worker(made, model=model) as worker:
        found = dict(run_parts(worker, [*made.parts[:2], made.parts[-1]]))
    refused = {part.id: str(e) for part, e in found.items() if isinstance(e, SourceError)}
    assert refused.keys() == {made.parts[0].id, made.parts[-1].id}
    assert "t00.tif: has changed since the job was planned" in refused[made.parts[0].id]
    assert "t55.tif: is gone since the job was planned" in refused[made.parts[-1].id]
    by_id = {state.part.id: state for state in states(made)}
    assert by_id[made.parts[0].id].name == "failed"
    assert by_id[made.parts[0].id].failure.tries == 1
    with pytest.raises(UnfinishedError, match="15 of 16 parts.*failed.*failed.*missing"):
        finish(made, tmp_path / "map.vrt")


def test_another_model_is_refused(planned, territory, tmp_path, model):
    made = planned()
    other = shutil.copy(territory.model, tmp_path / "copied.onnx")
    run_part(replace(made, model=tmp_path / "copied.onnx"), made.parts[0].id, model=model)
    write_box_model(tmp_path, "one", "two").replace(other)
    with pytest.raises(ManifestError, match="is not the model that the job was planned with"):
        run_part(replace(made, model=tmp_path / "copied.onnx"), made.parts[1].id, model=model)


def test_a_part_without_a_valid_pixel_is_empty(territory, tmp_path, model):
    tiles = copied(territory, tmp_path, rows=1)
    write(tiles / "t1.tif", np.zeros((2, 800, 800), np.uint8), row=330, nodata=0)
    made = plan(territory.model, tiles, tmp_path / "job", CPU, part_px=512)
    with Worker(made, model=model) as worker:
        records = [record for _, record in run_parts(worker, made.parts)]
    empty = [part for part, record in zip(made.parts, records, strict=True) if not record.files]
    assert [part.id for part in empty] == ["r1_c0", "r1_c1", "r2_c0", "r2_c1"]
    assert {state.name for state in states(made)} == {"done", "empty"}
    assert len(done_at(made)) == 4
    done = finish(made, tmp_path / "map.tif")
    segment(territory.model, tiles, tmp_path / "whole.tif", CPU)
    assert done.left_out == ()
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    # One that is missing and one that has failed are named, those that are empty are not.
    record_of(made, made.parts[0]).unlink()
    record_of(made, made.parts[1]).unlink()
    failure = Failure(reason="t01.tif: spoilt: fetch it", exit_code=1, tries=3, at="now")
    write_record(failure_of(made, made.parts[1]), failure)
    match = r"2 of 8 .*: r0_c1 failed \(t01.tif: spoilt: fetch it\); r0_c0 is missing: make them"
    with pytest.raises(UnfinishedError, match=match):
        finish(made, tmp_path / "other.tif")


def test_a_failure_on_the_way_is_tried_again(planned, model, monkeypatch):
    made, tries = planned(), []
    real = part_module.run

    def run(*given, **named):
        tries.append(1)
        if len(tries) < 3:
            raise ReadError("the drive is away", "wait")
        return real(*given, **named)

    monkeypatch.setattr(part_module, "run", run)
    said = []
    listener = Listener(notify=said.append)
    with Worker(made, model=model, pauses_s=(0, 0.01), listener=listener) as worker:
        assert worker.run(made.parts[0]).state == "done"
    assert said == [
        f"{made.parts[0].id}: the drive is away; tried again in {pause} s"
        for pause in ("0", "0.01")
    ]
    assert states(made)[0].name == "done"
    assert not list((made.folder / "parts").glob("*.failed.json"))


def test_a_failure_that_stays_is_noted_and_stops_no_other(planned, model, monkeypatch):
    made = planned()
    real = part_module.run

    def run(job, *given, **named):
        if made.parts[1].id in job.output.name:
            raise ValueError("poison")
        return real(job, *given, **named)

    monkeypatch.setattr(part_module, "run", run)
    with Worker(made, model=model, pauses_s=(0, 0)) as worker:
        found = dict(run_parts(worker, made.parts[:3]))
    assert [type(each).__name__ for each in found.values()] == [
        "PartRecord", "PartError", "PartRecord",
    ]  # fmt: skip
    failed = states(made)[1]
    assert (failed.name, failed.failure.tries) == ("failed", 3)
    with pytest.raises(PartError, match="failed with ValueError: poison"):
        raise found[made.parts[1]]
    monkeypatch.undo()
    assert run_part(made, made.parts[1].id, model=model).state == "done"


def test_the_second_attempt_at_a_part_waits_for_the_first(planned, territory, monkeypatch):
    made, running = planned(), threading.Event()
    monkeypatch.setattr(part_module, "POLL_S", 0.02)
    calls = []
    real = part_module.run

    def run(*given, **named):
        calls.append(threading.current_thread().name)
        running.set()
        time.sleep(0.3)
        return real(*given, **named)

    monkeypatch.setattr(part_module, "run", run)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run_part, made, made.parts[0].id)
        assert running.wait(60)
        assert states(made)[0].name == "running"
        second = pool.submit(run_part, made, made.parts[0].id)
        assert first.result() == second.result()
    assert len(calls) == 1
    assert not list((made.folder / "parts").glob("*.failed.json"))


SHARD = """
import sys
from flair_engine.territory.cli import command
from flair_engine.command import run_command
run_command(command, "flair-job", arguments=sys.argv[1:])
"""


def shard(made, number, count, *more):
    words = ["part", str(made.folder), "--shard", f"{number}/{count}", *more]
    return subprocess.Popen([sys.executable, "-c", SHARD, *words], stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_three_processes_make_the_map_of_one(planned, whole, tmp_path):
    made = planned()
    processes = [shard(made, number, 3) for number in range(3)]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    assert {state.name for state in states(made)} == {"done"}
    finish(made, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_what_is_killed_and_run_again_has_the_same_bytes(planned, whole, tmp_path):
    made = planned()
    random = np.random.default_rng(4)
    for _ in range(2):
        process = shard(made, 0, 1)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.5 + 1.5 * random.random())
        process.kill()
        process.wait()
    assert shard(made, 0, 1).wait(300) == 0
    finish(made, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == whole.read_bytes()
    names = {path.name for path in (made.folder / "parts").iterdir()}
    assert {name for name in names if "claim" in name or "flair-run" in name} == set()
    assert {name for name in names if "failed" in name} == set()


def test_a_map_without_a_record_is_made_again(made, model):
    part = made.parts[0]
    folder = made.folder / "parts"
    content = (folder / f"{part.id}.tif").read_bytes()
    (folder / f"{part.id}.part.json").unlink()
    assert run_part(made, part.id, model=model).state == "done"
    assert (folder / f"{part.id}.tif").read_bytes() == content


def test_a_map_that_is_gone_is_made_again(made, model):
    part = made.parts[0]
    (made.folder / "parts" / f"{part.id}.tif").unlink()
    assert states(made)[0].name == "missing"
    assert run_part(made, part.id, model=model).state == "done"


@pytest.mark.slow
def test_a_tile_that_cannot_be_decoded_fails_its_parts_alone_and_can_be_skipped(
    territory, tmp_path, model
):
    tiles = copied(territory, tmp_path, rows=2)
    size = (tiles / "t00.tif").stat().st_size
    os.truncate(tiles / "t00.tif", size - 50_000)
    made = plan(territory.model, tiles, tmp_path / "job", CPU, part_px=512)
    with Worker(made, model=model, pauses_s=(0,)) as worker:
        found = [each for _, each in run_parts(worker, made.parts)]
    failed = [each for each in found if isinstance(each, ReadError)]
    assert len(failed) == 1
    assert "t00.tif" in str(failed[0])
    assert states(made)[0].failure.tries == 2
    with Worker(made, model=model, on_error="skip") as worker:
        records = [worker.run(part) for part in made.parts]
    assert [record.skipped_blocks > 0 for record in records] == [True, *[False] * 7]
    done = finish(made, tmp_path / "map.tif")
    assert done.skipped_blocks == records[0].skipped_blocks
    skip = ReadOptions(on_error="skip")
    segment(territory.model, tiles, tmp_path / "whole.tif", CPU, read=skip)
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


@pytest.mark.slow
def test_after_a_tile_was_replaced_the_parts_that_see_it_are_made_again(territory, tmp_path, model):
    tiles = copied(territory, tmp_path, rows=3)
    made = plan(territory.model, tiles, tmp_path / "job", CPU, part_px=512)
    run_all(made, model)
    before = done_at(made)
    write(tiles / "t11.tif", territory.image_bhw[:, :330, :330], row=330, col=330)
    again = plan(territory.model, tiles, tmp_path / "job", CPU, part_px=512, update=True)
    seen = {part.id for part in again.parts if 7 in Sight(again).numbers(part)["images"]}
    assert {state.part.id for state in states(again) if state.name == "missing"} == seen
    assert len(seen) == 4
    run_all(again, model)
    now = done_at(again)
    assert {name.split(".")[0] for name in now if now[name] != before[name]} == seen
    finish(again, tmp_path / "map.tif")
    segment(territory.model, tiles, tmp_path / "whole.tif", CPU)
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_the_part_whose_process_died_comes_after_the_others(planned, model):
    made = planned()
    dead = {"token": "theirs", "place": "another machine", "pid": 1}
    (made.folder / "parts").mkdir()
    claim_of(made, made.parts[0]).write_text(json.dumps(dead))
    os.utime(claim_of(made, made.parts[0]), (1, 1))
    with Worker(made, model=model) as worker:
        found = [part for part, _ in run_parts(worker, made.parts[:3])]
    assert found == [made.parts[1], made.parts[2], made.parts[0]]


def test_files_that_many_parts_see_are_not_hashed_by_each(planned, model, monkeypatch):
    taken = []
    monkeypatch.setattr(
        "flair_engine.contents.digest_of", lambda name, _stopped: taken.append(name)
    )
    plan = planned()
    run_part(plan, plan.parts[0].id, model=model)
    assert taken == []


def test_parts_need_no_locks_of_files(planned, model, monkeypatch):
    def absent(*_given, **_named):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", absent)
    made = planned()
    assert run_part(made, made.parts[0].id, model=model).state == "done"


def test_a_runtime_that_failed_is_loaded_again(planned, monkeypatch):
    made, backends = planned(), []
    real = part_module.run

    def run(*given, backend, **named):
        backends.append(backend)
        if len(backends) == 1:
            raise InferenceError("the device is gone", "start again")
        return real(*given, backend=backend, **named)

    monkeypatch.setattr(part_module, "run", run)
    with Worker(made, pauses_s=(0,)) as worker:
        assert [worker.run(part).state for part in made.parts[:2]] == ["done", "done"]
    first, second, third = backends
    assert first is not second is third


def test_a_worker_takes_the_device_that_it_is_given(planned, monkeypatch):
    class AskedError(Exception):
        pass

    def open_model(path, options):
        raise AskedError(path, options)

    made = planned(part_px=4096)
    monkeypatch.setattr(part_module, "Model", open_model)
    with Worker(made, device="cuda:1") as worker, pytest.raises(AskedError) as asked:
        worker.run(made.parts[0])
    assert asked.value.args == (made.model, replace(made.run, device="cuda:1"))


def test_who_loses_a_part_to_another_process_waits_for_that(planned, model, monkeypatch):
    made, calls = planned(), []
    real = part_module.run

    def run(job, listener, **named):
        calls.append(job)
        if len(calls) == 1:  # stood still, and another process has taken over
            claim_of(made, made.parts[0]).write_text('{"token": "theirs"}')
            os.utime(claim_of(made, made.parts[0]), (1, 1))
        return real(job, listener, **named)

    monkeypatch.setattr(part_module, "run", run)
    monkeypatch.setattr(part_module, "POLL_S", 0.01)
    with Worker(made, model=model) as worker:
        ((_, record),) = run_parts(worker, made.parts[:1])
    assert (record.state, len(calls)) == ("done", 2)
    assert not list((made.folder / "parts").glob("*.failed.json"))
