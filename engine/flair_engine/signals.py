"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP alike, each once and with its exit code.

Light to import: handlers stand before anything heavy is loaded.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref

TYPE_CHECKING = False  # to import typing takes as long as all else here
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
"""Signals that end a command, and what is said then. Some systems lack some."""

CTRL_C = int(signal.SIGINT)

_set: dict[int, Any] = {}
"""By signal the handler last set here."""
_received: list[int] = []
_raised: list[weakref.ref[SignalError]] = []


class SignalError(BaseException):
    """A signal that ends the command. No KeyboardInterrupt, which click answers by itself."""


def end_at_once(name: str) -> None:
    """Have a signal end the process in one line, while there is nothing yet to be ended in order.

    An exception in the middle of an import is turned into others by what is imported, or crashes.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        line = f"{name}: {word(number)} before anything was begun\n"
        try:
            os.write(2, line.encode(errors="replace"))
        finally:
            os._exit(128 + number)

    _handle(end)


def raise_once() -> None:
    """Have a signal raise SignalError in the main thread, and others be ignored while it ends.

    A second one would stop the waiting for threads, and the process abort under them. Where the
    first was lost, in code that lets nothing out, the next one counts.
    """
    _received.clear()
    _raised.clear()
    _handle(_raise)


def ignore() -> None:
    """Have signals change nothing any more: what is left to do takes no time."""
    _handle(signal.SIG_IGN)


def received() -> int | None:
    """Return the number of the first signal since `raise_once`, None where there was none."""
    return _received[0] if _received else None


def word(number: int) -> str:
    """Return what is said of a signal."""
    return WORDS[signal.Signals(number).name]


def _raise(number: int, _frame: FrameType | None) -> None:
    if _raised and _raised[-1]() is not None:
        return
    error = SignalError(word(number))
    _received.append(number)
    _raised.append(weakref.ref(error))
    try:
        raise error
    finally:
        del error  # else it is held by its own traceback


def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Set a handler for each signal that ends a process otherwise.

    What somebody else has set stays: nohup has SIGHUP ignored, a program of its own may do else.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only there can handlers be set, and are they called
    for number in _numbers():
        ends = (signal.SIG_DFL, signal.default_int_handler, _set.get(number))
        if signal.getsignal(number) in ends:
            signal.signal(number, handler)
            _set[number] = handler


def _numbers() -> list[signal.Signals]:
    return [signal.Signals[name] for name in WORDS if hasattr(signal, name)]
