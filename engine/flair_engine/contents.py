"""Contents of the files that finished strips were made of: what tells a touched file from another.

A file's size and time of change are looked at first. Where the time differs and the size does not,
its SHA-256 decides, if that was taken before the run ended.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine.grid import Window
from flair_engine.overwriting import on_disk
from flair_engine.provenance import fingerprint
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flair_engine.mapping.journal import Journal
    from flair_engine.work import Panel, Work

CHUNK_BYTES = 2**22


class SeenFiles:
    """Files by what strips see of them: those whose pixels reach the tiles of a strip."""

    def __init__(self, work: Work, files: Iterable[str] | None = None) -> None:
        places: defaultdict[int, list[tuple[str, Window]]] = defaultdict(list)
        for file in work.opened.places if files is None else files:
            for number, window in work.opened.places[file]:
                places[number].append((file, window))
        self._number_of = {id(sheet): number for number, sheet in enumerate(work.opened.sheets)}
        self._places = places
        self._index = {
            number: WindowIndex([window for _, window in found]) for number, found in places.items()
        }

    def of(self, panel: Panel, i: int) -> list[str]:
        """Return the files that strip `i` of a panel sees."""
        number = self._number_of[id(panel.sheet)]
        if number not in self._index:
            return []
        # A tile's width around it: what tiles reach beyond a core, and what is mirrored.
        strip, reach = panel.cores.strip(i), panel.cores.grid.tile_px
        around = Window(
            top=strip.top - reach,
            left=strip.left - reach,
            height=strip.height + 2 * reach,
            width=strip.width + 2 * reach,
        )
        return [self._places[number][met][0] for met in self._index[number].meeting(around)]


class ContentLog(AbstractContextManager["ContentLog"]):
    """Takes the SHA-256 of the files that stored strips have seen, in a thread of its own.

    What it has not come to when the run ends stays unknown. Of an excerpt nothing is taken: it is
    not continued after a file has changed, and others see the same files.
    """

    def __init__(self, work: Work, journal: Journal) -> None:
        self._seen, self._journal = SeenFiles(work), journal
        self._noted = set(journal.contents)
        self._wanted = work.excerpt is None
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="contents")

    def note(self, panel: Panel, i: int) -> None:
        """Have the files that a stored strip has seen looked at, each once."""
        for file in self._seen.of(panel, i) if self._wanted else ():
            if on_disk(file) and (name := str(fingerprint(file)[0])) not in self._noted:
                self._noted.add(name)
                self._thread.submit(self._take, name)

    def _take(self, name: str) -> None:
        digest = digest_of(name, lambda: self._closing)
        # Of a file that is not what the run began with nothing is said.
        if digest and fingerprint(name)[1:] == self._journal.sources.get(name):
            self._journal.note_content(name, digest)

    def __exit__(self, *_error: object) -> None:
        self._closing = True
        self._thread.shutdown(cancel_futures=True)


def digest_of(name: str, stopped: Callable[[], bool]) -> str | None:
    """Return the SHA-256 of a file, None where it cannot be read or `stopped` says so."""
    found = hashlib.sha256()
    try:
        with Path(name).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                if stopped():
                    return None
                found.update(chunk)
    except OSError:
        return None
    return found.hexdigest()


def is_other(name: str, journal: Journal) -> bool:
    """Return whether a file whose fingerprint has changed may hold other pixels."""
    known = journal.contents.get(name)
    return known is None or digest_of(name, lambda: False) != known
