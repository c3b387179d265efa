"""Fixtures of the engines on CUDA: machines that stand in for one, and an FP16 model."""

from dataclasses import replace

import fake_tensorrt
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flair_engine.manifest import attach_manifest, spec_of


@pytest.fixture(params=fake_tensorrt.RELEASES)
def machine(request, monkeypatch):
    """A host with one GPU and, test by test, each TensorRT release."""
    machine = fake_tensorrt.Machine(request.param).install(monkeypatch)
    yield machine
    assert not machine.stack, "a context was left on the thread's stack"
    assert not machine.memory, "device memory was left allocated"


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
def fp16_path(tiny_path, tmp_path):
    """The golden model in FP16 with a cross instead of the box: sums up to 1275 are exact."""
    model = onnx.load(tiny_path)
    cross = np.zeros((2, 2, 5, 5), np.float16)
    cross[(0, 1), (0, 1), 2, 1:4] = cross[(0, 1), (0, 1), 1:4, 2] = 1
    for tensor in model.graph.initializer:
        if tensor.name == "box":
            tensor.CopyFrom(numpy_helper.from_array(cross, "box"))
    cast, convolution, *rest = model.graph.node
    half = helper.make_node("Cast", ["pixels"], ["half"], to=TensorProto.FLOAT16)
    convolution.input[0] = "half"
    nodes = [cast, half, convolution, *rest]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    attach_manifest(model, replace(spec_of(model, "tiny"), precision="fp16"))
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "model.fp16.onnx"
    onnx.save(model, path)
    return path
