"""The folder of what is kept between runs; what is refused in it is tested with plans too."""

import os

import pytest

from flair_engine.errors import EngineError
from flair_engine.inference.kept import default_folder, own_folder, read_own


def test_the_default_folder_follows_the_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "flair-engine" / "plans"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "flair-engine" / "plans"


def test_a_folder_where_the_user_has_no_home(monkeypatch):
    def no_home():
        raise OSError(2, "the user has no home folder")

    monkeypatch.setattr("flair_engine.inference.kept.default_folder", default_folder)
    monkeypatch.setattr("flair_engine.inference.kept.cache_folder", no_home)
    with pytest.raises(EngineError, match=r"cannot be made \(the user has no home .*--plan-cache"):
        own_folder(None)


def test_the_file_that_is_checked_is_the_file_that_is_read(tmp_path, monkeypatch):
    """Its name stands for another file as soon as it is open."""
    path = tmp_path / "some.plan"
    path.write_bytes(b"plan")
    really = os.fstat

    def swap(descriptor):
        path.unlink(missing_ok=True)
        path.write_bytes(b"another")
        return really(descriptor)

    found = read_own(path)
    monkeypatch.setattr("os.fstat", swap)
    assert read_own(path) == found == b"plan"
