"""Parts on Ray: the bytes of one run, whichever processes and machines go away meanwhile."""

import re
import socket
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from doubles.ray_nodes import add_node, end, job_process, nodes, remove_node_at_work, stop_one

from flair_engine.errors import BusyError, EngineError, ReadError
from flair_engine.options import Listener
from flair_engine.territory import ray as module
from flair_engine.territory.finish import finish
from flair_engine.territory.part import Worker
from flair_engine.territory.ray import ClusterError, ProcessDiedError, numbered, run_parts_on_ray
from flair_engine.territory.state import states


def deaths_told(said):
    """Return how often the process of each part has died, as it was told."""
    return Counter(re.findall(r"(r\d+_c\d+): its process died ", said))


@pytest.mark.slow
def test_two_machines_make_the_map_of_one_whatever_is_killed(planned, whole, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    made, killed = planned(), Counter()
    with nodes(monkeypatch, 2) as cluster:
        driver = job_process("part", made.folder, "--workers", "ray",
                             "--address", cluster.address)  # fmt: skip
        part, pid = stop_one(made.folder, 0)
        end(pid)
        killed[part] += 1
        remove_node_at_work(cluster, made.folder, killed)
        add_node(cluster)
        out, err = driver.communicate(timeout=240)
    assert (driver.returncode, out.count("Mpx in")) == (0, 16), err
    assert deaths_told(err) == killed, err
    assert {state.name for state in states(made)} == {"done"}
    finish(made, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == whole.read_bytes()
    assert not list((made.folder / "parts").glob("*.claim"))


class FakeRay(SimpleNamespace):
    """Ray as it is used, in this process: tasks run as they are submitted, and may die."""

    def __init__(self, dying=(), nodes=({"CPU": 4.0},)):
        self.asked, self.died, self.stopped = {}, Counter(), False
        self.dying = Counter(dying)
        self.exceptions = SimpleNamespace(RayTaskError=TaskError, RayError=RayError)
        self.nodes = lambda: [{"Alive": True, "Resources": node} for node in nodes]

    def remote(self, **options):
        self.asked = options
        return lambda function: SimpleNamespace(remote=lambda *words: self._run(function, *words))

    def _run(self, function, folder, digest, on_error, name):
        if self.died[name] < self.dying[name]:
            self.died[name] += 1
            return Reference(error=RayError())
        try:
            return Reference(error=None, value=function(folder, digest, on_error, name))
        except ZeroDivisionError as error:
            return Reference(error=TaskError(error))

    def wait(self, references, **_options):
        return references[:1], references[1:]

    def get(self, reference):
        if reference.error:
            raise reference.error
        return reference.value


class Reference(SimpleNamespace):
    """What a task of the fake comes to."""

    __hash__ = object.__hash__


class RayError(Exception):
    """Of a process that died."""


class TaskError(RayError):
    """Of what a task has raised."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


@pytest.fixture
def fake(monkeypatch):
    """Put a fake in the place of Ray, whose tasks have no GPU."""

    def put(**options):
        ray = FakeRay(**options)

        @module.contextmanager
        def connected(plan, address, gpus, listener):
            yield ray

        monkeypatch.setattr(module, "_connected", connected)
        monkeypatch.setattr(module, "_device", lambda planned: planned)
        monkeypatch.setattr(module, "DEATH_PAUSES_S", (0.0, 0.01, 0.02))
        monkeypatch.setattr(module, "BUSY_S", 0.0)
        monkeypatch.setattr(module, "WAIT_S", 0.01)
        return ray

    yield put
    while module._kept:
        module._kept.popitem()[1].close()
    module._plan.cache_clear()


def test_a_part_that_ends_its_processes_stops_no_other(planned, fake):
    made, told = planned(part_px=1024), []
    names = [part.id for part in made.parts]
    ray = fake(dying={names[1]: 3, names[2]: 4})
    found = {
        part.id: each
        for part, each in run_parts_on_ray(made, made.parts, listener=Listener(notify=told.append))
    }
    assert isinstance(found.pop(names[2]), ProcessDiedError)
    assert {record.state for record in found.values()} == {"done"}
    assert deaths_told("\n".join(told)) == {names[1]: 3, names[2]: 3}
    failed = states(made)[2]
    assert (failed.name, failed.failure.tries, failed.failure.exit_code) == ("failed", 4, 1)
    assert "its process died (RayError) in 4 tries: see whether it runs" in failed.failure.reason
    assert (ray.asked["max_retries"], ray.asked["max_calls"]) == (0, 0)
    assert (ray.asked["num_cpus"], ray.asked["num_gpus"]) == (1, 0)
    # What is done is told again, and asks nothing of Ray.
    again = dict(run_parts_on_ray(made, [made.part(names[0])]))
    assert list(again.values()) == [found[names[0]]]


def test_what_tasks_come_to(planned, fake, monkeypatch):
    made, told = planned(part_px=1024), []
    fake()
    real, calls = Worker.run_now, Counter()

    def run_now(worker, part):
        calls[part.id] += 1
        if part == made.parts[0] and calls[part.id] < 3:
            raise BusyError("others are at it", "wait")
        if part == made.parts[1]:
            raise ReadError("a.tif: cannot be read", "mend it")
        if part == made.parts[2]:
            raise ZeroDivisionError("nothing by nothing")
        return replace(real(worker, part), warnings=("heights are odd",))

    monkeypatch.setattr(Worker, "run_now", run_now)
    listener = Listener(warn=told.append)
    found = dict(run_parts_on_ray(made, made.parts, listener=listener))
    said = [str(found[part]) for part in made.parts[1:3]]
    assert said[0] == "a.tif: cannot be read: mend it"
    assert said[1].startswith("failed with ZeroDivisionError: nothing by nothing: see where")
    assert {found[part].state for part in (made.parts[0], made.parts[3])} == {"done"}
    assert calls[made.parts[0].id] == 3
    assert sorted(told) == [f"{made.parts[n].id}: heights are odd" for n in (0, 3)]


def test_a_machine_without_the_engine_ends_it_by_name(planned, fake, monkeypatch):
    made = planned(part_px=1024)
    fake()

    def run_now(_worker, _part):
        raise EngineError("no GPU is here", "mend it")

    monkeypatch.setattr(Worker, "run_now", run_now)
    with pytest.raises(EngineError, match=f"^{re.escape(socket.gethostname())}: no GPU is here"):
        list(run_parts_on_ray(made, made.parts))


def test_a_machine_that_does_not_see_the_plan(planned, fake):
    made = planned(part_px=1024)
    fake()
    with pytest.raises(EngineError, match="another plan is there by now: run flair-job part"):
        list(run_parts_on_ray(replace(made, digest="0"), made.parts))
    with pytest.raises(EngineError, match="plan.json: cannot be read"):
        module._plan(str(made.folder / "absent"), made.digest)


@pytest.mark.parametrize(
    ("device", "asked", "said"),
    [
        ("cpu", 1.0, "1 GPUs per worker, and the job is planned for CPUs: leave that out"),
        ("cuda", 2.0, "2 GPUs per worker, expected 1, or less where some share one"),
        ("cuda:0", 0.0, "0 GPUs per worker, expected 1"),
        ("cuda", -0.5, "-0.5 GPUs per worker, expected 1"),
        ("cuda", float("nan"), "nan GPUs per worker, expected 1"),
    ],
)
def test_gpus_that_mean_nothing(planned, device, asked, said):
    made = planned(part_px=4096)
    made = replace(made, run=replace(made.run, device=device))
    with pytest.raises(ClusterError, match=f"^{re.escape(said)}"):
        list(run_parts_on_ray(made, made.parts, gpus_per_worker=asked))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "address of nothing is not that of a head of Ray: give auto, or its HOST:PORT"),
        ("head", "address head is not that"),
        ("ray://head:10001", "address ray://head:10001 is not that"),
        ("127.0.0.1:1", "address 127.0.0.1:1: nothing answers there .*: start it with ray start"),
    ],
)
def test_addresses_that_are_refused(address, said):
    with pytest.raises(ClusterError, match=said):
        module._check_address(address)


def test_what_answers_and_is_no_head(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(module, "HEALTHY_S", 3.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        match = f"address {address}: what answers there is no head of Ray .*: give the port of ray"
        with pytest.raises(ClusterError, match=match):
            module._check_address(address)


def test_a_ray_that_cannot_be_used(planned, monkeypatch):
    ray = pytest.importorskip("ray")

    def refuse(**_options):
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one")

    monkeypatch.setattr(ray, "init", refuse)
    made = planned(part_px=4096)
    match = r"Ray at auto cannot be used \(Could not find any .* instance.\): give the HOST:PORT"
    with pytest.raises(ClusterError, match=match):
        list(run_parts_on_ray(made, made.parts, address="auto"))


def test_room_for_a_part():
    told = []
    few = [{"Alive": True, "Resources": {"CPU": 4.0}}]
    module._check_room(few, 4, 0, told.append, own=True)
    with pytest.raises(ClusterError, match="^no machine has 4 CPUs and 1 GPUs that Ray sees: see"):
        module._check_room(few, 4, 1, told.append, own=True)
    assert told == []
    module._check_room([{**few[0], "Alive": False}], 4, 0, told.append, own=False)
    assert told == ["no machine has 4 CPUs that Ray sees: waiting for one"]


@pytest.mark.parametrize(
    ("planned_for", "gpus", "visible", "expected"),
    [
        ("cpu", [], None, "cpu"),
        ("cuda", [], "", "cuda"),
        ("cuda", ["3"], None, "cuda:3"),
        ("cuda:0", ["3"], "2,3", "cuda:1"),
        (None, ["GPU-b"], "GPU-a,GPU-b", "cuda:1"),
    ],
)
def test_a_task_takes_the_gpu_that_it_was_given(planned_for, gpus, visible, expected):
    assert numbered(planned_for, gpus, visible) == expected


def test_without_ray(planned, monkeypatch):
    import sys

    made = planned(part_px=4096)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match="ray"):
        list(run_parts_on_ray(made, made.parts))
