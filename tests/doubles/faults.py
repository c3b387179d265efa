"""Faults of a disk, put between a process and its calls for files below one folder.

Opening, writing, putting on disk, renaming, deleting, making folders and what GDAL is asked to
write are counted together; the k-th fails, or the process dies in its place.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import rasterio
import rasterio.shutil
from rasterio.errors import RasterioIOError

if TYPE_CHECKING:
    from collections.abc import Callable

KILLED = 0
"""In the place of an error's number: the process dies at the call."""
PATHS = ("open", "replace", "rename", "unlink", "rmdir", "mkdir")
"""Functions of `os` whose first argument is a path."""


class Fault(NamedTuple):
    """What fails, and when."""

    folder: str
    """Calls for files below it are counted."""
    number: int
    """Of the call that fails, from 1; 0 for none."""
    error: int
    """Number of the error, KILLED for none."""
    lasting: bool = False
    """Every later call fails too."""


def inject(fault: Fault) -> Callable[[], int]:
    """Let calls of this process fail from now on; return what counts them."""
    lock = threading.Lock()
    count = 0
    inside = threading.local()

    def meet(kind: type[Exception] = OSError, before: Callable[[], object] | None = None) -> None:
        nonlocal count
        with lock:
            count += 1
            met = count == fault.number or (fault.lasting and 0 < fault.number < count)
        if not met:
            return
        if before:
            with suppress(OSError):
                before()
        if fault.error == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        text = os.strerror(fault.error)
        raise kind(fault.error, text) if kind is OSError else kind(text)

    def below(path: object) -> bool:
        if getattr(inside, "busy", False) or not isinstance(path, (str, os.PathLike)):
            return False
        return os.path.abspath(os.fspath(path)).startswith(fault.folder)  # noqa: PTH100

    def on_paths(known: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: object, *rest: Any, **options: Any) -> Any:
            if below(path) or ("dir_fd" in options and options["dir_fd"] is not None):
                meet()
            return known(path, *rest, **options)

        return call

    class Raw(io.FileIO):
        """A file whose writes are counted; one that fails leaves half of what it was given."""

        def write(self, data: Any) -> int:
            meet(before=lambda: super(Raw, self).write(bytes(data)[: len(data) // 2]))
            return super().write(data)

    open_file, sync = io.open, os.fsync

    def opened(path: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
        if not below(path):
            return open_file(path, mode, buffering, *rest, **options)
        meet()
        if mode in ("w+b", "r+b"):
            return io.BufferedRandom(Raw(path, mode))  # type: ignore[arg-type]
        if mode == "w":
            return io.TextIOWrapper(io.BufferedWriter(Raw(path, mode)), **options)
        return open_file(path, mode, buffering, *rest, **options)

    def synced(descriptor: int) -> None:
        meet()
        sync(descriptor)

    def gdal_writes(known: Callable[..., Any], place: int) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            writes = place == 1 or given[1:2] == ("w",)
            if writes and below(given[place]):
                meet(RasterioIOError, before=lambda: _half_a_file(given[place]))
            return known(*given, **options)

        return call

    def _half_a_file(path: Any) -> None:
        with open_file(path, "wb") as file:
            file.write(b"II*\0\x08\0\0\0\xff\xff")

    for name in PATHS:
        setattr(os, name, on_paths(getattr(os, name)))
    os.fsync = synced
    io.open = builtins.open = opened
    rasterio.open = gdal_writes(rasterio.open, 0)
    rasterio.shutil.copy = gdal_writes(rasterio.shutil.copy, 1)
    return lambda: count
