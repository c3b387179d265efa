"""Overwriting: an output may replace nothing that is an input, whatever names lead to it."""

from __future__ import annotations

import os
import re
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine.errors import OutputError
from flair_engine.system import folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    Key: TypeAlias = str | tuple[int, int]

LOCAL_SCHEMES = {"file", "gzip", "tar", "vrt", "zip"}
"""Schemes of rasterio and GDAL that lead to the disk, unless one that does not stands beside."""
LOCAL_FOLDERS = {"7z", "cached", "crypt", "gzip", "rar", "sparse", "subfile", "tar", "zip"}
"""GDAL's virtual file systems, `/vsizip/` and so on, that lead to the disk."""
DRIVER = re.compile(r"[A-Za-z][A-Za-z0-9_]+:")
"""Beginning of a subdataset: longer than a Windows drive."""


def same_file(one: Path, other: Path) -> bool:
    """Return whether two names are one file: links, hard ones too, and other spellings.

    A name without a file is what a file written there would be called.
    """
    places = _Places()
    return not set(places.keys(one)).isdisjoint(places.keys(other))


def on_disk(name: str) -> Path | None:
    """Return the file on disk that a name of GDAL or rasterio leads to.

    That of an archive is the archive, that of a subdataset the file that holds it. None where the
    name leads elsewhere: a URL, memory, the text of a VRT.
    """
    if _lies_there(name):
        return Path(name)
    if name.lstrip().startswith("<"):
        return None
    scheme, mark, rest = name.partition("://")
    if mark and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        if not set(scheme.lower().split("+")) <= LOCAL_SCHEMES:
            return None
        return on_disk(_container(re.split(r"[!?]", rest)[0]))
    if name.startswith("/vsi"):
        return _behind(name)
    return _holder(name) if DRIVER.match(name) else Path(name)


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[str]) -> None:
    """Raise OutputError where an output is an input or another output, or a folder around an input.

    `inputs` are names of GDAL or rasterio. Files are told apart by what they are, not by name.
    """
    places = _Places()
    known: dict[Key, Path] = {}
    for output in outputs:
        keys = places.keys(output)
        if other := next((known[key] for key in keys if key in known), None):
            same = "two outputs" if other == output else f"the same file as {other}"
            raise OutputError(f"{output}: is {same}", "give one of them another name")
        known.update(dict.fromkeys(keys, output))
    for name in inputs:
        path = on_disk(name)
        if path is None:
            continue
        for key in places.keys(path):
            if key in known:
                raise OutputError(
                    f"{known[key]}: is the input {name}", "give the output another name"
                )
        for folder in places.folders(path):
            if folder in known:
                raise OutputError(
                    f"{known[folder]}: holds the input {name}", "move it, or name another output"
                )


class _Places:
    """Where names lead; folders are looked at once."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}
        self._above: dict[str, tuple[str, ...]] = {}

    def keys(self, path: Path) -> list[Key]:
        """Return what names of one file have in common: its place, its device and number."""
        named = self._named(path)
        try:
            place = os.path.realpath(named) if os.path.islink(named) else named  # noqa: PTH114
            status = os.stat(named)  # noqa: PTH116  thousands of names
        except OSError:  # absent
            return [folded(place)]
        except ValueError:  # a null byte
            return [named]
        return [folded(place), (status.st_dev, status.st_ino)]

    def folders(self, path: Path) -> Iterator[str]:
        """Yield the folders that a file, or a link to it, lies in."""
        for name in {self._named(path), str(self.keys(path)[0])}:
            folder = os.path.dirname(name)  # noqa: PTH120
            if folder not in self._above:
                names = (folder, *map(str, Path(folder).parents))
                self._above[folder] = tuple(map(folded, names))
            yield from self._above[folder]

    def _named(self, path: Path) -> str:
        """Return a name without links above it."""
        folder, name = os.path.split(path)
        if name in ("", "..", "."):
            folder, name = str(path), ""
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real[folder], name) if name else self._real[folder]  # noqa: PTH118


def _behind(name: str) -> Path | None:
    """Return the file behind a name such as /vsizip/a.zip/b.tif, or one in another."""
    system, _, rest = name.removeprefix("/vsi").partition("/")
    system, _, options = system.partition("?")
    if system not in LOCAL_FOLDERS:
        return None
    if system == "subfile":
        rest = rest.partition(",")[2]
    if named := re.search(r"file=([^,&]+)", options or rest):  # of /vsicrypt/ and /vsicached?
        rest = named[1]
    if rest.startswith("vsi") and not _lies_there(_container(rest)):
        rest = f"/{rest}"
    return on_disk(_container(_unbraced(rest)))


def _unbraced(name: str) -> str:
    """Return `a.zip` of `{a.zip}/b.tif`, whose braces may hold others."""
    if not name.startswith("{"):
        return name
    depth = 0
    for place, sign in enumerate(name):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return name[1:place]
    return name[1:]


def _container(name: str) -> str:
    """Return a name up to the file on its way, an archive; the whole name where there is none."""
    if name.startswith("/vsi"):
        return name
    way = (str(place) for place in (Path(name), *Path(name).parents))
    return next((place for place in way if _is_file(place)), name)


def _holder(name: str) -> Path | None:
    """Return the file that holds a subdataset DRIVER:...path..., in quotes or between colons."""
    _, _, rest = name.partition(":")
    if quoted := re.search(r'"([^"]+)"', rest):
        return on_disk(quoted[1])
    parts = rest.split(":")
    spans = combinations(range(len(parts) + 1), 2)
    for start, stop in sorted(spans, key=lambda span: span[0] - span[1]):
        part = ":".join(parts[start:stop])
        found = _behind(part) if part.startswith("/vsi") else Path(part)
        if part and found and _lies_there(str(found)):
            return found
    return None


def _lies_there(name: str) -> bool:
    try:
        return os.path.lexists(name)
    except ValueError:  # a null byte
        return False


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long, or a null byte
        return False
