"""Locks of files, where the file system has them: network drives may refuse, or know none."""

from __future__ import annotations

import errno
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import filelock

from flair_engine.options import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What a file system answers that knows no locks (flock(2))."""


@contextmanager
def locked(
    path: Path, *, waiting: Callable[[], None] | None = None, mode: int = 0o644
) -> Iterator[None]:
    """Hold a lock that ends with the process; none where the file system knows none.

    Where another process holds it, `waiting` is called before it is waited for; without that
    filelock.Timeout is raised. Raises OSError where the lock cannot be made.
    """
    lock = filelock.FileLock(path, mode=mode)
    try:
        with warnings.catch_warnings():
            # Without flock a file would stand for the lock, and outlive a process that is killed.
            warnings.filterwarnings("error", "flock not supported", UserWarning)
            _acquire(lock, waiting or silent, wait=waiting is not None)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    except UserWarning:
        pass
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, waiting: Callable[[], None], *, wait: bool) -> None:
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not wait:
            raise
        waiting()
        lock.acquire(timeout=-1)
