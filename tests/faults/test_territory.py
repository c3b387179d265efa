"""A territory of real patches and a trained network: the bytes of one run, whatever is killed."""

import os
import random
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from doubles.disturbed import SHARE, contents
from doubles.paths import SHARED, STANDIN
from doubles.ray_nodes import (
    add_node,
    at_work,
    end,
    job_process,
    nodes,
    remove_node_at_work,
    stop_one,
)

from flair_engine import MapOptions, ReadOptions, RunOptions, segment
from flair_engine.territory.plan_file import read_plan
from flair_engine.territory.seeing import Sight
from flair_engine.territory.state import record_of, states

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SHARE < 1, reason="takes ten minutes: make soak"),
    pytest.mark.skipif(not STANDIN.is_file(), reason=f"no {STANDIN}"),
]

PATCHES = SHARED / "flair1" / "Z4_block" / "img"
RUN = RunOptions(engine="ort", device="cpu", threads=1, batch=1)
KILLS = 10
KINDS = {"per-input": {"per_input": True, "cog": True}, "cog": {"cog": True}}


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The stand-in at the geometry of the official tool."""
    from flair_export import ExportOptions, export

    path = tmp_path_factory.mktemp("network") / "standin.onnx"
    export(STANDIN, path, ExportOptions(tile_px=512, margin_px=128))
    return path


@pytest.fixture(scope="session")
def one_run(network, tmp_path_factory):
    """Make the maps of one run of a kind, once."""
    made = {}

    def one_run(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("one")
            output = folder / ("maps" if kind == "per-input" else "map.tif")
            if kind == "per-input":
                output.mkdir()
            segment(network, PATCHES, output, RUN, write=MapOptions(**KINDS[kind]))
            made[kind] = contents(folder)
        return made[kind]

    return one_run


@pytest.fixture
def job(network, tmp_path):
    """Plan a job of 25 parts of a kind."""

    def job(kind):
        done(job_process("plan", tmp_path / "job", PATCHES, "-m", network, "--part-px", 512,
                         *(f"--{name.replace('_', '-')}" for name in KINDS[kind]),
                         "--engine", "ort", "--device", "cpu", "--threads", 1))  # fmt: skip
        return read_plan(tmp_path / "job")

    return job


def done(*processes):
    """Wait until processes have ended well; return what they printed."""
    ended = [process.communicate(timeout=1200) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), ended
    return ended


def finished(plan, kind, folder, shards=1):
    """Put a job together, by some processes and the last; return the bytes in the folder."""
    folder.mkdir()
    output = folder / ("maps" if kind == "per-input" else "map.tif")
    if shards > 1 and kind == "per-input":
        words = (["finish", plan.folder, output, "--shard", f"{n}/{shards}"] for n in range(shards))
        done(*(job_process(*each) for each in words))
    done(job_process("finish", plan.folder, output))
    beside = ("maps.vrt", "maps.qml")  # over the maps of a run, which makes none
    return {name: bytes_ for name, bytes_ in contents(folder).items() if name not in beside}


@pytest.mark.parametrize("kind", KINDS)
def test_three_processes(job, one_run, tmp_path, kind):
    plan = job(kind)
    done(*(job_process("part", plan.folder, "--shard", f"{n}/3") for n in range(3)))
    found = finished(plan, kind, tmp_path / "out", shards=3)
    assert found == one_run(kind)
    print(f"three processes, {kind}: {len(plan.parts)} parts, {len(found)} files, equal")


@pytest.mark.parametrize("kind", KINDS)
def test_two_machines_of_ray(job, one_run, tmp_path, monkeypatch, kind):
    pytest.importorskip("ray")
    plan = job(kind)
    with nodes(monkeypatch, 2) as cluster:
        done(ray_driver(plan, cluster))
    found = finished(plan, kind, tmp_path / "out")
    assert found == one_run(kind)
    print(f"Ray, two machines, {kind}: {len(plan.parts)} parts, {len(found)} files, equal")


def ray_driver(plan, cluster):
    return job_process("part", plan.folder, "--workers", "ray", "--address", cluster.address)


def charged(said):
    """Return how often the process of each part died, as a driver told it."""
    return Counter(re.findall(r"(r\d+_c\d+): its process died ", said))


def test_ten_kills_of_workers_one_of_the_driver_a_machine_gone_and_one_added(
    job, one_run, tmp_path, monkeypatch
):
    pytest.importorskip("ray")
    plan, killed, moments = job("per-input"), Counter(), random.Random(16)
    before = Counter()
    with nodes(monkeypatch, 2) as cluster:
        driver = ray_driver(plan, cluster)
        for number in range(KILLS):
            time.sleep(moments.uniform(0.2, 2.0))
            part, pid = stop_one(plan.folder, number)
            end(pid)
            killed[part] += 1
            if number == KILLS // 3:
                end(driver.pid)
                before = charged(driver.communicate()[1])
                assert not before - killed
                while at_work(plan.folder):  # its workers end with it
                    time.sleep(0.1)
                driver = ray_driver(plan, cluster)
            if number == 2 * KILLS // 3:
                remove_node_at_work(cluster, plan.folder, killed)
                add_node(cluster)
        said = driver.communicate(timeout=1200)
    assert driver.returncode == 0, said
    tries = before + charged(said[1])
    assert not tries - killed, (tries, killed)
    assert {state.name for state in states(plan)} == {"done"}
    assert finished(plan, "per-input", tmp_path / "out") == one_run("per-input")
    print(
        f"killed: {killed.total()} tries of {len(killed)} parts, the driver once; charged: "
        f"{tries.total()} tries, none that was not killed; the bytes are equal"
    )


def test_a_spoilt_patch_is_left_out_and_then_replaced(network, one_run, tmp_path):
    patches = shutil.copytree(PATCHES, tmp_path / "img")
    spoilt = sorted(patches.glob("*.tif"))[12]
    os.truncate(spoilt, spoilt.stat().st_size - 50_000)
    folder, output = tmp_path / "job", tmp_path / "map.tif"
    words = ("plan", folder, patches, "-m", network, "--part-px", 512, "--cog",
             "--engine", "ort", "--device", "cpu", "--threads", 1)  # fmt: skip
    done(job_process(*words))
    plan = read_plan(folder)
    making = job_process("part", folder)
    making.communicate(timeout=1200)
    names = Counter(state.name for state in states(plan))
    assert (making.returncode, names.keys()) == (1, {"done", "failed"})
    lost = next(state.part for state in states(plan) if state.name == "done")
    record_of(plan, lost).unlink()
    refused = job_process("finish", folder, output)
    said = refused.communicate(timeout=1200)[1]
    assert refused.returncode == 1
    print(said)
    done(job_process("part", folder, "--only", lost.id))
    skipping = job_process("part", folder, "--failed", "--on-error", "skip")
    assert skipping.communicate(timeout=1200)[0].count("Mpx in") == names["failed"]
    finishing = job_process("finish", folder, output)
    finishing.communicate(timeout=1200)
    assert (skipping.returncode, finishing.returncode) == (3, 3)
    skip = ReadOptions(on_error="skip")
    one = tmp_path / "one.tif"
    segment(network, patches, one, RUN, read=skip, write=MapOptions(**KINDS["cog"]))
    assert output.read_bytes() == one.read_bytes()
    shutil.copy(PATCHES / spoilt.name, spoilt)
    done(job_process(*words, "--update"))
    plan = read_plan(folder)
    again = {state.part.id for state in states(plan) if state.name == "missing"}
    number = [Path(file.name).name for file in plan.files["images"]].index(spoilt.name)
    sight = Sight(plan)
    assert again == {p.id for p in plan.parts if number in sight.numbers(p)["images"]}
    ((out, _),) = done(job_process("part", folder))
    assert out.count("Mpx in") == len(plan.parts)  # those that were done are told too
    done(job_process("finish", folder, output, "--overwrite"))
    assert output.read_bytes() == one_run("cog")["map.tif"]
    print(
        f"a spoilt patch: {names['failed']} of {len(plan.parts)} parts failed, made alone with "
        f"nodata there, equal to one run that skips; replaced: {len(again)} parts made again, equal"
    )
