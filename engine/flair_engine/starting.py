"""The start of a command: what stands before anything heavy is imported.

Descriptors that are closed, signals during imports, and imports that fail.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from flair_engine import signals
from flair_engine.errors import FAILED, REFUSED

BASE_BYTES = 2**30
"""Addresses that a run takes but for its threads: 0.7 GB seen, of a small model."""


def start(module: str, name: str) -> None:
    """Import a module of a command called `name` and call its `main`, which ends the process."""
    hold_descriptors()
    signals.end_at_once(name)
    if not _has_addresses(name):
        sys.exit(REFUSED)
    try:
        main = import_module(module).main
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        said = " ".join(str(error).split())[:500]
        line = f"{name}: cannot start ({type(error).__name__}: {said}): install it again\n"
        _print_error(line)
        sys.exit(FAILED)
    main()


def _has_addresses(name: str) -> bool:
    """Return whether `ulimit -v` leaves enough for what is imported, which aborts else."""
    from flair_engine.system import address_space_bytes

    limit = address_space_bytes()
    if limit is None or limit >= BASE_BYTES:
        return True
    _print_error(
        f"{name}: this process may have {limit / 2**30:.2f} GiB of addresses, to start takes "
        f"{BASE_BYTES / 2**30:.2f}: raise ulimit -v\n"
    )
    return False


def hold_descriptors() -> None:
    """Open the null device as stdin, stdout and stderr where they are closed.

    Else the next file that is opened gets the descriptor, and whatever a library prints with it.
    """
    for descriptor in range(3):
        if not _is_open(descriptor):
            os.open(os.devnull, os.O_RDWR)  # gets the lowest that is free
    for descriptor, stream in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, stream) is None:
            opened = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, stream, opened)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _print_error(line: str) -> None:
    try:
        os.write(2, line.encode(errors="replace"))
    except OSError:  # nobody is told; the exit code says it
        return
