"""ARCHITECTURE.md names files, functions and rooms that exist."""

from __future__ import annotations

import ast
import re

import pytest
from doubles.paths import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FOLDERS = [
    ROOT / "engine" / "flair_engine",
    ROOT / "export" / "flair_export",
    ROOT / "benchmarks" / "flair_bench",
]
STATIONS = re.findall(r"`((?:\w+/)*\w+\.py): ([\w.]+)`", TEXT)
FILES = set(re.findall(r"`((?:\w+/)*\w+\.py)[`:]", TEXT))


def paths_of(name):
    """Return the files of a path, from the repository's root or within a package."""
    if (ROOT / name).is_file():
        return [ROOT / name]
    return [path for folder in FOLDERS for path in folder.rglob(name)]


def names_of(node):
    """Return the names that a statement of a module defines."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_that_are_named_exist(name):
    assert paths_of(name)


@pytest.mark.parametrize(("file", "name"), STATIONS)
def test_stations_are_where_they_are_said_to_be(file, name):
    first, *inner = name.split(".")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths_of(file)]
    found = [node for tree in trees for node in tree.body if first in names_of(node)]
    for part in inner:
        found = [n for top in found for n in top.body if getattr(n, "name", None) == part]
    assert found


def test_there_are_stations_to_follow():
    assert len(STATIONS) > 15
    assert "`Canvas.finish`" in TEXT


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_map_names_every_room(folder):
    (block,) = re.findall(rf"^\S+/{folder.name}/.*?(?=^\S|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    for path in folder.iterdir():
        if path.name.startswith(("_", "py.typed")):
            continue
        assert re.search(rf"\b{path.stem}\b", block), f"{path.stem} is not on the map"
