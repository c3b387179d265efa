"""The operating system: what is not the same on Linux, macOS and Windows, and nowhere else.

The engine runs on Linux. What stands here for others is checked by types, and with doubles that
lack what they lack; README.md says so.
"""

from __future__ import annotations

import errno
import math
import os
import platform
import shutil
import stat
import sys
import time
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 2.0
"""Seconds that a rename waits on Windows for others to close a file: scanners and indexers open
whatever is new."""
PAUSE_S = 0.05
WRITERS = stat.S_IWGRP | stat.S_IWOTH
"""Bits of a mode that let others than the owner write."""
MEMINFO = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux mounts control groups, those of version 1 in a folder for each controller."""
PROCESSES = Path("/proc")
BOOT_ID = PROCESSES / "sys/kernel/random/boot_id"
PID_NAMESPACE = PROCESSES / "self/ns/pid"
ENDED = ("Z", "X")
"""States of a process that is over: proc(5)."""
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of versions 2 and 1: limit, use, and what of the use is files that can be read again."""


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
    """Return the number of CPUs this process may use, which a container can make few.

    A share of a CPU's time counts as one.
    """
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *(math.ceil(quota) for quota in _cpu_quotas())]))


def memory_bytes() -> int:
    """Return the size of the machine's memory, of a container what it may have of it."""
    if sys.platform == "win32":
        return _windows_memory()[0]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _memory_limits())])


def free_memory_bytes() -> int:
    """Return the memory that this process may still take without anything being swapped out.

    On macOS, which does not say it in a file, all of the machine's.
    """
    if sys.platform == "win32":
        return _windows_memory()[1]
    lines = MEMINFO.read_text(encoding="ascii").splitlines() if MEMINFO.exists() else []
    kib = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    machine = kib[0] * 1024 if kib else memory_bytes()
    return max(0, min([machine, *(limit - used for limit, used in _memory_limits())]))


def _windows_memory() -> tuple[int, int]:
    """Return the bytes of the machine's memory, and those that are free."""
    import ctypes

    # MEMORYSTATUSEX: its own length and the load in 8 bytes, then ullTotalPhys, ullAvailPhys and
    # five more.
    words = (ctypes.c_uint64 * 8)(64)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(words))  # type: ignore[attr-defined, unused-ignore]
    return words[1], words[2]


def _cpu_quotas() -> Iterator[float]:
    """Yield how many CPUs' time each control group of this process may take, of those with a limit.

    See cpu.max of version 2 and cpu.cfs_quota_us of version 1 in the kernel's documentation.
    """
    for folder in _control_groups("cpu"):
        limits = _words(folder / "cpu.max")
        if not limits:
            limits = _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(limits) == 2 and limits[0].isdecimal() and int(limits[1]):
            yield int(limits[0]) / int(limits[1])


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Yield the bytes that each control group of this process may have, and has."""
    for folder in _control_groups("memory"):
        for limit_file, used_file, files in MEMORY_FILES:
            limit, used = _words(folder / limit_file), _words(folder / used_file)
            if limit and used and limit[0].isdecimal():
                facts = _words(folder / "memory.stat")
                kept = dict(zip(facts[::2], facts[1::2], strict=True)).get(files, "0")
                yield int(limit[0]), max(0, int(used[0]) - int(kept))


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of those that they are in.

    A container may see itself at the root.
    """
    if sys.platform != "linux" or not OWN_CGROUPS.exists():
        return
    for line in OWN_CGROUPS.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        place = root / path.lstrip("/")
        yield from (each for each in (place, *place.parents) if each.is_relative_to(root))


def _words(path: Path) -> list[str]:
    """Return the words of a small file, none where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def process_place() -> str:
    """Return what processes share that see one another's numbers: boot and namespace of Linux.

    Nothing where that is not known.
    """
    try:
        boot = BOOT_ID.read_text(encoding="ascii").strip()
        return f"{boot} {os.stat(PID_NAMESPACE).st_ino}"  # noqa: PTH116  a link to no file
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Return whether there is a process of a number, where `process_place` is known.

    One that has ended, and whose parent has not asked how, is none.
    """
    try:
        os.kill(pid, 0)
        state = (PROCESSES / str(pid) / "stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except PermissionError:  # of another user, who may hide more
        return True
    except (OSError, IndexError):
        return False
    return state not in ENDED


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


def has_nvidia_driver() -> bool:
    """Return whether an NVIDIA GPU can be expected here, whatever Python knows of it."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def peak_bytes(maxrss: int) -> int:
    """Return the bytes of `ru_maxrss`, which macOS counts in bytes, Linux in KiB: getrusage(2)."""
    return maxrss if sys.platform == "darwin" else maxrss * 1024
