"""Rooms of the three packages and who may enter which: every import counts, lazy and type-only too.

ARCHITECTURE.md shows the same map.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

import pytest
from doubles.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = {
    "flair_engine": ROOT / "engine" / "flair_engine",
    "flair_export": ROOT / "export" / "flair_export",
    "flair_bench": ROOT / "benchmarks" / "flair_bench",
}
MAY_IMPORT = {
    "flair_engine": set(),
    "flair_export": {"flair_engine"},
    "flair_bench": {"flair_engine", "flair_export"},
}
"""Packages that a package may import beside itself."""

ROOMS = {
    "flair_engine": [
        {"version", "errors", "tolerances", "durable", "overlap", "grid", "manifest", "options"}
        | {
            "system",
            "agreement",
            "command",
            "overwriting",
            "gdal",
            "checking",
            "signals",
            "starting",
            "texts",
            "bounded_json",
            "model_file",
            "pace",
            "advice",
            "crs",
            "option_groups",
            "window_index",
            "core_mask",
            "locking",
        },
        {"reading", "inference", "mapping"},
        {"work", "post"},
        {"tally", "coverage", "provenance"},
        {"contents"},
        {"report", "resuming", "sidecars", "memory"},
        {"page"},
        {"run"},
        {"api"},
        {"territory"},
        {"cli"},
        {"__main__"},
    ],
    "flair_export": [
        {"errors", "cards", "writing"},
        {"graph"},
        {"network", "rewrite"},
        {"synthetic"},
        {"proof"},
        {"convert"},
        {"publish", "stac", "trial"},
        {"tuning"},
        {"show", "preview"},
        {"cli", "demo"},
        {"__main__"},
    ],
    "flair_bench": [
        {"errors", "figures", "official", "processes", "machine", "provenance", "results"},
        {"data", "yardstick"},
        {"measure", "show"},
        {"suite"},
        {"cli"},
        {"__main__"},
    ],
}
"""Rooms (folders and lone modules) from the floor up. A room may enter those of lower levels, and a
module of the floor others of the floor, but no room another of its own level."""

ONLY_IN = {
    "flair_engine": {
        "pycuda": ("inference/gpu/",),
        "tensorrt": ("inference/gpu/",),
        "onnxruntime": ("inference/",),
        "openvino": ("inference/",),
        "ray": ("territory/ray.py",),
        "rasterio": ("reading/", "mapping/", "post/", "gdal.py", "crs.py"),
        "pyogrio": ("reading/area.py", "post/"),
        "shapely": ("reading/area.py", "reading/clip.py", "post/"),
        "PIL": ("mapping/preview.py",),
        "pystac": ("mapping/stac.py",),
        "torch": (),
    },
    "flair_export": {
        "torch": ("network/", "proof/reference.py", "synthetic/standin.py", "demo.py"),
        "segmentation_models_pytorch": ("network/",),
        "safetensors": ("network/",),
        "huggingface_hub": ("network/",),
        "matplotlib": ("preview.py",),
        "pystac": ("stac.py",),
    },
    "flair_bench": {
        "torch": ("yardstick/", "measure/", "suite.py"),
        "matplotlib": ("show/",),
        "cattrs": ("results.py",),
    },
}
"""Where in a package a library may be imported, by the beginning of the path."""


class Import(NamedTuple):
    """What one module imports."""

    importer: str
    imported: str


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by dotted name, packages without `.__init__`."""
    folder = PACKAGES[package]
    return {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in sorted(folder.rglob("*.py"))
    }


def imports_of(source: str) -> Iterator[str]:
    """Yield the dotted names that a source imports, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def resolved(name: str, known: dict[str, Path]) -> str:
    """Return the module that an imported name is or lies in."""
    return name if name in known else name.rpartition(".")[0]


def edges(package: str) -> list[Import]:
    """Return the imports among the modules of a package."""
    known = modules(package)
    return [
        Import(module, resolved(name, known))
        for module, path in known.items()
        for name in imports_of(path.read_text(encoding="utf-8"))
        if name.split(".")[0] == package
    ]


def room(module: str) -> str:
    """Return the folder or lone module below the package that a module lies in."""
    return [*module.split("."), ""][1]


def upward(package: str, found: list[Import]) -> list[Import]:
    """Return the imports that enter a room they may not."""
    level = {name: n for n, names in enumerate(ROOMS[package]) for name in names}
    return [
        edge
        for edge in found
        if room(edge.importer)  # the package's own __init__ only hands names on
        and room(edge.importer) != room(edge.imported)
        and not (
            level[room(edge.imported)] < level[room(edge.importer)]
            or level[room(edge.imported)] == level[room(edge.importer)] == 0
        )
    ]


def circles(found: list[Import]) -> list[list[str]]:
    """Return the groups of modules that import one another in a circle."""
    reached = {edge.importer: set[str]() for edge in found}
    for edge in found:
        reached[edge.importer].add(edge.imported)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        left = list(reached.get(start, ()))
        while left:
            module = left.pop()
            if module not in seen:
                seen.add(module)
                left.extend(reached.get(module, ()))
        return seen

    everything = {module: reachable(module) for module in reached}
    groups = {
        tuple(sorted(m for m in seen if module in everything.get(m, ())))
        for module, seen in everything.items()
        if module in seen
    }
    return [list(group) for group in sorted(groups)]


def strangers(package: str) -> list[tuple[str, str]]:
    """Return (path, library) of libraries that are imported outside their home."""
    folder = PACKAGES[package]
    return [
        (path.relative_to(folder).as_posix(), library)
        for path in modules(package).values()
        for library in {name.split(".")[0] for name in imports_of(path.read_text("utf-8"))}
        if library in ONLY_IN[package]
        and not path.relative_to(folder).as_posix().startswith(ONLY_IN[package][library])
    ]


@pytest.mark.parametrize("package", ROOMS)
def test_every_module_has_a_room(package):
    assert {room(module) for module in modules(package)} - {""} == set().union(*ROOMS[package])


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_enters_only_those_below_it(package):
    assert upward(package, edges(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_one_another_in_a_circle(package):
    assert circles(edges(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_depend_in_one_direction(package):
    for path in modules(package).values():
        named = {name.split(".")[0] for name in imports_of(path.read_text(encoding="utf-8"))}
        assert named & PACKAGES.keys() <= MAY_IMPORT[package] | {package}, path


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_library_has_one_home(package):
    assert strangers(package) == []


PLANTED = [
    ("flair_engine.grid", "from flair_engine.reading.files import describe"),
    ("flair_engine.reading.files", "import flair_engine.run"),
    ("flair_engine.reading.files", "from flair_engine.inference import choose"),
    ("flair_engine.mapping.journal", "from flair_engine.reading.strips import Strip"),
    ("flair_engine.api", "def lazy():\n    from flair_engine import cli"),
    ("flair_engine.errors", "if TYPE_CHECKING:\n    from flair_engine.report import Report"),
]


@pytest.mark.parametrize(("module", "source"), PLANTED)
def test_a_planted_upward_import_is_found(module, source):
    known = modules("flair_engine")
    planted = [Import(module, resolved(name, known)) for name in imports_of(source)]
    assert upward("flair_engine", planted) == planted


def test_a_planted_circle_is_found():
    planted = Import("flair_engine.errors", "flair_engine.manifest")
    (circle,) = circles([*edges("flair_engine"), planted])
    assert {"flair_engine.errors", "flair_engine.manifest"} <= set(circle)


def test_a_planted_library_is_found(monkeypatch, tmp_path):
    (tmp_path / "run.py").write_text("def run():\n    import torch\n")
    monkeypatch.setitem(PACKAGES, "flair_engine", tmp_path)
    assert strangers("flair_engine") == [("run.py", "torch")]


TESTS = {"flair_engine": "engine", "flair_export": "export", "flair_bench": "bench"}


def behaves(path: Path) -> bool:
    """Return whether a module holds a function, and is more than a door to others."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    return functions and not path.stem.startswith("__")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_that_does_something_has_tests_of_its_name(package):
    folder = PACKAGES[package]
    for path in filter(behaves, modules(package).values()):
        place = path.relative_to(folder)
        tests = ROOT / "tests" / TESTS[package] / place.with_name(f"test_{place.name}")
        assert tests.is_file(), f"{place} has no {tests.relative_to(ROOT)}"


def public_names(path: Path) -> Iterator[str]:
    """Yield the classes and constants that a module defines for others."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        names = [name.id for target in targets if target for name in ast.walk(target)
                 if isinstance(name, ast.Name)]  # fmt: skip
        if isinstance(node, ast.ClassDef):
            names = [node.name]
        yield from (name for name in names if not name.startswith("_"))


def test_a_class_or_constant_is_defined_once():
    places: dict[str, list[str]] = {}
    for package in PACKAGES:
        for module, path in modules(package).items():
            for name in set(public_names(path)) - {
                "T",
                "F",
                "Key",
                "TYPE_CHECKING",
                "NAME",
            }:  # type variables
                places.setdefault(name, []).append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_module_docstrings_begin_with_a_noun():
    sources = [path for package in PACKAGES for path in modules(package).values()]
    sources += (ROOT / "tests").rglob("*.py")
    for path in sources:
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert said.split(" ")[0] not in ("What", "How", "Which", "Where"), path


def test_what_goes_on_with_a_map_needs_neither_reading_nor_inference():
    entered = {
        room(edge.imported) for edge in edges("flair_engine") if room(edge.importer) == "post"
    }
    assert entered.isdisjoint({"reading", "inference", "run", "api", "work"})
