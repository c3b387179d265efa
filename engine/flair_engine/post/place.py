"""Places that flair-post writes to: refused before the first pixel, filled at the end."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import filelock

from flair_engine.durable import publish
from flair_engine.errors import OutputError, WriteError
from flair_engine.locking import locked
from flair_engine.mapping.standing import stands

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LOCK = "lock"
RUN_AGAIN = "check the free space of the disk, then run it again"


def check_file(
    path: Path, suffixes: Sequence[str], is_ours: Callable[[Path], bool], *, overwrite: bool
) -> None:
    """Raise OutputError unless a file that ends in one of `suffixes` can be put at `path`.

    One that stands there is replaced where it is ours and `overwrite` says so.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", f"give a name ending in {' or '.join(suffixes)}")
    if path.suffix.lower() not in suffixes:
        raise OutputError(
            f"{path}: ends in {path.suffix or 'nothing'}, expected {' or '.join(suffixes)}",
            "give another name",
        )
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist", "create it first")
    if stands(path) and not is_ours(path):
        raise OutputError(
            f"{path}: exists already and is not of flair-engine", "give a name that does not exist"
        )
    if stands(path) and not overwrite:
        raise OutputError(f"{path}: exists already", "use --overwrite, or another name")


@contextmanager
def workplace(output: Path, command: str = "flair-post") -> Iterator[Path]:
    """Yield a hidden folder beside an output, empty, and remove it at the end.

    It is named after the `command` that works there. What a kill has left of an earlier one is
    removed first. Raises OutputError where another
    process is writing the same output, or the folder cannot be made.
    """
    folder = output.with_name(f".{output.name}.{command}")
    try:
        folder.mkdir(exist_ok=True)
        held = ExitStack()
        held.enter_context(locked(folder / LOCK))
    except filelock.Timeout as error:
        raise OutputError(
            f"{output}: another {command} is writing it", "wait for it, or give another name"
        ) from error
    except OSError as error:
        raise OutputError(
            f"{output}: nothing can be written beside it ({error.strerror})", "give another folder"
        ) from error
    try:
        for leftover in folder.iterdir():
            if leftover.name != LOCK:
                leftover.unlink()
        yield folder
    finally:
        held.close()
        shutil.rmtree(folder, ignore_errors=True)


def put(files: Sequence[tuple[Path, Path]], remove: Sequence[Path] = ()) -> None:
    """Give finished files their names, the last one last. Raises WriteError."""
    try:
        publish(files, remove=remove)
    except OSError as error:
        raise WriteError(
            f"{files[-1][1]}: cannot be put in place ({error.strerror})",
            "check the folder and the free space of the disk, then run it again",
        ) from error
