"""Maps of a territory, each written once, by any number of processes.

A note of each map in the job's folder, written last, says what it was made of: with the same parts
it is not made again. While a map is being written a claim says so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flair_engine import bounded_json
from flair_engine.durable import write_whole
from flair_engine.errors import BusyError, OutputError, WriteError
from flair_engine.manifest import output_bands
from flair_engine.mapping.landcover import nothing_beside, write_maps
from flair_engine.mapping.map_tiles import MapTiles
from flair_engine.mapping.published import sha256_of
from flair_engine.mapping.targets import check_maps, output_path
from flair_engine.overwriting import refuse_inputs
from flair_engine.territory.claim import POLL_S, Claim
from flair_engine.territory.cost import cost_of
from flair_engine.territory.plan_file import edges
from flair_engine.territory.state import PARTS, map_of
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from flair_engine.mapping.landcover import MapStyle
    from flair_engine.mapping.targets import Target
    from flair_engine.options import Listener
    from flair_engine.territory.cost import Cost
    from flair_engine.territory.plan_file import Plan
    from flair_engine.territory.state import PartState

    Beside = Callable[[Target, Mapping[str, Path]], Mapping[Path, bytes]]

NOTES = "maps"
"""Folder of notes and claims in that of the job."""


class Delivery:
    """Maps of a style, put together from parts that are there.

    `overwrite` replaces maps that are there and were made of something else; `beside` makes files
    beside a map, by path, of its finished rasters, by output.
    """

    def __init__(
        self,
        plan: Plan,
        there: Sequence[PartState],
        style: MapStyle,
        *,
        overwrite: bool,
        beside: Beside | None = None,
    ) -> None:
        self._plan, self._there, self._style, self._overwrite = plan, there, style, overwrite
        self._beside_map = beside
        self._index = WindowIndex([state.part.window for state in there])
        self._whole = lru_cache(maxsize=None)(self._check_part)

    def left(self, targets: Sequence[Target]) -> list[Target]:
        """Return the maps that are not there as they would be made now.

        Raises OutputError where one cannot be put at its name.
        """
        left = [target for target in targets if not self._is_made(target)]
        outputs = self._style.spec.outputs
        for target in left:
            path, may_replace = target.path, self._overwrite or self._was_ended(target)
            check_maps(path, outputs, may_replace=may_replace, remedy="give another name")
        rasters = [path for target in left for path in self._rasters(target)]
        names = [file.name for files in self._plan.files.values() for file in files]
        parts = [str(map_of(self._plan, state.part)) for state in self._there]
        refuse_inputs(rasters, [*names, str(self._plan.model), *parts])
        return left

    def write(self, targets: Sequence[Target], listener: Listener) -> None:
        """Write maps; those that another process is at work on come last, and are waited for.

        Raises WriteError where a part is not what was written, or the disk refuses.
        """
        left, done = list(targets), 0
        with self._tiles() as maps:
            while left:
                busy = [target for target in left if not self._wrote(target, maps)]
                done += len(left) - len(busy)
                listener.progress(done, len(targets))
                if left := busy:
                    time.sleep(POLL_S)

    def cost(self, target: Target) -> Cost:
        """Return what writing a map takes, about. Raises WriteError where the disk refuses."""
        windows = [state.part.window for state in self._there]
        met = [windows[number] for number in self._index.meeting(target.window)]
        with self._tiles() as maps:
            return cost_of(target, self._style, met, maps.read)

    def _tiles(self) -> MapTiles:
        tiles = [(map_of(self._plan, state.part), state.part.window) for state in self._there]
        return MapTiles(tiles, output_bands(self._style.spec), self._style.values)

    def check(self, targets: Sequence[Target]) -> None:
        """Raise WriteError where a map is not, byte for byte, what was written."""
        for target in targets:
            for name, digest in self._note(target).get("files", {}).items():
                if sha256_of(target.path.with_name(name)) != digest[1]:
                    raise WriteError(
                        f"{target.path.with_name(name)}: is not as it was written",
                        "delete it, and finish again",
                    )

    def _wrote(self, target: Target, maps: MapTiles) -> bool:
        """Write a map, or see that it is there; return whether it is."""
        try:
            with Claim(self._beside(target, "claim")) as claim, _workplace(target) as folder:
                if not self._is_made(target):
                    for number in self._index.meeting(target.window):
                        self._whole(number)
                    self._put_note(target, [])
                    beside = self._makes_beside(target)
                    write_maps(target, self._style, maps.read, folder, claim.check, beside)
                    self._put_note(target, self._rasters(target))
        except BusyError:
            return False
        return True

    def _makes_beside(
        self, target: Target
    ) -> Callable[[Mapping[str, Path], Mapping[Path, bytes]], Mapping[Path, bytes]]:
        if self._beside_map is None:
            return nothing_beside
        return lambda rasters, _sidecars: self._beside_map(target, rasters)  # type: ignore[misc]

    def _rasters(self, target: Target) -> list[Path]:
        return [output_path(target.path, name) for name in self._style.spec.outputs]

    def _beside(self, target: Target, kind: str) -> Path:
        return self._plan.folder / NOTES / f"{target.path.name}.{kind}"

    def _note(self, target: Target) -> dict[str, Any]:
        """Return what is noted of the map at a place; nothing where that is not known."""
        try:
            found = bounded_json.load(self._beside(target, "json"))
        except (OSError, ValueError):
            return {}
        ours = isinstance(found, dict) and found.get("output") == str(target.path.absolute())
        return found if ours else {}

    def _was_ended(self, target: Target) -> bool:
        """Return whether this job was ended as it put at a place what stands there."""
        return self._note(target).get("files") == {}

    def _is_made(self, target: Target) -> bool:
        note = self._note(target)
        same = note.get("key") == self._key(target)
        return same and bool(note["files"]) and _is_there(target, note["files"])

    def _key(self, target: Target) -> str:
        """Return what changes with anything that a map is made of."""
        style = self._style
        parts = [self._there[number] for number in self._index.meeting(target.window)]
        made_of = [
            edges(target.window),
            [style.cog, style.values, sorted(style.tags.items()), sorted(style.creation.items())],
            [[edges(s.part.window), sorted(s.record.files.items())] for s in parts if s.record],
        ]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def _put_note(self, target: Target, rasters: Sequence[Path]) -> None:
        """Note what a map is made of; its `rasters` once they are there, none before."""
        note = {
            "output": str(target.path.absolute()),
            "key": self._key(target),
            "files": {path.name: [path.stat().st_size, sha256_of(path)] for path in rasters},
        }
        path = self._beside(target, "json")
        try:
            write_whole(path, json.dumps(note).encode())
        except OSError as error:
            raise WriteError(
                f"{path}: cannot be written ({error.strerror})", "check the job's folder"
            ) from error

    def _check_part(self, number: int) -> None:
        """Raise WriteError where the map of a part is not what was written."""
        record = self._there[number].record
        for name, (_, digest) in (record.files if record else {}).items():
            path = self._plan.folder / PARTS / name
            if sha256_of(path) != digest:
                raise WriteError(
                    f"{path}: is not as it was written", "delete it, and make the part again"
                )


def make_notes_folder(plan: Plan) -> None:
    """Make the folder of notes. Raises WriteError."""
    try:
        (plan.folder / NOTES).mkdir(exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{plan.folder / NOTES}: cannot be made ({error.strerror})", "check the job's folder"
        ) from error


def _is_there(target: Target, files: dict[str, Any]) -> bool:
    """Return whether the rasters of a map are there, as large as they were written."""
    paths = {target.path.with_name(name): size for name, (size, _) in files.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


@contextmanager
def _workplace(target: Target) -> Iterator[Path]:
    """Yield a hidden folder beside a map, which its claim has for this process alone."""
    folder = target.path.with_name(f".{target.path.name}.flair-job")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.path}: nothing can be written beside it ({error.strerror})",
            "give another folder",
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
