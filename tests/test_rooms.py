"""Rooms of the engine and who may enter which: every import counts, lazy and type-only ones too."""

import ast
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[1] / "engine" / "flair_engine"
FLOOR = {"errors", "grid", "manifest", "options", "agreement", "overlap", "report"}
"""Modules every room stands on; they import one another in this order of depth only."""
MAY_ENTER = {
    "reading": FLOOR,
    "inference": FLOOR | {"reading"},
    "mapping": FLOOR,
    "provenance": FLOOR | {"inference"},
    "run": FLOOR | {"reading", "inference", "mapping", "provenance"},
    "api": FLOOR | {"reading", "inference", "run"},
    "cli": FLOOR | {"inference", "api"},
    **dict.fromkeys(FLOOR, FLOOR),
}
ONLY_IN = {"pycuda": "inference/gpu", "tensorrt": "inference/gpu", "openvino": "inference",
           "onnxruntime": "inference", "fiona": "reading"}  # fmt: skip


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules():
    return [p for p in sorted(ENGINE.rglob("*.py")) if p.name != "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ENGINE)))
def test_a_room_enters_only_those_it_may(path):
    room = path.relative_to(ENGINE).parts[0].removesuffix(".py")
    entered = {n.split(".")[1] for n in imports(path) if n.startswith("flair_engine.")} - {room}
    assert entered <= MAY_ENTER[room]


@pytest.mark.parametrize(("library", "home"), ONLY_IN.items())
def test_a_library_has_one_home(library, home):
    users = {p.relative_to(ENGINE).as_posix() for p in modules()
             if any(n.split(".")[0] == library for n in imports(p))}  # fmt: skip
    assert all(user.startswith(home + "/") for user in users), users
