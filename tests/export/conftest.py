"""Networks and checkpoints for the exporter's tests; needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from doubles.networks import OneLayer, WideNetwork, one_layer, shift_bias, state_dict, wide_network
from doubles.paths import STANDIN

import flair_export.network.checkpoint
import flair_export.network.trace
from flair_export.cards import Card, find_card
from flair_export.publish import ExportOptions, export

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def one_thread():
    """Small tiles are many small steps, which threads only make wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> OneLayer:
    return one_layer()


@pytest.fixture
def rgb() -> Card:
    return find_card("rgb_15cl_resnet34-unet")


@pytest.fixture(scope="session")
def rgb_state() -> dict:
    """State dict of a random RGB U-Net; copy before changing."""
    return state_dict(find_card("rgb_15cl_resnet34-unet"))


@pytest.fixture(scope="session")
def rgb_file(rgb_state: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "rgb_weights.pth"
    torch.save(rgb_state, path)
    return path


@pytest.fixture
def quick(monkeypatch, tiny: OneLayer):
    """Export a network of one layer in place of the file's, to reach what comes after loading."""
    monkeypatch.setattr(flair_export.network.checkpoint, "load_network", lambda *_: tiny)


@pytest.fixture
def wide() -> WideNetwork:
    return wide_network()


@pytest.fixture
def quick_wide(monkeypatch, wide: WideNetwork):
    """Export a network with a wide convolution in place of the file's."""
    monkeypatch.setattr(flair_export.network.checkpoint, "load_network", lambda *_: wide)


@pytest.fixture
def exported(rgb_file: Path, tmp_path: Path, quick) -> Path:
    """An exported FP32 file of one layer, tile 32, margin 8."""
    path = tmp_path / "model.onnx"
    export(rgb_file, path, ExportOptions(tile_px=32, margin_px=8))
    return path


@pytest.fixture
def exported_wide(rgb_file: Path, tmp_path: Path, quick_wide) -> Path:
    """An exported FP32 file with a wide convolution, tile 32, margin 8."""
    path = tmp_path / "model.onnx"
    export(rgb_file, path, ExportOptions(tile_px=32, margin_px=8))
    return path


@pytest.fixture
def broken_graph(monkeypatch):
    """Make the exporter favour one class."""
    build = flair_export.network.trace.build_graph

    def build_broken(network, spec):
        model = build(network, spec)
        shift_bias(model, channel=4, amount=50.0)
        return model

    monkeypatch.setattr(flair_export.network.trace, "build_graph", build_broken)


@pytest.fixture
def standin() -> Path:
    if not STANDIN.is_file():
        pytest.skip(f"stand-in checkpoint {STANDIN} is not here")
    return STANDIN
