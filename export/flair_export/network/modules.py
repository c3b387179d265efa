"""Module that is exported: raw bytes in, labels out.

uint8 -> FP32 normalisation -> network -> centre -> logits of the active classes -> uint8 outputs.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.manifest import ModelSpec
    from flair_export.cards import Card


def build_network(card: Card, channels: int) -> nn.Module:
    """Build the bare network of `card` with `channels` outputs and random weights, in eval mode."""
    import segmentation_models_pytorch as smp

    net: nn.Module = smp.create_model(
        card.architecture,
        encoder_name=card.encoder,
        encoder_weights=None,  # anything else downloads ImageNet weights
        in_channels=card.band_count,
        classes=channels,
    )
    return net.eval()


class LabelNetwork(nn.Module):
    """A FLAIR network from uint8 `[N, bands, T, T]` to the outputs its manifest names.

    `net` is shared, not copied and not changed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.values = [entry.value for entry in spec.active_classes]
        self.channels = max(entry.value for entry in spec.classes)
        self.outputs = spec.outputs
        self.margin_px = spec.margin_px
        self.register_buffer("mean", torch.tensor(spec.normalization.mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(spec.normalization.std).reshape(1, -1, 1, 1))
        self.encoder = net.get_submodule("encoder")
        self.decoder = net.get_submodule("decoder")
        self.head = active_head(net.get_submodule("segmentation_head"), self.values)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the uint8 outputs in the order of the manifest."""
        logits = self.logits(image)
        results = {"labels": label_values(logits.argmax(dim=1), self.values)}
        if len(self.outputs) > 1:
            shares = logits.softmax(dim=1)
            results["confidence"] = quantised(shares.amax(dim=1))
            results["probabilities"] = spread(quantised(shares), self.values, self.channels)
        return tuple(results[name].to(torch.uint8) for name in self.outputs)

    def logits(self, image: Tensor) -> Tensor:
        """Return FP32 logits `[N, active classes, C, C]` of the tile's centre."""
        # Not folded into the first convolution: its zero padding means "the mean" only after this.
        normalised = (image.to(torch.float32) - self.mean) / self.std
        logits: Tensor = self.head(self.decoder(self.encoder(normalised)))
        if self.margin_px == 0:
            return logits
        kept = slice(self.margin_px, -self.margin_px)
        return logits[:, :, kept, kept]


def active_head(head: nn.Module, values: Sequence[int]) -> nn.Module:
    """Copy a segmentation head without the output channels of inactive classes.

    A class that is not computed cannot win, whatever the logits of the others are.
    """
    narrowed = copy.deepcopy(head)
    convolution = narrowed.get_submodule("0")
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    rows = torch.tensor(values) - 1
    convolution.weight = nn.Parameter(convolution.weight.detach()[rows].clone())
    convolution.bias = nn.Parameter(convolution.bias.detach()[rows].clone())
    convolution.out_channels = len(values)
    return narrowed


def label_values(indices: Tensor, values: Sequence[int]) -> Tensor:
    """Turn indices into ascending `values` into those values, as float, by arithmetic alone.

    Steps instead of a look-up, which becomes a Gather and costs an engine its fusion.
    """
    index = indices.to(torch.float32)
    label = index + values[0]
    for position, (below, above) in enumerate(pairwise(values)):
        if gap := above - below - 1:
            label = label + gap * (index - position).clamp(0.0, 1.0)
    return label


def quantised(shares: Tensor) -> Tensor:
    """Return shares 0..1 as counts 0..255, halves up, still float."""
    return torch.floor(shares * 255 + 0.5)


def spread(planes: Tensor, values: Sequence[int], channels: int) -> Tensor:
    """Put plane k of `[N, active, H, W]` at channel values[k] - 1 of `channels`; the rest is 0."""
    zero = planes[:, :1] * 0
    position = {value: index for index, value in enumerate(values)}
    return torch.cat(
        [
            planes[:, position[value] : position[value] + 1] if value in position else zero
            for value in range(1, channels + 1)
        ],
        dim=1,
    )
