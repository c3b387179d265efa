"""What makes a run survive: finished strips on disk, and a journal that says which they are.

A run keeps a hidden folder beside its output: `run.json` says what the run is, `strips.bin` holds
the labels of finished strips, `journal.jsonl` one line for each. Data reaches the disk before its
line does, so that at any instant the journal names only what is there; a torn last line is
dropped. A run that is resumed must be the same run in everything that could change a label.
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
    from types import TracebackType

RUN_FILE = "run.json"
STRIPS_FILE = "strips.bin"
JOURNAL_FILE = "journal.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of the journal: one output of one strip."""

    left: int
    """First raster column; names the panel."""
    i: int
    """Row of cores."""
    name: str
    """Output of the model."""
    shape: tuple[int, ...]
    offset: int
    length: int
    crc32: int


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
        self.entries: dict[tuple[int, int, str], Entry] = {}
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
        """Put the outputs of a finished strip on disk, then say so. Raises WriteError."""
        try:
            entries = [self._store(left, i, name, array) for name, array in outputs.items()]
            _sync(self._strips)
            for entry in entries:
                self._journal.write(json.dumps(asdict(entry)).encode() + b"\n")
            _sync(self._journal)
        except OSError as error:
            raise WriteError(_disk(self.folder, error)) from error
        self.entries.update({(e.left, e.i, e.name): e for e in entries})

    def load(self, left: int, i: int, name: str) -> np.ndarray:
        """Return uint8 [..., rows, columns] of an output. Raises WriteError where it is damaged."""
        entry = self.entries[left, i, name]
        self._strips.seek(entry.offset)
        packed: bytes = self._strips.read(entry.length)
        if zlib.crc32(packed) != entry.crc32:
            raise WriteError(
                f"{self.folder / STRIPS_FILE}: strip {i} at column {left} was damaged on disk: "
                "start again with --overwrite"
            )
        return unpack(packed, entry.shape)

    def finished(self, outputs: tuple[str, ...]) -> set[tuple[int, int]]:
        """Return the (left, i) of the strips that have every output."""
        strips = {(left, i) for left, i, _ in self.entries}
        return {s for s in strips if all((*s, name) in self.entries for name in outputs)}

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if not self.entries:  # nothing that would be lost
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
        self._open("wb")
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
        text = (self.folder / JOURNAL_FILE).read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            fields = json.loads(line)
            entry = Entry(**{**fields, "shape": tuple(fields["shape"])})
            self.entries[entry.left, entry.i, entry.name] = entry
        self._open("r+b")
        self._journal.truncate(len(whole))
        self._journal.seek(0, os.SEEK_END)
        end = max((entry.offset + entry.length for entry in self.entries.values()), default=0)
        self._strips.truncate(end)
        self._strips.seek(end)

    def _open(self, mode: str) -> None:
        self._strips: IO[bytes] = (self.folder / STRIPS_FILE).open(mode + "+" * ("+" not in mode))
        self._journal: IO[bytes] = (self.folder / JOURNAL_FILE).open(mode)
        self._files += [self._strips, self._journal]

    def _store(self, left: int, i: int, name: str, array: np.ndarray) -> Entry:
        packed = pack(array)
        offset = self._strips.tell()
        self._strips.write(packed)
        return Entry(
            left=left,
            i=i,
            name=name,
            shape=array.shape,
            offset=offset,
            length=len(packed),
            crc32=zlib.crc32(packed),
        )


def unfinished(folder: Path) -> bool:
    """Return whether `folder` holds a run that has finished some of its strips."""
    journal = folder / JOURNAL_FILE
    return (folder / RUN_FILE).exists() and journal.exists() and b"\n" in journal.read_bytes()


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
