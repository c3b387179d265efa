"""Files that survive a power cut: whole on disk before they get their name."""

from __future__ import annotations

import errno
import os
import threading
from typing import IO, TYPE_CHECKING, Any

from flair_engine import system

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NO_FOLDERS = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES}
)
"""What file systems answer that put no folders on disk: network shares, FUSE. EACCES: a folder may
be written but not read, so it cannot be opened; what was renamed in it is no less there."""


def sync(file: IO[Any]) -> None:
    """Put on disk what has been written to an open file. Raises OSError."""
    file.flush()
    system.sync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Put on disk what was renamed in a folder, where its file system can. Raises OSError."""
    try:
        system.sync_folder(folder)
    except OSError as error:
        if error.errno not in NO_FOLDERS:
            raise


def publish(files: Sequence[tuple[Path, Path]], remove: Sequence[Path] = ()) -> None:
    """Give finished files their names: (temporary, target) pairs on one file system, in order.

    All are on disk before the first is renamed; what a target held is replaced, and what belonged
    to it, `remove`, is gone by then. Raises OSError.
    """
    for temporary, _ in files:
        with temporary.open("r+b") as file:  # Windows puts on disk what may be written alone
            system.sync(file.fileno())
    for path in remove:
        path.unlink(missing_ok=True)
    for temporary, target in files:
        system.replace(temporary, target)
    for folder in dict.fromkeys(target.parent for _, target in files):
        sync_folder(folder)


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Put `content` at `path`, or leave there what was; `mode` is its permissions, less the umask.

    Raises OSError.
    """
    temporary = beside(path)
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        publish([(temporary, path)])
    finally:
        temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """Return a hidden name in the same folder that no other thread or process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
