"""Environments are made, filled and weighed; the demo runs in the last."""

from pathlib import Path

import pytest
from doubles.paths import ROOT

from flair_bench import processes
from flair_bench.measure import install
from flair_bench.processes import Outcome


@pytest.fixture
def commands(monkeypatch):
    """Note the commands; pip leaves a package of 2 MiB and one of CUDA's of 1 MiB."""
    seen = []

    def run(command):
        seen.append(command)
        if "venv" in command:
            packages = Path(command[-1]) / "lib" / "python3.99" / "site-packages"
            packages.mkdir(parents=True)
        if "pip" in command:
            (packages,) = Path(command[0]).parents[1].glob("lib/python*/site-packages")
            for name, mib in (("numpy", 2), ("nvidia_x", 1)):
                (packages / name).mkdir()
                (packages / name / "library").write_bytes(bytes(mib * 2**20))
        return Outcome(wall_s=2.0, cpu_s=1.0, peak_mib=1.0, printed="")

    monkeypatch.setattr(processes, "run_measured", run)
    return seen


def test_environments_are_weighed_and_the_demo_runs_in_the_last(commands, tmp_path):
    said = []
    figures = install.measure(tmp_path, said.append)
    assert list(figures.environments) == list(install.EXTRAS)
    for found in figures.environments.values():
        assert (found.mib, found.cuda_mib, found.install_s) == (3.0, 1.0, 4.0)
    assert figures.demo_s == 2.0
    assert said[-1] == "the demo"
    assert commands[1][-1] == f"{ROOT}[cpu]"
    assert commands[-1][0] == str(tmp_path / "cpu-export-dev" / "bin" / "python")


def test_extras_are_those_of_the_project():
    from importlib import metadata

    known = set(metadata.metadata("flair-engine").get_all("Provides-Extra"))
    assert {name for extras in install.EXTRAS for name in extras.split(",")} <= known
