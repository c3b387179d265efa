"""Models for the engine's tests, made from the golden one, and machines that stand in for a GPU."""

import dataclasses
from functools import partial

import numpy as np
import onnx
import pytest
from doubles import fake_tensorrt
from doubles.tiny_model import write_box_model, write_cross_model

from flair_engine.manifest import attach_manifest, spec_of


@pytest.fixture
def band_model(tmp_path):
    """Write the box-filter model for named bands; return its path."""
    return partial(write_box_model, tmp_path)


@pytest.fixture(params=fake_tensorrt.RELEASES)
def machine(request, monkeypatch):
    """A host with one GPU and, test by test, each TensorRT release."""
    machine = fake_tensorrt.Machine(request.param).install(monkeypatch)
    yield machine
    assert not machine.stack, "a context was left on the thread's stack"
    assert not machine.memory, "device memory was left allocated"
    assert not machine.contexts, "a context was not given back"


@pytest.fixture
def one_machine(monkeypatch):
    """A host with one GPU and one release, for what does not depend on it."""
    return fake_tensorrt.Machine("10.4.0").install(monkeypatch)


def cross_labels(image_bhw):
    """What the model of `fp16_path` answers: a pixel and its four neighbours, summed."""
    _, height, width = image_bhw.shape
    padded = np.pad(image_bhw.astype(int), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    sums = sum(padded[:, i : i + height, j : j + width] for i, j in moves)
    return np.where(sums[0] >= sums[1], 1, 3).astype(np.uint8)


@pytest.fixture
def expected_cross():
    """The oracle of the FP16 model."""
    return cross_labels


@pytest.fixture
def fp16_path(tmp_path):
    """The golden model in FP16 with a cross instead of the box."""
    return write_cross_model(tmp_path)


@pytest.fixture
def int8_path(tiny_path, tmp_path):
    """The golden model under a manifest that says it is INT8."""
    model = onnx.load(tiny_path)
    changes = {"precision": "int8", "agreement_fp32": 0.9876}
    attach_manifest(model, dataclasses.replace(spec_of(model, "tiny"), **changes))
    path = tmp_path / "int8.onnx"
    onnx.save(model, path)
    return path
