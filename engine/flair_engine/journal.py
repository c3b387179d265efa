"""What makes a run survive: finished strips on disk, written so that a torn one is known.

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
import zlib
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

import filelock
import numpy as np

from flair_engine.errors import OutputError, WriteError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

RUN_FILE = "run.json"
STRIPS_FILE = "strips.bin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One record: one output of one strip."""

    left: int
    """First raster column; names the panel."""
    i: int
    """Row of cores."""
    name: str
    """Output of the model."""
    shape: tuple[int, ...]
    length: int
    """Bytes of packed pixels."""
    crc32: int
    """Of the packed pixels."""


class Journal(AbstractContextManager["Journal"]):
    """The finished strips of one run.

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
        self._files: list[IO[Any]] = []
        self._lock = filelock.FileLock(folder / "lock", timeout=0)
        # JSON turns tuples into lists: compare what will be read back.
        identity = json.loads(json.dumps(identity))
        try:
            folder.mkdir(exist_ok=True)
            self._acquire(folder)
            if unfinished(folder) and not resume and not restart:
                raise OutputError(
                    f"{folder}: holds an unfinished run: continue it with --resume, or start again "
                    "with --overwrite"
                )
            if resume and unfinished(folder):
                self._continue(identity)
            else:
                self._start(identity)
        except OSError as error:
            self.close()
            raise WriteError(_disk(folder, error)) from error
        except OutputError:
            self.close()
            raise

    def append(self, left: int, i: int, outputs: Mapping[str, np.ndarray]) -> None:
        """Put the outputs of a finished strip on disk. Raises WriteError."""
        records = [_record(left, i, name, array) for name, array in outputs.items()]
        try:
            self._strips.seek(self._end)
            for _, line, packed in records:
                self._strips.write(line)
                self._strips.write(packed)
            _sync(self._strips)
        except OSError as error:
            raise WriteError(_disk(self.folder, error)) from error
        for entry, line, _ in records:
            self._note(entry, self._end + len(line))

    def load(self, left: int, i: int, name: str) -> np.ndarray:
        """Return uint8 [bands, rows, columns] of an output. Raises WriteError where damaged."""
        entry, _ = self._records[left, i, name]
        return unpack(self._packed(left, i, name), entry.shape)

    def count_values(self, name: str) -> np.ndarray:
        """Return how many pixels of an output have each value, int64 [256]."""
        counts = np.zeros(256, np.int64)
        for left, i, output in self._records:
            if output == name:
                counts += count_packed(self._packed(left, i, name))
        return counts

    def finished(self, outputs: tuple[str, ...]) -> set[tuple[int, int]]:
        """Return the (left, i) of the strips that have every output."""
        strips = {(left, i) for left, i, _ in self._records}
        return {s for s in strips if all((*s, name) in self._records for name in outputs)}

    def remove(self) -> None:
        """Close and delete the folder: the run is complete.

        Renamed first, so that a kill meanwhile leaves no run that looks unfinished.
        """
        self.close()
        done = self.folder.with_name(f"{self.folder.name}.done")
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
                f"{folder}: another run is writing this output: wait for it, or give another name"
            ) from error

    def _start(self, identity: Mapping[str, Any]) -> None:
        (self.folder / RUN_FILE).unlink(missing_ok=True)
        self._open("w+b")
        record = {"started": self.started, "identity": identity}
        partial = self.folder / f"{RUN_FILE}.partial"
        with partial.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=2)
            _sync(file)
        partial.replace(self.folder / RUN_FILE)
        sync_folder(self.folder)

    def _continue(self, identity: Mapping[str, Any]) -> None:
        record = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
        known = record["identity"]
        if other := [key for key in {**known, **identity} if known.get(key) != identity.get(key)]:
            raise OutputError(
                f"{self.folder}: the unfinished run differs in "
                + "; ".join(f"{key} ({known.get(key)}, now {identity.get(key)})" for key in other)
                + ": run it as it was, or start again with --overwrite"
            )
        self.started = record["started"]
        self._open("r+b")
        size = os.fstat(self._strips.fileno()).st_size
        while line := self._strips.readline():
            start = self._end + len(line)
            if not line.endswith(b"\n"):
                break
            fields = json.loads(line)
            entry = Entry(**{**fields, "shape": tuple(fields["shape"])})
            if start + entry.length > size:
                break
            self._note(entry, start)
            self._strips.seek(self._end)
        self._drop_torn()

    def _drop_torn(self) -> None:
        """Cut off what follows the last whole record.

        Records before the last were on disk before it was begun; the last may hold holes.
        """
        if self._records:
            last = list(self._records)[-1]
            entry, start = self._records[last]
            if not self._is_whole(entry, start):
                del self._records[last]
                self._end = start - len(_line(entry))
        self._strips.truncate(self._end)

    def _open(self, mode: str) -> None:
        self._strips: IO[bytes] = (self.folder / STRIPS_FILE).open(mode)
        self._files.append(self._strips)

    def _note(self, entry: Entry, start: int) -> None:
        self._records[entry.left, entry.i, entry.name] = entry, start
        self._end = start + entry.length

    def _packed(self, left: int, i: int, name: str) -> bytes:
        entry, start = self._records[left, i, name]
        if not self._is_whole(entry, start):
            raise WriteError(
                f"{self.folder / STRIPS_FILE}: strip {i} at column {left} was damaged on disk: "
                "start again with --overwrite"
            )
        self._strips.seek(start)
        return self._strips.read(entry.length)

    def _is_whole(self, entry: Entry, start: int) -> bool:
        self._strips.seek(start)
        return zlib.crc32(self._strips.read(entry.length)) == entry.crc32


def unfinished(folder: Path) -> bool:
    """Return whether `folder` holds a run that has finished some of its strips."""
    strips = folder / STRIPS_FILE
    return (folder / RUN_FILE).exists() and strips.exists() and strips.stat().st_size > 0


def pack(array: np.ndarray) -> bytes:
    """Return uint8 values as runs, (value uint8, length uint32) apart, or raw where longer.

    Label maps are runs: this is several times faster than deflate and small enough to be kept for
    the length of a run.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1).astype("<u4")
    if 5 * ends.size >= flat.size:
        return b"".join((b"raw", flat.tobytes()))
    lengths = np.diff(ends, prepend=np.uint32(2**32 - 1)).astype("<u4")
    return b"".join((b"run", flat[ends].tobytes(), lengths.tobytes()))


def count_packed(packed: bytes) -> np.ndarray:
    """Return how many pixels have each value, int64 [256], without unpacking runs."""
    body = np.frombuffer(packed, np.uint8, offset=3)
    if packed[:3] == b"raw":
        return np.bincount(body, minlength=256)
    runs = body.size // 5
    counts = np.bincount(body[:runs], body[runs:].view("<u4"), minlength=256)
    return counts.astype(np.int64)  # float64 sums of a strip's pixels are exact


def _record(left: int, i: int, name: str, array: np.ndarray) -> tuple[Entry, bytes, bytes]:
    packed = pack(array)
    entry = Entry(
        left=left,
        i=i,
        name=name,
        shape=array.shape,
        length=len(packed),
        crc32=zlib.crc32(packed),
    )
    return entry, _line(entry), packed


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry)).encode() + b"\n"


def unpack(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Return the uint8 array that `pack` was given."""
    body = np.frombuffer(packed, np.uint8, offset=3)
    if packed[:3] == b"raw":
        return body.reshape(shape)
    runs = body.size // 5
    return np.repeat(body[:runs], body[runs:].view("<u4")).reshape(shape)


def sync_folder(folder: Path) -> None:
    """Make what was renamed in `folder` survive a power cut."""
    if os.name == "nt":  # which cannot open folders, and orders renames itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _disk(folder: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"{folder}: the disk is full: free some space, then continue with --resume"
    return f"{folder}: cannot be written ({error.strerror}): check the folder, then use --resume"
