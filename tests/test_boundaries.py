"""Libraries that each package loads, and when: proved in fresh interpreters."""

import subprocess
import sys

import pytest
from doubles.paths import ROOT


def loaded_by(statement, *modules):
    """Return which of `modules` a fresh interpreter has loaded after `statement`."""
    probe = f"import sys; {statement}; print(*[m for m in {modules!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    return result.stdout.split()


def test_importing_the_engine_loads_nothing_heavy():
    heavy = (
        "torch",
        "onnxruntime",
        "openvino",
        "onnx",
        "rasterio",
        "tensorrt",
        "pycuda",
        "flair_export",
    )
    assert loaded_by("import flair_engine", *heavy) == []


def test_running_the_engine_never_loads_torch_or_the_exporter():
    run = (
        "import numpy as np, flair_engine;"
        "model = flair_engine.Model('tests/data/tiny.onnx');"
        "model.predict(np.zeros((2, 9, 9), np.uint8)); model.close();"
        "import flair_engine.cli"
    )
    assert loaded_by(run, "torch", "flair_export") == []


def test_the_exporter_loads_nothing_heavy_until_used():
    pytest.importorskip("torch")
    heavy = ("torch", "onnx", "onnxruntime", "rasterio", "matplotlib")
    assert loaded_by("import flair_export, flair_export.cli", *heavy) == []


def test_no_module_is_imported_by_its_folder():
    for source in ROOT.glob("*/flair_*/**/*.py"):
        for line in source.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("engine", "export", "benchmarks"), source


def test_the_benchmarks_load_nothing_heavy_until_used():
    pytest.importorskip("torch")
    assert loaded_by("import flair_bench.cli", "torch", "matplotlib", "onnxruntime") == []
