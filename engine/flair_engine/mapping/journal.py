"""The journal of a run: finished strips on disk, written so that a torn one is known.

A run keeps a hidden folder beside its output with one file, `strips.bin`: records one after the
other, each a line of JSON and its checksum, that of a strip followed by packed pixels. The first
says what the run is; a record counts once it is whole on disk. What a power cut or a bad disk has
spoilt is left out and made again. A run that is resumed must be the same run in everything that
could change a label.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import threading
import time
import zlib
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any

import filelock

from flair_engine import system
from flair_engine.durable import sync, sync_folder
from flair_engine.errors import BusyError, FlairError, OutputError, WriteError
from flair_engine.locking import locked
from flair_engine.mapping.records import (
    JOURNAL_SCHEMA,
    LINE_BYTES,
    Entry,
    fields_of,
    line_of,
    strip_before,
    strip_record,
)
from flair_engine.mapping.run_lengths import count_packed, unpack
from flair_engine.options import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
    from pathlib import Path

    import numpy as np

    from flair_engine.mapping.records import Skipped

STRIPS_FILE = "strips.bin"
LOCK_FILE = "lock"
JOURNAL_FILES = (STRIPS_FILE, LOCK_FILE)

SOURCE = "source"
"""Part of an identity that may change: strips that saw an old file are dropped then."""

DIGEST = re.compile("[0-9a-f]{64}")
"""A SHA-256, which says nothing to people."""

LONGEST_SAID = 200
"""Characters of a value that are shown where it differs."""

ON_ERROR = "on_error"
"""Part of an identity that may go from `stop` to `skip`: what was finished had no error."""


class AbandonedError(Exception):
    """The run has failed: the strip that was waited for will not come."""


class Journal(AbstractContextManager["Journal"]):
    """The finished strips of one run, appended by one thread and loaded by another.

    Opening starts a run, or with `resume` continues the one that is there. `identity` is what
    must be equal for that, by name; of its `source` (fingerprints by file) `changed` says what is
    not. Who knows to be `alone` with it takes no lock, which a file system may lack. `notify` is
    told what is left out. Raises OutputError where another run is at work on the
    same output, where an unfinished run would be lost, or where the run to resume is another;
    WriteError where the disk refuses.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        *,
        started: str,
        resume: bool,
        restart: bool,
        alone: bool = False,
        notify: Callable[[str], None] = silent,
    ) -> None:
        self.folder = folder
        self.started = started
        self.changed: tuple[str, ...] = ()
        """Files whose size or time is not that of those that finished strips were made of."""
        self.contents: dict[str, str] = {}
        """SHA-256 of files that finished strips were made of, of those where it is known."""
        self.spoilt = False
        """Part of what was there was not whole, and has to be made again."""
        self.skipped: set[Skipped] = set()
        """Blocks of the files as they are now that could not be decoded."""
        self._notify = notify
        # JSON turns tuples into lists: compare what will be read back.
        self._identity = json.loads(json.dumps(identity))
        self._records: dict[tuple[int, int, str], tuple[Entry, int]] = {}
        self._damaged: set[tuple[int, ...]] = set()
        self._end = 0
        self._failed = False
        self._appending = threading.Lock()
        self.waited_s = 0.0
        """Seconds that `load` has waited for strips."""
        self._changed = threading.Condition()
        self._abandoned = False
        self._files: list[IO[Any]] = []
        self._lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
        try:
            folder.mkdir(exist_ok=True)
            if not alone:
                self._acquire(folder)
            shutil.rmtree(done_folder(folder), ignore_errors=True)  # what a kill left
            if unfinished(folder) and not resume and not restart:
                raise OutputError(
                    f"{folder}: holds an unfinished run",
                    "continue it with --resume, or start again with --overwrite",
                )
            if not (resume and unfinished(folder) and self._continue()):
                self._start()
        except OSError as error:
            self.close()
            raise _disk_error(folder, error) from error
        except FlairError:
            self.close()
            raise

    def append(
        self,
        panel: int,
        i: int,
        outputs: Mapping[str, np.ndarray],
        skipped: Set[Skipped] = frozenset(),
    ) -> None:
        """Put the outputs of a finished strip on disk; `skipped` are blocks of this process so far.

        Raises WriteError.
        After one failure nothing more is taken: it would come to lie on what was half written.
        """
        new = sorted(skipped - self.skipped)
        records = [
            strip_record(panel, i, name, array, () if number else new)
            for number, (name, array) in enumerate(outputs.items())
        ]
        with self._appending:
            self._put([part for _, line, packed in records for part in (line, packed)])
            with self._changed:
                self.skipped.update(new)
                for entry, line, _ in records:
                    self._note(entry, self._end + len(line))
                self._changed.notify_all()

    def note_content(self, file: str, sha256: str) -> None:
        """Keep what a file holds that finished strips were made of. Raises WriteError."""
        self._put_line({"content": [file, sha256]})
        self.contents[file] = sha256

    @property
    def sources(self) -> Mapping[str, Any]:
        """Fingerprints of the files as the run began, by path."""
        fingerprints: dict[str, Any] = self._identity[SOURCE]
        return fingerprints

    def drop(self, strips: Iterable[tuple[int, ...]]) -> None:
        """Take back finished strips by (panel, i). Raises WriteError."""
        if dropped := sorted(set(strips)):
            self._put_line({"dropped": [list(strip) for strip in dropped]})
            self._forget(dropped)

    def renew(self, others: Sequence[str] = ()) -> None:
        """Take the sources as they are now for those of the run; `others` hold something else.

        Raises WriteError.
        """
        self._put_line(self._header(others))
        self._forgive(others)
        self.changed = ()

    def _put_line(self, fields: Mapping[str, Any]) -> None:
        """Append a record without pixels. Raises WriteError."""
        line = line_of(fields)
        with self._appending:
            self._put([line])
            self._end += len(line)

    def _put(self, parts: Sequence[bytes]) -> None:
        """Write at the end and put on disk. Raises WriteError."""
        if self._failed:
            raise WriteError(
                f"{self.folder}: an earlier strip could not be stored", "mend that, use --resume"
            )
        try:
            self._strips.seek(self._end)
            for part in parts:
                self._strips.write(part)
            sync(self._strips)
        except BaseException as error:
            self._failed = True
            if isinstance(error, OSError):
                raise _disk_error(self.folder, error) from error
            raise

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
        try:
            shutil.rmtree(done, ignore_errors=True)  # what an earlier kill left
            system.replace(self.folder, done)
            shutil.rmtree(done)
        except OSError as error:
            self._notify(_left_over(self.folder, error))

    def close(self) -> None:
        """Close the files and give up the lock; a second call does nothing."""
        self._close_files()
        self._lock.release()

    def _close_files(self) -> None:
        while self._files:
            # A full disk refuses what is still buffered; the journal does not count on it.
            with contextlib.suppress(OSError):
                self._files.pop().close()

    def __exit__(self, *_error: object) -> None:
        self.close()
        if not self._records:  # nothing that would be lost
            shutil.rmtree(self.folder, ignore_errors=True)

    def _acquire(self, folder: Path) -> None:
        try:
            self._lock.acquire()
        except filelock.Timeout as error:
            raise BusyError(
                f"{folder}: another run is writing this output", "wait for it, or give another name"
            ) from error

    def _start(self) -> None:
        try:
            self._open("w+b")
            self._end = 0
            self._put_line(self._header())
            sync_folder(self.folder)
        except BaseException:  # half a header is no run
            self._close_files()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def _header(self, others: Sequence[str] = ()) -> dict[str, Any]:
        """Return the first record, or one that follows where files have changed since."""
        return {
            "schema": JOURNAL_SCHEMA,
            "started": self.started,
            "identity": self._identity,
            "others": list(others),
        }

    def _continue(self) -> bool:
        """Take over what is whole of the run that is there; return whether anything is.

        Raises OutputError where it is another run, or of another layout.
        """
        self._open("r+b")
        known = self._read_records()
        if known is None:
            self._notify("the journal of the unfinished run was spoilt: it is started again")
            self._close_files()
            return False
        differing = [
            k for k in {**known, **self._identity} if known.get(k) != self._identity.get(k)
        ]
        if other := [key for key in differing if not self._may_change(key, known)]:
            raise OutputError(
                f"{self.folder}: the unfinished run differs in "
                + "; ".join(
                    _difference(key, known.get(key), self._identity.get(key)) for key in other
                ),
                "run it as it was, or start again with --overwrite",
            )
        before, now = known[SOURCE], self._identity[SOURCE]
        self.changed = tuple(name for name in now if before.get(name) != now[name])
        self._strips.truncate(self._end)
        sync(self._strips)
        self.drop(self._damaged)
        if differing and not self.changed:
            self.renew()
        return True

    def _may_change(self, key: str, known: Mapping[str, Any]) -> bool:
        """Return whether a run goes on though a part of its identity has changed."""
        if key == ON_ERROR:
            return bool(known.get(key) == "stop")
        return key == SOURCE and known.get(key, {}).keys() == self._identity[key].keys()

    def _read_records(self) -> dict[str, Any] | None:
        """Note the whole records of the file; return the identity in it, None where it holds none.

        Raises OutputError where the first record is of another layout.
        """
        size = os.fstat(self._strips.fileno()).st_size
        self._strips.seek(0)
        line = self._strips.readline(LINE_BYTES)
        header = fields_of(line)
        self._check_layout(header or strip_before(line))
        if header is None:
            return None
        self.started = header["started"]
        identity: dict[str, Any] = header["identity"]
        self._end = len(line)
        while line := self._strips.readline(LINE_BYTES):
            fields = fields_of(line)
            start = self._end + len(line)
            if fields is None or start + fields.get("length", 0) > size:
                self.spoilt = True
                break
            if "identity" in fields:
                self._forgive(fields["others"])
                identity = fields["identity"]
                self._end = start
            elif "content" in fields:
                file, self.contents[file] = fields["content"]
                self._end = start
            elif "dropped" in fields:
                dropped = {tuple(strip) for strip in fields["dropped"]}
                self._forget(dropped)
                self._damaged -= dropped
                self._end = start
            else:
                entry = Entry.of(fields)
                self._note(entry, start)
                self.skipped.update(entry.skipped)
                if self._whole(entry, start) is None:
                    self._damaged.add((entry.panel, entry.i))
            self._strips.seek(self._end)
        self.spoilt |= bool(self._damaged)
        return identity

    def _check_layout(self, first: Mapping[str, Any] | None) -> None:
        """Raise OutputError where the first record of a run is of another layout."""
        if first and first.get("schema") != JOURNAL_SCHEMA:
            raise OutputError(
                f"{self.folder}: the unfinished run is of layout {first.get('schema', 'none')}, "
                f"this engine continues {JOURNAL_SCHEMA}",
                "start again with --overwrite",
            )

    def _forgive(self, files: Sequence[str]) -> None:
        """Forget what was found of files that are others now."""
        others = set(files)
        self.skipped = {block for block in self.skipped if block[0] not in others}
        for file in others:
            self.contents.pop(file, None)

    def _forget(self, strips: Iterable[tuple[int, ...]]) -> None:
        gone = set(strips)
        for key in [key for key in self._records if key[:2] in gone]:
            del self._records[key]

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
                "continue with --resume, which makes it again",
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
    """Return whether `folder` holds a run that has finished some of its strips.

    One whose first line is not whole may have. Raises WriteError where that cannot be read.
    """
    try:
        with (folder / STRIPS_FILE).open("rb") as strips:
            line = strips.readline(LINE_BYTES)
            return bool(line) and (not line.endswith(b"\n") or bool(strips.read(1)))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _disk_error(folder, error) from error


def begun_with(folder: Path) -> dict[str, Any]:
    """Return the identity of the unfinished run in a folder, nothing where it cannot be read."""
    try:
        with (folder / STRIPS_FILE).open("rb") as strips:
            header = fields_of(strips.readline(LINE_BYTES)) or {}
    except OSError:
        return {}
    identity = header.get("identity")
    return identity if isinstance(identity, dict) else {}


def clear_finished(folder: Path, notify: Callable[[str], None] = silent) -> None:
    """Delete what a finished run has left of its folder; tell where that fails.

    Where another run has just begun there, it stays.
    """
    try:
        if folder.exists():
            with locked(folder / LOCK_FILE):
                pass
            shutil.rmtree(folder)
        if done_folder(folder).exists():
            shutil.rmtree(done_folder(folder))
    except filelock.Timeout:
        return
    except OSError as error:
        notify(_left_over(folder, error))


def _left_over(folder: Path, error: OSError) -> str:
    return f"{folder}: cannot be cleaned up ({error.strerror}); delete it"


def _difference(key: str, before: Any, now: Any) -> str:
    """Return what to say of a part of two identities; of many files only how many there are."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return f"{key} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
    texts = [str(value) for value in (before, now)]
    if any(len(text) > LONGEST_SAID or DIGEST.fullmatch(text) for text in texts):
        return key
    return f"{key} ({texts[0]}, now {texts[1]})"


def _disk_error(folder: Path, error: OSError) -> WriteError:
    if error.errno == errno.ENOSPC:
        return WriteError(
            f"{folder}: the disk is full", "free some space, then continue with --resume"
        )
    return WriteError(
        f"{folder}: cannot be written ({error.strerror})", "check the folder, then use --resume"
    )
