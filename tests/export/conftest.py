"""Random networks and checkpoints, so that no test downloads anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import flair_export.checkpoint
import flair_export.graph
from flair_export.cards import CHANNELS, Card, find_card
from flair_export.network import build_network
from flair_export.publish import ExportOptions, model_spec

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec

PREFIX = "model.seg_model."
STANDIN = (
    Path(__file__).parents[2].parent
    / "shared/data/standin/standin_rvbie_15cl_resnet34-unet_weights.pth"
)


class TinyNetwork(nn.Module):
    """One 3x3 convolution with the parts of a segmentation model; answers in microseconds."""

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.decoder = nn.Identity()
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(bands, CHANNELS, 3, padding=1), nn.Identity(), nn.Identity()
        )
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.segmentation_head(self.decoder(self.encoder(image)))


@pytest.fixture
def one_thread():
    """Small tiles are many small steps, which threads only make wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny() -> TinyNetwork:
    torch.manual_seed(7)
    return TinyNetwork()


@pytest.fixture
def rgb() -> Card:
    return find_card("rgb_15cl_resnet34-unet")


def small_spec(card: Card, outputs=("labels",), tile_px=32, margin_px=8) -> ModelSpec:
    options = ExportOptions(outputs=outputs, tile_px=tile_px, margin_px=margin_px)
    return model_spec(card, card.name, "0" * 64, options)


def random_network(card: Card, seed: int = 0) -> nn.Module:
    """A network of the card whose random head sees every class now and then."""
    torch.manual_seed(seed)
    net = build_network(card, CHANNELS)
    nn.init.normal_(net.segmentation_head[0].weight, std=0.1)
    return net


def state_dict(card: Card, net: nn.Module | None = None, prefix: str = PREFIX) -> dict:
    """The layout of the published files: prefixed tensors and the class weights of the loss."""
    tensors = (net or random_network(card)).state_dict()
    weights = torch.zeros(CHANNELS)
    weights[[value - 1 for value in card.active]] = 1.0
    return {prefix + key: value for key, value in tensors.items()} | {"criterion.weight": weights}


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
def quick(monkeypatch, tiny: TinyNetwork):
    """Export a network of one layer in place of the file's, to reach what comes after loading."""
    monkeypatch.setattr(flair_export.checkpoint, "load_network", lambda *_: tiny)


def shift_bias(model: onnx.ModelProto, channel: int, amount: float) -> None:
    """Change one class's bias in the last convolution."""
    name = next(n for n in model.graph.node if n.op_type == "Conv").input[2]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    bias = numpy_helper.to_array(tensor).copy()
    bias[channel] += amount
    tensor.CopyFrom(numpy_helper.from_array(bias, name))


@pytest.fixture
def broken_graph(monkeypatch):
    """Make the exporter favour one class."""
    build = flair_export.graph.build_graph

    def build_broken(network, spec):
        model = build(network, spec)
        shift_bias(model, channel=4, amount=50.0)
        return model

    monkeypatch.setattr(flair_export.graph, "build_graph", build_broken)


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def standin() -> Path:
    if not STANDIN.is_file():
        pytest.skip(f"stand-in checkpoint {STANDIN} is not here")
    return STANDIN
