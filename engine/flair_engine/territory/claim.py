"""Claims: which process is at work on a part, where locks of files may be absent or lie.

A claim is a file that only one process can create. Its holder touches it from time to time; one
that nobody has touched for long, or whose process is known to have died, is taken over.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from flair_engine.errors import BusyError, WriteError
from flair_engine.system import is_running, process_place

if TYPE_CHECKING:
    from pathlib import Path

BEAT_S = 10.0
"""Seconds between touches."""
STALE_S = 90.0
"""Seconds without a touch after which the holder is taken for dead: some machines hang for long
while a network drive does."""
POLL_S = 1.0
"""Seconds between looks at what another process is at work on."""


class ClaimLostError(BusyError):
    """Another process has taken over what this one was at work on."""


class Claim(AbstractContextManager["Claim"]):
    """The right to work on one thing, held until the end of the `with`.

    Raises BusyError where another process holds it, WriteError where the folder refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = uuid.uuid4().hex
        self._over = threading.Event()
        try:
            if not self._create() and not (self._take_over() and self._create()):
                raise BusyError(f"{path}: another process is at work there", "wait for it")
        except OSError as error:
            raise WriteError(
                f"{path}: cannot be written ({error.strerror})", "check the job's folder"
            ) from error
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise ClaimLostError where another process has taken over."""
        if _token_of(self.path) != self._token:
            raise ClaimLostError(
                f"{self.path}: this process stood still for long, another has taken over",
                "nothing is lost",
            )

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            if _token_of(self.path) == self._token:
                self.path.unlink()

    def _create(self) -> bool:
        """Create the file; return whether it was not there."""
        holder = {"token": self._token, "place": process_place(), "pid": os.getpid()}
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(holder))
        return True

    def _take_over(self) -> bool:
        """Move a claim away whose holder is dead; return whether this process did."""
        dead = _token_of(self.path)
        if is_held(self.path):
            return False
        aside = self.path.with_name(f".{self.path.name}.{self._token}")
        try:
            self.path.replace(aside)
        except FileNotFoundError:  # another process was faster
            return False
        moved = _token_of(aside)
        if moved != dead:  # a new claim, made since it was looked at: put back
            with suppress(OSError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
        return moved == dead

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(OSError):  # a drive that is away comes back, or the claim gets stale
                os.utime(self.path)


def is_held(path: Path) -> bool:
    """Return whether a claim stands at `path` whose holder is alive, as far as is known."""
    try:
        touched_s, text = path.stat().st_mtime, path.read_text("utf-8")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        holder = json.loads(text)
    except ValueError:  # being written
        holder = {}
    here = process_place()
    if here and holder.get("place") == here and not is_running(holder.get("pid", 0)):
        return False
    return _now_s(path) - touched_s < STALE_S


def _now_s(path: Path) -> float:
    """Return the time as the file system of a folder tells it: clocks of machines differ."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.now")
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _token_of(path: Path) -> str | None:
    """Return whose claim it is, None where there is none or it is being written."""
    try:
        token: str = json.loads(path.read_text("utf-8"))["token"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return token
