"""The journal of a run: finished strips on disk, written so that a torn one is known.

A run keeps a hidden folder beside its output: `run.json` says what the run is, `strips.bin` holds
the labels of finished strips, one record after the other: a line of JSON that describes it, then
the packed pixels. A record counts once it is whole on disk; what a power cut tears off at the end
is dropped. A run that is resumed must be the same run in everything that could change a label.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
import time
import zlib
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

import filelock

from flair_engine.durable import sync, write_whole
from flair_engine.errors import OutputError, WriteError
from flair_engine.mapping.run_lengths import count_packed, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

JOURNAL_SCHEMA = 2
"""Number of the layout of the two files; CONTRIBUTING.md says when it goes up."""

RUN_FILE = "run.json"
STRIPS_FILE = "strips.bin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One record: one output of one strip."""

    panel: int
    """Number of the panel in the run."""
    i: int
    """Row of cores."""
    name: str
    """Output of the model."""
    shape: tuple[int, ...]
    length: int
    """Bytes of packed pixels."""
    crc32: int
    """Of the packed pixels."""


class AbandonedError(Exception):
    """The run has failed: the strip that was waited for will not come."""


class Journal(AbstractContextManager["Journal"]):
    """The finished strips of one run, appended by one thread and loaded by another.

    Opening starts a run, or with `resume` continues the one that is there. `identity` is what
    must be equal for that, by name. Raises OutputError where another run is at work on the same
    output, where an unfinished run would be lost, or where the run to resume is another; WriteError
    where the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        started: str,
        resume: bool,
        restart: bool,
    ) -> None:
        self.folder = folder
        self.started = started
        self._records: dict[tuple[int, int, str], tuple[Entry, int]] = {}
        self._end = 0
        self.waited_s = 0.0
        """Seconds that `load` has waited for strips."""
        self._changed = threading.Condition()
        self._abandoned = False
        self._files: list[IO[Any]] = []
        self._lock = filelock.FileLock(folder / "lock", timeout=0)
        # JSON turns tuples into lists: compare what will be read back.
        identity = json.loads(json.dumps(identity))
        try:
            folder.mkdir(exist_ok=True)
            self._acquire(folder)
            if unfinished(folder) and not resume and not restart:
                raise OutputError(
                    f"{folder}: holds an unfinished run",
                    "continue it with --resume, or start again with --overwrite",
                )
            if resume and unfinished(folder):
                self._continue(identity)
            else:
                self._start(identity)
        except OSError as error:
            self.close()
            raise _disk_error(folder, error) from error
        except OutputError:
            self.close()
            raise

    def append(self, panel: int, i: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Put the outputs of a finished strip on disk. Raises WriteError."""
        records = [_record(panel, i, name, array) for name, array in outputs.items()]
        try:
            self._strips.seek(self._end)
            for _, line, packed in records:
                self._strips.write(line)
                self._strips.write(packed)
            sync(self._strips)
        except OSError as error:
            raise _disk_error(self.folder, error) from error
        with self._changed:
            for entry, line, _ in records:
                self._note(entry, self._end + len(line))
            self._changed.notify_all()

    def load(self, panel: int, i: int, name: str) -> np.ndarray:
        """Return uint8 [bands, rows, columns] of an output of a strip; wait for it to be finished.

        Raises WriteError where it is damaged, AbandonedError once the run is abandoned.
        """
        began = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or (panel, i, name) in self._records)
        self.waited_s += time.perf_counter() - began
        if self._abandoned:
            raise AbandonedError(f"strip {i} of panel {panel} is not wanted any more")
        return unpack(self._packed(panel, i, name), self._records[panel, i, name][0].shape)

    def abandon(self) -> None:
        """Let `load` wait no longer: no strips will come."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def counts(self, name: str) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yield of each strip its (panel, i) and how many pixels of an output have each value.

        Counts are int64 [256]. Raises WriteError where a strip is damaged.
        """
        for panel, i, output in self._records:
            if output == name:
                yield (panel, i), count_packed(self._packed(panel, i, name))

    def finished(self, outputs: tuple[str, ...]) -> set[tuple[int, int]]:
        """Return the (panel, i) of the strips that have every output."""
        strips = {(panel, i) for panel, i, _ in self._records}
        return {s for s in strips if all((*s, name) in self._records for name in outputs)}

    def remove(self) -> None:
        """Close and delete the folder: the run is complete.

        Renamed first, so that a kill meanwhile leaves no run that looks unfinished.
        """
        self.close()
        done = done_folder(self.folder)
        shutil.rmtree(done, ignore_errors=True)  # what an earlier kill left
        self.folder.replace(done)
        shutil.rmtree(done)

    def close(self) -> None:
        """Close the files and give up the lock; a second call does nothing."""
        while self._files:
            # A full disk refuses what is still buffered; the journal does not count on it.
            with contextlib.suppress(OSError):
                self._files.pop().close()
        self._lock.release()

    def __exit__(self, *_error: object) -> None:
        self.close()
        if not self._records:  # nothing that would be lost
            shutil.rmtree(self.folder, ignore_errors=True)

    def _acquire(self, folder: Path) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise OutputError(
                f"{folder}: another run is writing this output", "wait for it, or give another name"
            ) from error

    def _start(self, identity: Mapping[str, Any]) -> None:
        (self.folder / RUN_FILE).unlink(missing_ok=True)
        self._open("w+b")
        record = {"schema": JOURNAL_SCHEMA, "started": self.started, "identity": identity}
        write_whole(self.folder / RUN_FILE, json.dumps(record, indent=2).encode())

    def _continue(self, identity: Mapping[str, Any]) -> None:
        record = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
        if record.get("schema") != JOURNAL_SCHEMA:
            raise OutputError(
                f"{self.folder}: the unfinished run is of layout {record.get('schema', 'none')}, "
                f"this engine continues {JOURNAL_SCHEMA}",
                "start again with --overwrite",
            )
        known = record["identity"]
        if other := [key for key in {**known, **identity} if known.get(key) != identity.get(key)]:
            raise OutputError(
                f"{self.folder}: the unfinished run differs in "
                + "; ".join(f"{key} ({known.get(key)}, now {identity.get(key)})" for key in other),
                "run it as it was, or start again with --overwrite",
            )
        self.started = record["started"]
        self._open("r+b")
        size = os.fstat(self._strips.fileno()).st_size
        while line := self._strips.readline():
            entry = _entry(line)
            start = self._end + len(line)
            if entry is None or start + entry.length > size:
                break
            self._note(entry, start)
            self._strips.seek(self._end)
        self._drop_torn()

    def _drop_torn(self) -> None:
        """Cut off what follows the last whole record.

        Strips before the last were on disk before it was begun; any record of the last may hold
        holes.
        """
        last = next(reversed(self._records), None)
        of_strip = [key for key in self._records if last and key[:2] == last[:2]]
        for number, key in enumerate(of_strip):
            entry, start = self._records[key]
            if self._whole(entry, start) is None:
                for torn in of_strip[number:]:
                    del self._records[torn]
                self._end = start - len(_line(entry))
                break
        self._strips.truncate(self._end)

    def _open(self, mode: str) -> None:
        path = self.folder / STRIPS_FILE
        self._strips: IO[bytes] = path.open(mode)
        self._files.append(self._strips)
        # For another thread than the one that appends; unbuffered, since the file grows.
        self._reading: IO[bytes] = path.open("rb", buffering=0)
        self._files.append(self._reading)

    def _note(self, entry: Entry, start: int) -> None:
        self._records[entry.panel, entry.i, entry.name] = entry, start
        self._end = start + entry.length

    def _packed(self, panel: int, i: int, name: str) -> bytes:
        packed = self._whole(*self._records[panel, i, name])
        if packed is None:
            raise WriteError(
                f"{self.folder / STRIPS_FILE}: strip {i} of panel {panel} was damaged on disk",
                "start again with --overwrite",
            )
        return packed

    def _whole(self, entry: Entry, start: int) -> bytes | None:
        """Return the packed pixels of a record, None where they are not what was appended."""
        self._reading.seek(start)
        packed = self._reading.read(entry.length)
        return packed if zlib.crc32(packed) == entry.crc32 else None


def done_folder(folder: Path) -> Path:
    """Return what the folder of a run is called while it is deleted."""
    return folder.with_name(f"{folder.name}.done")


def unfinished(folder: Path) -> bool:
    """Return whether `folder` holds a run that has finished some of its strips."""
    strips = folder / STRIPS_FILE
    return (folder / RUN_FILE).exists() and strips.exists() and strips.stat().st_size > 0


def _record(panel: int, i: int, name: str, array: np.ndarray) -> tuple[Entry, bytes, bytes]:
    packed = pack(array)
    entry = Entry(
        panel=panel,
        i=i,
        name=name,
        shape=array.shape,
        length=len(packed),
        crc32=zlib.crc32(packed),
    )
    return entry, _line(entry), packed


def _entry(line: bytes) -> Entry | None:
    """Return what a line of the journal says, None where it was not written whole."""
    try:
        fields = json.loads(line)
        return Entry(**{**fields, "shape": tuple(fields["shape"])})
    except (ValueError, TypeError, KeyError):
        return None


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"


def _disk_error(folder: Path, error: OSError) -> WriteError:
    if error.errno == errno.ENOSPC:
        return WriteError(
            f"{folder}: the disk is full", "free some space, then continue with --resume"
        )
    return WriteError(
        f"{folder}: cannot be written ({error.strerror})", "check the folder, then use --resume"
    )
