"""A job on a drive that knows no locks: whole renames and exclusive creation are enough."""

import ast
import errno
import fcntl

import pytest
from doubles.paths import ROOT
from doubles.territory import CPU, labels_of, put_together

from flair_engine.territory.finish import finish
from flair_engine.territory.part import Worker, run_parts
from flair_engine.territory.plan import plan


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_no_module_of_a_territory_locks_files():
    modules = sorted((ROOT / "engine" / "flair_engine" / "territory").glob("*.py"))
    names = {name.split(".")[0] for module in modules for name in imported(module)}
    assert modules
    assert not names & {"filelock", "fcntl", "msvcrt", "portalocker"}
    assert "flair_engine.locking" not in {name for module in modules for name in imported(module)}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_job_needs_no_locks_of_files(territory, tmp_path, monkeypatch, number):
    def refuse(*_arguments):
        raise OSError(number, "no locks available")

    for name in ("flock", "lockf"):
        monkeypatch.setattr(fcntl, name, refuse)
    row = str(territory.tiles / "t0*.tif")
    made = plan(territory.model, row, tmp_path / "job", CPU, part_px=1024)
    with Worker(made) as worker:
        assert [record.state for _, record in run_parts(worker, made.parts)] == ["done", "done"]
    left = {path.name for path in (made.folder / "parts").iterdir() if path.name.startswith(".")}
    assert not left, "folders of runs that have ended are cleared"
    finish(made, tmp_path / "all.vrt")
    finish(made, tmp_path / "all.tif")
    assert (labels_of(tmp_path / "all.tif") == put_together(made)).all()
    assert (labels_of(tmp_path / "all.vrt") == put_together(made)).all()
