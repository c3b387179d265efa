"""Stand-ins for Windows and macOS: what Linux alone has is gone, and Windows' refusals are made.

Only `flair_engine.system` is told of another platform: libraries stay those of Linux.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import filelock
import onnxruntime

from flair_engine import system

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

BEFORE = (filelock, onnxruntime)
"""Libraries that are imported before modules go: they are those of Linux."""
NO_MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
"""Modules that Windows lacks, but for `posix`, which Python itself is made of here."""
NO_CALLS = (
    *("fchmod", "fork", "geteuid", "getuid", "mkfifo", "register_at_fork", "sched_getaffinity"),
    *("sysconf", "wait4", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK"),
)
"""What `os` lacks there."""
O_BINARY = 1 << 30
"""What it has more: without it a descriptor turns line ends into others."""
FORBIDDEN = '<>:"|?*'
"""Characters that no name may hold there."""


def windows(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Have the engine believe it is on Windows; return the `os` that its `system` sees.

    Folders cannot be opened, and what this process has open, by GDAL too, can neither be renamed,
    nor replaced, nor deleted, nor can a folder that it lies in.
    """
    monkeypatch.setattr(system, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(system, "PATIENCE_S", 0.1)
    real_open = os.open

    def opening(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        unnamed = flags & os.O_TMPFILE == os.O_TMPFILE  # filelock's, for Linux
        if Path(path).is_dir() and not unnamed:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags & ~O_BINARY, *rest, **options)

    monkeypatch.setattr(os, "open", opening)
    for name in ("remove", "rename", "replace", "rmdir", "unlink"):
        monkeypatch.setattr(os, name, _refusing(getattr(os, name)))
        if hasattr(Path, name):  # CPython 3.10 has kept the functions of os
            monkeypatch.setattr(Path, name, _refusing(getattr(Path, name)))
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    for name in NO_MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    kernel32 = SimpleNamespace(GlobalMemoryStatusEx=_memory_status)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    its_os = ModuleType("os")
    its_os.__dict__.update({k: v for k, v in vars(os).items() if k not in NO_CALLS})
    its_os.O_BINARY = O_BINARY
    monkeypatch.setattr(system, "os", its_os)
    return its_os


MEMORY_BYTES, FREE_BYTES = 24 * 2**30, 9 * 2**30
"""What the double of Windows says of its memory."""


def _memory_status(status: Any) -> int:
    """Fill a MEMORYSTATUSEX: 4 bytes of its length and 4 of the load, then seven numbers of 8."""
    words = status._obj
    assert words[0] == ctypes.sizeof(words) == 64
    words[1:3] = [MEMORY_BYTES, FREE_BYTES]
    return 1


def control_groups(
    monkeypatch: pytest.MonkeyPatch, folder: Path, groups: str, files: Mapping[str, str]
) -> None:
    """Have Linux say that this process is in control groups; write files of them by their paths.

    `groups` are the lines of /proc/self/cgroup.
    """
    own = folder / "own"
    own.write_text(groups)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    monkeypatch.setattr(system, "OWN_CGROUPS", own)
    monkeypatch.setattr(system, "CGROUPS", folder)


def macos(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Have the engine believe it is on macOS; return what is asked of `fcntl` from now on."""
    asked: list[tuple[int, int]] = []
    fcntl = ModuleType("fcntl")
    fcntl.F_FULLFSYNC = 51
    fcntl.fcntl = lambda descriptor, what: asked.append((descriptor, what))
    monkeypatch.setattr(system, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setitem(sys.modules, "fcntl", fcntl)
    return asked


def _refusing(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        for path in arguments:
            if isinstance(path, (str, Path)) and held(Path(path)):
                raise PermissionError(13, "The process cannot access the file", str(path))
        return real(*arguments, **options)

    return call


def held(path: Path) -> list[str]:
    """Return which files at or below a path this process has open."""
    place = path.parent.resolve() / path.name
    return [name for name in _open_files() if Path(name) == place or place in Path(name).parents]


def _open_files() -> list[str]:
    names = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with suppress(OSError):  # the one that lists them
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    return names
