"""Commands of README.md and docs/*.md: run as written, or listed with the reason and checked.

A block's commands run one after the other in one scratch folder, as a reader would type them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from doubles.pages import GUIDE, ROOT, blocks, commands
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S = 60
BROUGHT = {"torchvision"}
"""Packages that others bring along."""
PROGRAMS = ("flair-run", "flair-post", "flair-job", "flair-export", "flair-bench")


def words_of(command):
    """Return a command's words without the variables set for it."""
    words = shlex.split(command, comments=True)
    return list(dropwhile(lambda word: re.match(r"\w+=", word), words))


def check_options(words, monkeypatch):
    """Let the program parse its words, with commands that do nothing."""
    name = next(word for word in words if word in PROGRAMS)
    (entry,) = metadata.entry_points(group="console_scripts", name=name)
    program = import_module(f"{entry.module.rpartition('.')[0]}.cli")
    for known in vars(program).values():
        if isinstance(known, click.Command):
            silence(known, monkeypatch)
    monkeypatch.setattr(sys, "argv", words[words.index(name) :])
    entry.load()()


def silence(command, monkeypatch):
    monkeypatch.setattr(command, "callback", lambda **_options: None)
    for inner in getattr(command, "commands", {}).values():
        silence(inner, monkeypatch)


def check_extras(words, _monkeypatch):
    """Look for the packages that are named, and for the extras of a clone."""
    names = [word for word in words[2:] if not word.startswith("-") and ":" not in word]
    wanted = {Requirement(text).name for text in metadata.requires("flair-engine")} | BROUGHT
    for name in names:
        if here := re.fullmatch(r"\.(?:\[(.+)\])?", name):
            extras = set((here[1] or "").split(",")) - {""}
            assert extras <= set(metadata.metadata("flair-engine").get_all("Provides-Extra"))
        elif "/" not in name:
            assert name in wanted, name
    check_files(words, _monkeypatch)


def check_target(words, _monkeypatch):
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([\w.-]+):", recipes, re.MULTILINE)
    assert set(words[1:]) <= set(targets)


def check_files(words, _monkeypatch):
    """Look for the files of the repository that are named."""
    named = [w for w in words if re.match(r"(engine|export|benchmarks|tests|docs)/", w)]
    assert [name for name in named if not (ROOT / name).exists()] == []


def check_docker(words, monkeypatch):
    check_files(words, monkeypatch)
    recipe = (ROOT / "engine" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for name, value in (w.split("=") for w in words if re.match(r"[A-Z]+=", w)):
        assert f"ARG {name}=" in recipe
        assert name != "CONSTRAINTS" or (ROOT / "engine" / "docker" / value).is_file()
    if set(words) & set(PROGRAMS):
        check_options(words, monkeypatch)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Commands that do not run here: a pattern, the reason, and what is checked of them instead."""

    pattern: str
    reason: str
    check: Callable[[list[str], pytest.MonkeyPatch], None]


ELSEWHERE = (
    Elsewhere(r"pip install ", "changes the environment", check_extras),
    Elsewhere(r"make ", "makes an environment of its own, and takes minutes", check_target),
    Elsewhere(r"docker ", "needs Docker, and a GPU", check_docker),
    Elsewhere(r"trtexec ", "comes with TensorRT, and needs a GPU", check_files),
    Elsewhere(r"(\w+=\S+ )*pytest -m gpu ", "needs a GPU", check_files),
    Elsewhere(r"flair-bench ", "takes minutes", check_options),
    Elsewhere(r"flair-\w+ .*--engine trt\b", "needs a GPU and TensorRT", check_options),
    Elsewhere(r"flair-run .*--plan ", "needs a GPU and TensorRT", check_options),
    Elsewhere(r"flair-job .*--workers ray", "starts a cluster, and needs Ray", check_options),
    Elsewhere(r"flair-export (tune )?IGNF/", "downloads weights from the Hub", check_options),
)


def elsewhere(command):
    """Return the entry of a command that is not run, None for one that is."""
    return next((entry for entry in ELSEWHERE if re.match(entry.pattern, command)), None)


def documented():
    return [
        pytest.param(commands(block), id=f"{page.stem}-{number}")
        for page in GUIDE
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "sh"), 1)
    ]


def run(command, folder):
    """Run a command in a shell that finds this environment's programs first."""
    # What the command is to write may lie here for the sake of others.
    for output in re.findall(r"(?:-o|--output) (\S+)", command):
        (folder / output).unlink(missing_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-euc", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("block", documented())
def test_commands_do_what_they_are_said_to(block, scratch, monkeypatch):
    assert block, "a block without a command"
    for command in block:
        if entry := elsewhere(command):
            entry.check(words_of(command), monkeypatch)
        else:
            run(command, scratch)


def test_every_entry_of_the_table_is_of_use():
    used = {elsewhere(command) for block in documented() for command in block.values[0]}
    assert [entry.pattern for entry in ELSEWHERE if entry not in used] == []


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("flair-run --engine trt --tiles 4 -m a.onnx in.tif out.tif", SystemExit),
        ("flair-export IGNF/name --presicion fp16 -o model.onnx", SystemExit),
        ("flair-bench throughput --models model.onnx image.tif", SystemExit),
        ("docker run image flair-run --modle a.onnx in.tif out.tif", SystemExit),
        ("docker build --build-arg CONSTRAINT=v100.txt .", AssertionError),
        ("docker build --build-arg CONSTRAINTS=t4.txt .", AssertionError),
        ("docker build -f engine/Dockerfile .", AssertionError),
        ("pip install '.[gpu]'", AssertionError),
        ("pip install 'flair-engine[cpu]'", AssertionError),
        ("make everything", AssertionError),
        ("FLAIR_GPU_MODEL=a.onnx pytest -m gpu tests/test_gpu.py", AssertionError),
    ],
)
def test_what_is_renamed_is_found_in_commands_that_do_not_run(command, error, monkeypatch):
    with pytest.raises(error):
        elsewhere(command).check(words_of(command), monkeypatch)


def test_a_command_that_fails_is_shown(tmp_path):
    with pytest.raises(AssertionError, match=r"\$ flair-run --no-such-option(.|\n)*No such option"):
        run("flair-run --no-such-option", tmp_path)


def test_commands_are_read_as_a_shell_reads_them():
    block = "# first\nflair-run a \\\n  --cog\n\n  # then\nmake demo  # draws\n"
    assert commands(block) == ["flair-run a --cog", "make demo # draws"]
    assert words_of("A=1 make demo # draws") == ["make", "demo"]
