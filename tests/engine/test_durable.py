"""Files are on disk before they get their name, and nothing is left where that fails."""

import errno
import os
import stat
from pathlib import Path

import pytest
from doubles.paths import listing

from flair_engine.durable import beside, publish, sync, sync_folder, write_whole


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


REAL_FSYNC = os.fsync


def folders_answer(number):
    """Return an fsync that answers an error for folders alone."""

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        REAL_FSYNC(descriptor)

    return fsync


@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF"])
def test_a_file_system_that_puts_no_folders_on_disk(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "fsync", folders_answer(getattr(errno, name)))
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert listing(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT", "ESTALE"])
def test_a_folder_that_the_disk_refuses(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "fsync", folders_answer(getattr(errno, name)))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
        sync_folder(tmp_path)


def test_a_folder_that_may_be_written_but_not_read(tmp_path, monkeypatch):
    real = os.open

    def refuses(path, *rest):
        if Path(path) == tmp_path:  # root may read anything
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuses)
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_an_absent_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file"):
        sync_folder(tmp_path / "absent")


def test_what_belonged_to_the_old_file_goes_before_the_new_name_comes(tmp_path, monkeypatch):
    seen = []
    replace = Path.replace

    def noting(path, target):
        seen.append((target.name, (tmp_path / "map.ovr").exists()))
        return replace(path, target)

    monkeypatch.setattr("pathlib.Path.replace", noting)
    for name in ("map", "map.ovr", "partial"):
        (tmp_path / name).write_text(name)
    files = [(tmp_path / "partial", tmp_path / "map")]
    publish(files, remove=[tmp_path / "map.ovr", tmp_path / "map.msk"])
    assert seen == [("map", False)]
    assert listing(tmp_path) == ["map"]


def test_what_belonged_to_the_old_file_stays_where_the_disk_refuses(tmp_path, monkeypatch):
    for name in ("map", "map.ovr", "partial"):
        (tmp_path / name).write_text(name)

    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        publish([(tmp_path / "partial", tmp_path / "map")], remove=[tmp_path / "map.ovr"])
    assert listing(tmp_path) == ["map", "map.ovr", "partial"]


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
