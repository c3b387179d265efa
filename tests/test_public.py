"""Names, commands, versions and pins that others rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module, metadata

import pytest
from doubles.paths import ROOT
from packaging.requirements import Requirement

PUBLIC = {
    "flair_engine": {
        "FlairError",
        "Grid",
        "Inputs",
        "MapOptions",
        "Model",
        "ModelSpec",
        "PartRecord",
        "Plan",
        "ReadOptions",
        "Report",
        "RunOptions",
        "__version__",
        "finish",
        "plan",
        "read_model_spec",
        "run_part",
        "segment",
    },
    "flair_export": {
        "CARDS",
        "Card",
        "CardError",
        "CheckpointError",
        "EqualLabels",
        "ExportError",
        "ExportOptions",
        "ExporterMissingError",
        "ImageError",
        "OptionError",
        "Trial",
        "Trials",
        "TuneOptions",
        "Tuned",
        "Verdict",
        "VerificationError",
        "Way",
        "export",
        "export_deepness",
        "export_fp16",
        "export_int8",
        "find_card",
        "tune",
    },
}
COMMANDS = {
    "flair_engine": "flair-run",
    "flair_engine.post": "flair-post",
    "flair_engine.territory": "flair-job",
    "flair_export": "flair-export",
    "flair_bench": "flair-bench",
}
RUNTIME_EXTRAS = {"cpu", "openvino", "aoi", "vector", "ray", "export", "bench"}
"""Extras that constraints.txt pins; TensorRT's pins are in engine/docker."""


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names(package):
    module = import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(("package", "name"), COMMANDS.items())
def test_commands_run_as_modules_and_say_their_version(package, name):
    command = [sys.executable, "-m", package, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == [f"{name},", "version", import_module("flair_engine").__version__]


def test_the_version_is_that_of_the_distribution_and_in_the_changelog():
    version = import_module("flair_engine").__version__
    assert metadata.version("flair-engine") == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_constraints_pin_every_package_that_is_asked_for_to_a_version_that_is_allowed():
    pinned = {pin.name.lower().replace("_", "-"): pin for pin in pins()}
    for wanted in map(Requirement, metadata.requires("flair-engine")):
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(wanted.marker or ""))
        if extra is None or extra[1] in RUNTIME_EXTRAS:
            (specifier,) = pinned[wanted.name.lower().replace("_", "-")].specifier
            assert specifier.operator == "=="
            assert wanted.specifier.contains(specifier.version), wanted


def test_hooks_are_the_checks_of_make():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    checks = (ROOT / "Makefile").read_text(encoding="utf-8")
    for tool in (
        "ruff check",
        "ruff format",
        "mypy\n",
        "mypy --platform win32",
        "mypy --platform darwin",
    ):
        assert f".venv/bin/{tool}" in hooks
        assert f"$(BIN)/{tool}" in checks
