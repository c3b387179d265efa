"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP alike, each once and with its exit code.

Light to import: handlers stand before anything heavy is loaded.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
import weakref

TYPE_CHECKING = False  # to import typing takes as long as all else here
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
"""Signals that end a command, and what is said then. Some systems lack some."""

CTRL_C = int(signal.SIGINT)

ENDING_S = 30.0
"""Seconds that a command has to end in order after a signal. An exception may come to any line of
the main thread, also between taking a lock and noting that it was taken: then threads that are
waited for wait for that lock. What is finished is on disk, so nothing is lost by not waiting."""

_set: dict[int, Any] = {}
"""By signal the handler last set here."""
_received: list[int] = []
_raised: list[weakref.ref[SignalError]] = []
_ending: list[object] = []
"""Holds something while a command ends in order."""


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


def raise_once(last_words: Callable[[int], None] | None = None) -> None:
    """Have a signal raise SignalError in the main thread, and others be ignored while it ends.

    A second one would stop the waiting for threads, and the process abort under them. Where the
    first was lost, in code that lets nothing out, the next one counts. Where `ignore` is not called
    within ENDING_S of one, the process ends with its exit code after `last_words`, which are told
    its number and may take no lock.
    """
    _received.clear()
    _raised.clear()
    _ending.clear()

    def raise_error(number: int, _frame: FrameType | None) -> None:
        if _raised and _raised[-1]() is not None:
            return
        if last_words and not _ending:
            _ending.append(object())
            # Not threading.Thread, which takes locks that the main thread may hold.
            _thread.start_new_thread(_end_at_last, (number, _ending[0], last_words))
        _raise(number)

    _handle(raise_error)


def ignore() -> None:
    """Have signals change nothing any more: what is left to do takes no time."""
    _handle(signal.SIG_IGN)
    _ending.clear()


def _end_at_last(number: int, ending: object, last_words: Callable[[int], None]) -> None:
    """End the process unless the command has ended in order by then."""
    time.sleep(ENDING_S)
    if ending in _ending:
        try:
            last_words(number)
        finally:
            os._exit(128 + number)


def received() -> int | None:
    """Return the number of the first signal since `raise_once`, None where there was none."""
    return _received[0] if _received else None


def word(number: int) -> str:
    """Return what is said of a signal."""
    return WORDS[signal.Signals(number).name]


def _raise(number: int) -> None:
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
