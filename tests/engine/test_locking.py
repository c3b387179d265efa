"""Locks of files, and file systems that know none."""

import errno
import fcntl
import threading

import filelock
import pytest

from flair_engine.locking import locked


def refusing(number):
    def refuse(*_arguments):
        raise OSError(number, "refused")

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_where_a_file_system_knows_no_locks_none_is_held(tmp_path, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refusing(number))
    with locked(tmp_path / "lock"), locked(tmp_path / "lock"):
        pass
    with locked(tmp_path / "lock", waiting=lambda: pytest.fail("waited")):
        pass


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "lock"):
        pass


def test_another_holder_is_waited_for_where_that_is_wanted(tmp_path):
    path, waits, entered = tmp_path / "lock", threading.Event(), threading.Event()

    def other():
        with locked(path, waiting=waits.set):
            entered.set()

    with locked(path):
        with pytest.raises(filelock.Timeout), locked(path):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(9)
        assert not entered.is_set()
    thread.join(9)
    assert entered.is_set()
