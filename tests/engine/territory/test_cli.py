"""flair-job: what it parses, prints and returns."""

import json
from dataclasses import fields

import pytest
from doubles.territory import CPU

from flair_engine import Inputs, MapOptions, ReadOptions, RunOptions
from flair_engine.cli import command as run_command_of_one
from flair_engine.command import run_command
from flair_engine.territory.cli import command

RUN = ("--engine", "ort", "--device", "cpu", "--threads", "1", "--batch", "2")


@pytest.fixture
def job(capsys):
    """Run flair-job; return its exit code, stdout and stderr."""

    def job(*words):
        code = 0
        try:
            run_command(command, "flair-job", arguments=[str(word) for word in words])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return job


@pytest.fixture
def folder(job, territory, tmp_path):
    """A job that has been planned."""
    code, out, _ = job("plan", tmp_path / "job", territory.tiles, "-m", territory.model, *RUN,
                       "--part-px", 1024)  # fmt: skip
    assert code == 0
    assert out == f"{tmp_path / 'job'}: 4 parts of 1,980 x 1,980 px from 36 files\n"
    return tmp_path / "job"


def test_a_job_from_plan_to_map(job, folder, whole, tmp_path):
    assert job("status", folder)[1] == "0 done, 0 empty, 0 failed, 0 running, 4 missing\n"
    code, out, err = job("part", folder, "--shard", "1/2")
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == ["r0_c1", "r1_c1"]
    assert "r0_c1: 0.98 Mpx in" in out
    code, out, err = job("finish", folder, tmp_path / "map.tif")
    assert (code, out) == (1, "")
    assert err == (
        f"flair-job: {folder}: 2 of 4 parts are not there: r0_c0 is missing; r1_c0 is missing: "
        "make them with flair-job part, or use --allow-missing\n"
    )
    code, out, err = job("finish", folder, tmp_path / "half.vrt", "--allow-missing")
    assert code == 3
    assert "warning" in err
    assert job("part", folder, "--only", "r0_c0", "--only", "r1_c0", "-q")[:2] == (0, "")
    figures = json.loads(job("status", folder, "--json")[1])
    assert figures["counts"] == {"done": 4}
    assert job("status", folder)[1].splitlines()[1].endswith("Mpx/s, 0.0 h left")
    code, out, _ = job("finish", folder, tmp_path / "map.tif")
    assert code == 0
    assert out.splitlines()[-1].startswith(f"{tmp_path / 'map.tif'}: 15.")
    assert (tmp_path / "map.tif").read_bytes() == whole.read_bytes()


def test_a_part_that_fails(job, folder, territory, tmp_path, monkeypatch):
    monkeypatch.setattr("flair_engine.territory.seeing._check_facts", fail)
    code, out, err = job("part", folder, "--shard", "0/4")
    assert (code, out) == (1, "")
    assert err == "flair-job: r0_c0 failed: a.tif: has changed: put it back\n"
    out = job("status", folder)[1]
    assert out.splitlines() == [
        "0 done, 0 empty, 1 failed, 0 running, 3 missing",
        "r0_c0 failed: a.tif: has changed: put it back",
    ]
    monkeypatch.undo()
    code, out, _ = job("part", folder, "--failed", "--on-error", "skip")
    assert (code, [line.split(":")[0] for line in out.splitlines()]) == (0, ["r0_c0"])
    assert job("part", folder, "--failed")[:2] == (0, "")


def fail(_facts):
    from flair_engine.errors import SourceError

    raise SourceError("a.tif: has changed", "put it back")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["part", "JOB", "--shard", "3/3"], "'3/3' is not I/N with I from 0 to N - 1"),
        (["part", "JOB", "--shard", "one"], "'one' is not I/N"),
        (["part", "JOB", "--shard", "0/3", "--only", "r0_c0"], "give one of them"),
        (["part", "JOB", "--only", "r7_c7"], "r7_c7: is no part of"),
        (["part", "JOB", "--workers", "dask"], "'dask' is not 'ray'"),
        (["part", "JOB", "--address", "auto"], "--address is for --workers ray: give both"),
        (["part", "JOB", "--gpus-per-worker", "1"], "--gpus-per-worker is for --workers ray"),
        (["part", "JOB", "--workers", "ray", "--gpus-per-worker", "1"], "planned for CPUs"),
        (["part", "JOB", "--workers", "ray", "--gpus-per-worker", "one"], "'one' is not a valid"),
        (["part", "JOB", "--workers", "ray", "--address", "head"], "give auto, or its HOST:PORT"),
        (["finish", "JOB", "maps", "--shard", "2/2"], "'2/2' is not I/N"),
        (["finish", "JOB", "map.tif", "--shard", "0/2"], "one file is written by one process"),
        (["status", "absent"], "make it with flair-job plan"),
    ],
)
def test_what_is_refused(job, folder, words, said):
    code, out, err = job(*(folder if word == "JOB" else word for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_options_of_plan_are_those_of_flair_run():
    ours = {option.name: option for option in command.commands["plan"].params}
    theirs = {option.name: option for option in run_command_of_one.params}
    choices = {f.name for kind in (Inputs, ReadOptions, RunOptions) for f in fields(kind)}
    choices -= {"images", "plan", "plan_sha256"}  # an argument, and what a job settles
    assert choices <= ours.keys()
    maps = {"bbox", "aoi", "aoi_layer", "cog", "co", "labels", "per_input", "stac", "acquired"}
    for name in {*choices, *maps, "model"}:
        assert ours[name].to_info_dict() == theirs[name].to_info_dict()
    assert {f.name for f in fields(MapOptions)} - ours.keys() == {
        "whole_cores", "overwrite", "resume", "report", "preview",
    }  # fmt: skip


def test_the_options_of_these_tests_are_those_of_the_others():
    assert (CPU.engine, CPU.device, CPU.threads, CPU.batch) == ("ort", "cpu", 1, 2)
