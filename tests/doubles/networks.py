"""Random networks and checkpoints, so that no test downloads anything; needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from onnx import numpy_helper
from torch import nn

from flair_export.cards import CHANNELS, Card
from flair_export.network.checkpoint import CLASS_WEIGHTS
from flair_export.network.modules import LabelNetwork, build_network
from flair_export.network.trace import build_graph
from flair_export.publish import ExportOptions, model_spec
from flair_export.synthetic.standin import PUBLISHED_PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from flair_engine.manifest import ModelSpec


class OneLayer(nn.Module):
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


def one_layer(bands: int = 3) -> OneLayer:
    """Return a seeded network of one layer; torch's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return OneLayer(bands)


class Branches(nn.Module):
    """A wide convolution, added to what it read."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(64, 64, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.wide(features)) + features


class WideNetwork(nn.Module):
    """Pointwise convolutions, one of them wide enough for INT8."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU())
        self.decoder = Branches()
        self.segmentation_head = nn.Sequential(
            nn.Conv2d(64, CHANNELS, 1), nn.Identity(), nn.Identity()
        )
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.segmentation_head(self.decoder(self.encoder(image)))


def wide_network() -> WideNetwork:
    """Return a seeded network with a wide convolution."""
    torch.manual_seed(5)
    return WideNetwork()


def small_spec(card: Card, outputs=("labels",), tile_px=32, margin_px=8) -> ModelSpec:
    """Return the manifest of a published model at a small geometry."""
    options = ExportOptions(outputs=outputs, tile_px=tile_px, margin_px=margin_px)
    return model_spec(card, card.name, "0" * 64, options)


def random_network(card: Card, seed: int = 0) -> nn.Module:
    """Return a network of the card whose random head sees every class now and then."""
    torch.manual_seed(seed)
    net = build_network(card, CHANNELS)
    nn.init.normal_(net.segmentation_head[0].weight, std=0.1)
    return net


def graph_of(net: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    """Return the graph that is exported of a network, before anything is cropped or folded."""
    return build_graph(LabelNetwork(net, spec), spec)


def random_graph(card: Card, spec: ModelSpec) -> onnx.ModelProto:
    """Return the graph of a random network of a published architecture."""
    return graph_of(random_network(card), spec)


def state_dict(card: Card, net: nn.Module | None = None, prefix: str = PUBLISHED_PREFIX) -> dict:
    """Return the layout of the published files: prefixed tensors and the loss's class weights."""
    tensors = (net or random_network(card)).state_dict()
    weights = torch.zeros(CHANNELS)
    weights[[value - 1 for value in card.active]] = 1.0
    return {prefix + key: value for key, value in tensors.items()} | {CLASS_WEIGHTS: weights}


def shift_bias(model: onnx.ModelProto, channel: int, amount: float) -> None:
    """Change one class's bias in the last convolution of a graph."""
    name = next(n for n in model.graph.node if n.op_type == "Conv").input[2]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    bias = numpy_helper.to_array(tensor).copy()
    bias[channel] += amount
    tensor.CopyFrom(numpy_helper.from_array(bias, name))


def uniform_head(net: OneLayer, biases: dict[int, float], others: float) -> None:
    """Make every pixel's logit of class v `biases[v]`, or `others`."""
    convolution = net.segmentation_head[0]
    nn.init.zeros_(convolution.weight)
    nn.init.constant_(convolution.bias, others)
    with torch.no_grad():
        for value, bias in biases.items():
            convolution.bias[value - 1] = bias


def noise(count: int = 2, bands: int = 3, edge: int = 32) -> torch.Tensor:
    """Return seeded uint8 [count, bands, edge, edge]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, bands, edge, edge), dtype=torch.uint8, generator=generator)


def saved(path: Path, content: object) -> str:
    """Write a weights file and return its name."""
    torch.save(content, path)
    return str(path)
