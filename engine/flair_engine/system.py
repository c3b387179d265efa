"""The operating system: what is not the same on Linux, macOS and Windows, and nowhere else.

The engine runs on Linux. What stands here for others is checked by types, and with doubles that
lack what they lack; README.md says so.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
import sys
import time
import unicodedata
from contextlib import suppress
from pathlib import Path

PATIENCE_S = 2.0
"""Seconds that a rename waits on Windows for others to close a file: scanners and indexers open
whatever is new."""
PAUSE_S = 0.05
WRITERS = stat.S_IWGRP | stat.S_IWOTH
"""Bits of a mode that let others than the owner write."""


def sync(descriptor: int) -> None:
    """Put on disk what an open file holds. Raises OSError."""
    if sys.platform == "darwin":
        import fcntl

        # As SQLite does: fsync leaves it in the drive's memory there, some disks know nothing else.
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Put on disk what was renamed in a folder. Raises OSError, where its file system cannot too.

    Windows cannot open folders, and orders renames itself.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """Give a file or a folder the name `target`, in the place of a file there. Raises OSError.

    Windows refuses while any program has one of the two open: that is waited for, not for long.
    """
    if sys.platform == "win32":
        last = time.monotonic() + PATIENCE_S
        while time.monotonic() < last:
            with suppress(PermissionError):
                source.replace(target)
                return
            time.sleep(PAUSE_S)
    source.replace(target)


def open_no_follow(path: Path) -> int:
    """Open a file to be read; return its descriptor. Raises OSError, ELOOP for a symbolic link.

    What is no file, such as a pipe, is not waited for.
    """
    if not hasattr(os, "O_NOFOLLOW") and path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    names = ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")  # the last is Windows': bytes as they are
    return os.open(path, sum(getattr(os, name, 0) for name in names) | os.O_RDONLY)


def owner_is_trusted(status: os.stat_result) -> bool:
    """Return whether a file or folder belongs to this user or to root.

    Always on Windows, where a status names no owner: what lies in a user's profile is kept from
    others by lists that it does not hold.
    """
    return sys.platform == "win32" or status.st_uid in (0, os.geteuid())


def others_may_write(status: os.stat_result) -> bool:
    """Return whether the mode of a file or folder lets others than its owner write.

    Never on Windows, where modes say nothing of others.
    """
    return sys.platform != "win32" and bool(status.st_mode & WRITERS)


def others_may_replace(status: os.stat_result) -> bool:
    """Return whether everybody may put something else in the place of what lies in a folder.

    Not in one whose sticky bit is set, such as /tmp, and not on Windows.
    """
    if sys.platform == "win32" or status.st_mode & stat.S_ISVTX:
        return False
    return bool(status.st_mode & stat.S_IWOTH)


def cache_folder() -> Path:
    """Return the folder that the system keeps for what a user's programs can make again.

    Elsewhere than on Windows and macOS it is that of the XDG specification. Raises OSError where
    the user has no home.
    """
    try:
        if sys.platform == "win32":
            return _given_folder("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches"
        return _given_folder("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise OSError(errno.ENOENT, "the user has no home folder") from error


def _given_folder(variable: str) -> Path | None:
    """Return the folder that a variable names; a relative one counts as none, as XDG has it."""
    folder = Path(os.environ.get(variable, ""))
    return folder if folder.is_absolute() else None


def folded(name: str) -> str:
    """Return what is equal for names of one file: Windows and macOS see no case, macOS no spelling.

    Disks there can be made to see it; they are taken for the usual.
    """
    if sys.platform in ("win32", "darwin"):
        return unicodedata.normalize("NFC", name).casefold()
    return name


def available_cpus() -> int:
    """Return the number of CPUs this process may use, which a container can make few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the size of the machine's memory."""
    if sys.platform == "win32":
        import ctypes

        # MEMORYSTATUSEX: its own length and the load in 8 bytes, then ullTotalPhys and six more.
        words = (ctypes.c_uint64 * 8)(64)
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(words))
        return words[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def address_space_bytes() -> int | None:
    """Return how many addresses this process may have, None where `ulimit -v` sets no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def cpu_name() -> str:
    """Return what the CPU calls itself; where that is not known, its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_bytes(maxrss: int) -> int:
    """Return the bytes of `ru_maxrss`, which macOS counts in bytes, Linux in KiB: getrusage(2)."""
    return maxrss if sys.platform == "darwin" else maxrss * 1024
