"""Stand-in checkpoint: the layout of a published FLAIR model, none of its training.

The weights are not IGN's and say nothing about the quality of IGN's models. Most are random; the
first filters are blurred, two convolutions learn in closed form to tell the classes of a synthetic
scene apart, and those between the two hand their scores on. That is enough for a map of another
synthetic scene that a person can check by eye.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flair_export.cards import CHANNELS, STANDIN_CARD, Card, find_card
from flair_export.network.checkpoint import CLASS_WEIGHTS
from flair_export.network.modules import build_network
from flair_export.synthetic.scene import synthetic_orthophoto

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTICE = "These weights are a stand-in fitted on a synthetic scene, not IGN's."
PUBLISHED_PREFIX = "model.seg_model."
"""What the training framework puts before each name of a published file."""
FITTED_SCENE_SEED = 58
"""Of a scene on which every class of the generator occurs."""
FITTED_SCENE_PX = 1536
FITTED_TILE_PX = 512
PIXELS_PER_TILE = 6000
"""Pixels of each tile that enter a fit."""
RIDGE = 1e-3
"""Weight decay of a fit, relative to the mean square of its features."""
LOGIT = 12.0
"""What the head is fitted to answer for the true class, against 0 for the others."""

Samples = list[tuple[Tensor, Tensor]]
"""Normalised tiles [5, T, T] with their labels [T, T]."""


def build_standin(seed: int = FITTED_SCENE_SEED) -> dict[str, Tensor]:
    """Return the state dict of a stand-in network, named as in a published file.

    278 tensors `model.seg_model.*` and `criterion.weight`, which is 0 for inactive classes. Takes
    some 20 s of one core and leaves torch's random state as it was.
    """
    card = find_card(STANDIN_CARD)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = build_network(card, CHANNELS)
        samples = _samples(card, seed)
        _look_at_colors(network.get_submodule("encoder.conv1"))
        _calibrate(network, [tile for tile, _ in samples[::2]])
        _fit_classes(network, card, samples)
    state = {PUBLISHED_PREFIX + name: tensor for name, tensor in network.state_dict().items()}
    weights = [float(value in card.active) for value in range(1, CHANNELS + 1)]
    return {**state, CLASS_WEIGHTS: torch.tensor(weights)}


def _samples(card: Card, seed: int) -> Samples:
    """Cut the scene that belongs to `seed` into normalised tiles."""
    image, labels = synthetic_orthophoto(FITTED_SCENE_PX, FITTED_SCENE_PX, seed)
    mean, std = (
        torch.tensor(values).reshape(-1, 1, 1)
        for values in (card.normalization.mean, card.normalization.std)
    )
    normalised = (torch.from_numpy(image).float() - mean) / std
    truth = torch.from_numpy(labels.astype(np.int64))
    corners = [
        (slice(top, top + FITTED_TILE_PX), slice(left, left + FITTED_TILE_PX))
        for top in range(0, FITTED_SCENE_PX, FITTED_TILE_PX)
        for left in range(0, FITTED_SCENE_PX, FITTED_TILE_PX)
    ]
    return [(normalised[:, rows, cols], truth[rows, cols]) for rows, cols in corners]


def _look_at_colors(convolution: nn.Module) -> None:
    """Make each filter of the first convolution a random mix of bands seen through a blur.

    White noise filters would answer to texture alone; these keep colour and height, at four scales.
    """
    assert isinstance(convolution, nn.Conv2d)
    filters, bands, size, _ = convolution.weight.shape
    offset = torch.arange(size) - size // 2
    sigma = torch.tensor([0.5, 0.8, 1.3, 2.0]).repeat(math.ceil(filters / 4))[:filters]
    profile = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    profile /= profile.sum(dim=1, keepdim=True)
    blur = profile[:, None, :, None] * profile[:, None, None, :]
    convolution.weight.copy_(torch.randn(filters, bands, 1, 1) * blur)


def _calibrate(network: nn.Module, tiles: list[Tensor]) -> None:
    """Give every BatchNorm the statistics of `tiles`, and the first a spread of thresholds."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[0].bias.normal_(0, 0.7)  # ReLUs that open at different values can bend a boundary
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain averages
    network.train()
    for tile in tiles:
        network(tile[None])
    network.eval()


def _fit_classes(network: nn.Module, card: Card, samples: Samples) -> None:
    """Fit one score per active class at half resolution, hand the scores on, and fit the head.

    The first fit reads the last skip connection (colours) and what the decoder knows (context); the
    second one corrects it at full resolution.
    """
    active = list(card.active)
    scores = network.get_submodule("decoder.blocks.3.conv1")
    convolution, norm = scores.get_submodule("0"), scores.get_submodule("1")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    weight, bias = _least_squares(network, convolution, samples, active)
    convolution.weight.zero_()
    convolution.weight[: len(active)] = weight
    norm.reset_running_stats()
    norm.bias.zero_()
    norm.bias[: len(active)] = bias

    for name in ("3.conv2", "4.conv1", "4.conv2"):
        _pass_on(network.get_submodule(f"decoder.blocks.{name}"))

    head = network.get_submodule("segmentation_head.0")
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    weight, bias = _least_squares(network, head, samples, [*range(1, CHANNELS + 1)])
    head.weight.copy_(LOGIT * weight)
    head.bias.copy_(LOGIT * bias)


def _pass_on(block: nn.Module) -> None:
    """Make convolution, BatchNorm and ReLU hand on the first channels unchanged."""
    convolution, norm = block.get_submodule("0"), block.get_submodule("1")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.dirac_(convolution.weight)
    norm.reset_running_stats()


def _least_squares(
    network: nn.Module, convolution: nn.Conv2d, samples: Samples, classes: list[int]
) -> tuple[Tensor, Tensor]:
    """Return weight and bias with which `convolution` best answers 1 for its class, else 0.

    Ridge regression on random pixels of every tile; the bias is not shrunk, so the answers for a
    complete set of classes add up to 1 everywhere.
    """
    channels = convolution.in_channels
    size = 9 * channels + 1
    gram = torch.zeros(size, size, dtype=torch.float64)
    moment = torch.zeros(size, len(classes), dtype=torch.float64)
    for features, labels in _inputs(network, convolution, samples):
        pixels = torch.randint(labels.numel(), (PIXELS_PER_TILE,))
        rows = _neighbourhoods(features, pixels)
        truth = labels.flatten()[pixels, None] == torch.tensor(classes)
        gram += (rows.T @ rows).double()
        moment += (rows.T @ truth.float()).double()
    decay = torch.full((size,), RIDGE * float(gram.diagonal().mean()), dtype=torch.float64)
    decay[-1] = 0
    solution = torch.linalg.solve(gram + decay.diag(), moment).float()
    return solution[:-1].T.reshape(-1, channels, 3, 3), solution[-1]


def _inputs(
    network: nn.Module, convolution: nn.Conv2d, samples: Samples
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what `convolution` reads of each tile, [C, H, W], and the labels at that size."""
    seen: list[Tensor] = []
    hook = convolution.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    for tile, labels in samples:
        network(tile[None])
        features = seen.pop()
        step = labels.shape[0] // features.shape[1]
        yield features, labels[::step, ::step]
    hook.remove()


def _neighbourhoods(features: Tensor, pixels: Tensor) -> Tensor:
    """Return the 3x3 surroundings of flat `pixels` and a constant 1, [n, 9 * C + 1]."""
    width = features.shape[2]
    padded = F.pad(features, (1, 1, 1, 1))
    row, col = pixels // width, pixels % width
    taps = [padded[:, row + i, col + j] for i in range(3) for j in range(3)]
    around = torch.stack(taps, dim=1).flatten(0, 1).T
    return torch.cat([around, torch.ones(len(pixels), 1)], dim=1)
