"""Files are on disk before they get their name, and nothing is left where that fails."""

import os
from pathlib import Path

import pytest
from doubles.paths import listing

from flair_engine.durable import beside, publish, sync, write_whole


@pytest.fixture
def calls(monkeypatch):
    """Note what is put on disk and what is renamed, in order."""
    noted = []
    fsync, replace = os.fsync, Path.replace

    def noting_fsync(descriptor):
        noted.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def noting_replace(path, target):
        noted.append(("replace", str(target)))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr("pathlib.Path.replace", noting_replace)
    return noted


def test_all_is_on_disk_before_the_first_name_and_the_folder_last(tmp_path, calls):
    names = ["one", "two"]
    for name in names:
        (tmp_path / f"{name}.partial").write_text(name)
    publish([(tmp_path / f"{name}.partial", tmp_path / name) for name in names])
    assert [kind for kind, _ in calls] == ["fsync", "fsync", "replace", "replace", "fsync"]
    assert [path for kind, path in calls if kind == "replace"] == [
        str(tmp_path / name) for name in names
    ]
    assert calls[-1] == ("fsync", str(tmp_path))
    assert listing(tmp_path) == names


def test_a_file_is_replaced_whole(tmp_path, calls):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert listing(tmp_path) == ["file"]
    assert [kind for kind, _ in calls] == ["fsync", "replace", "fsync"]


def test_what_was_there_stays_where_the_disk_refuses(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file"]


def test_an_open_file_is_put_on_disk(tmp_path, calls):
    with (tmp_path / "file").open("wb") as file:
        file.write(b"some")
        sync(file)
        assert (tmp_path / "file").read_bytes() == b"some"
    assert calls == [("fsync", str(tmp_path / "file"))]


def test_temporary_names_are_hidden_and_in_the_same_folder(tmp_path):
    name = beside(tmp_path / "map.tif")
    assert name.parent == tmp_path
    assert name.name.startswith(".map.tif.")
