"""The folder of what the engine keeps between runs, and files in it that nobody else has made.

A plan can hold code that is executed, and an agreement says that an engine may be used: a folder
that somebody else could write to or replace is refused, and so is each file: it has to be a file,
no link, of this user or root, that nobody else may write to.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from flair_engine.errors import EngineError
from flair_engine.system import (
    cache_folder,
    open_no_follow,
    others_may_replace,
    others_may_write,
    owner_is_trusted,
)

if TYPE_CHECKING:
    from pathlib import Path

SIDECAR_BYTES = 1 << 20
"""Of a JSON file in the folder."""


class DistrustedError(Exception):
    """A file in the folder that somebody else may have made; said for people."""


def default_folder() -> Path:
    """Return `flair-engine/plans` in the user's cache folder. Raises OSError without a home."""
    return cache_folder() / "flair-engine" / "plans"


def usual_folder(given: Path | None) -> Path:
    """Return the folder that is given, else the user's. Raises EngineError without a home."""
    try:
        return given or default_folder()
    except OSError as error:
        raise _unmade(given, error) from error


def own_folder(given: Path | None) -> Path:
    """Make a folder where it is absent, and refuse one in which others could place a plan."""
    try:
        folder = given or default_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        above = dict.fromkeys((*folder.absolute().parents, *folder.resolve().parents))
        parents = {parent: parent.stat() for parent in above}
    except OSError as error:
        raise _unmade(given, error) from error
    if not owner_is_trusted(status):
        raise EngineError(
            f"{folder}: belongs to user {status.st_uid}, not to you, and plans can hold code",
            "give a folder of your own with --plan-cache",
        )
    if others_may_write(status):
        raise EngineError(
            f"{folder}: others can write to it (mode {_mode(status)}), and plans can hold code",
            f"run chmod go-w {folder}, or give another folder with --plan-cache",
        )
    for parent, status in parents.items():
        if others_may_replace(status):
            raise EngineError(
                f"{folder}: lies in {parent}, where everybody can put another in its place "
                f"(mode {_mode(status)}), and plans can hold code",
                "give a folder elsewhere with --plan-cache",
            )
    return folder


def _unmade(given: Path | None, error: OSError) -> EngineError:
    return EngineError(
        f"{given or 'plans'}: the folder for plans cannot be made ({error.strerror})",
        "give a writable folder with --plan-cache",
    )


def read_own(path: Path) -> bytes:
    """Return the bytes of a file that nobody but this user and root can have made.

    What is checked is the file that is read, whatever its name stands for meanwhile. Raises
    DistrustedError, FileNotFoundError, OSError.
    """
    return _read(path, own=True)


def read_any(path: Path) -> bytes:
    """Return the bytes of a file whoever has made it: who asks knows what they have to be.

    Raises DistrustedError where it is a link or no regular file, FileNotFoundError, OSError.
    """
    return _read(path, own=False)


def _read(path: Path, *, own: bool) -> bytes:
    try:
        descriptor = open_no_follow(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DistrustedError("is a symbolic link") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DistrustedError("is no regular file")
        if own and not owner_is_trusted(status):
            raise DistrustedError(f"belongs to user {status.st_uid}")
        if own and others_may_write(status):
            raise DistrustedError(f"can be written by others (mode {_mode(status)})")
        return file.read()


def not_used(path: Path, error: DistrustedError | OSError) -> str:
    """Say why a file is not used, as the end of a sentence."""
    if isinstance(error, OSError):
        return f"{path} cannot be read ({error.strerror or error})"
    return f"{path} {error}, and plans can hold code"


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):o}"
