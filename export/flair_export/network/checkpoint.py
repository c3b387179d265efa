"""Checkpoints: the card their tensors fit, and the network that holds every one of them.

What a file holds is read from its tensors; a name given by the user has to agree with them. Loading
is all or nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from flair_export.cards import CARDS, CHANNELS, Card, find_card
from flair_export.errors import CheckpointError
from flair_export.network.modules import build_network
from flair_export.network.weights_file import locate, read_file, sha256_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch import Tensor, nn

CLASS_WEIGHTS = "criterion.weight"
"""Class weights of the training loss; 0 marks an inactive class."""
LISTED = 20
"""Tensors named per kind of fault; the counts are always given."""

Tensors = dict[str, "Tensor"]

_FIRST_CONVOLUTIONS = {
    "encoder.conv1.weight": "resnet34",
    "encoder.patch_embed1.proj.weight": "mit_b5",
}
_ARCHITECTURES = {
    "decoder.blocks.": "unet",
    "decoder.aspp.": "deeplabv3",
    "decoder.p5.": "fpn",
}
_RENAMED = {
    # segmentation-models-pytorch 0.5 gave DeepLabV3's decoder names instead of numbers.
    "decoder.0.": "decoder.aspp.",
    "decoder.1.": "decoder.conv.",
    "decoder.2.": "decoder.bn.",
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A weights file, read and looked through but not yet loaded into a network."""

    path: Path
    sha256: str
    """Of the file, as the Hub shows it."""
    tensors: Tensors
    """By the names of the bare network."""
    encoder: str
    architecture: str | None
    """None where no known decoder is found."""
    band_count: int
    channels: int | None
    """None where the head is missing."""
    active: tuple[int, ...] | None
    """Class values of non-zero training weight; None where the file does not say."""


def read_checkpoint(source: str, *, trust: bool = False) -> Checkpoint:
    """Read a weights file or download it from the Hub, and see what network it holds.

    `trust` allows pickles that run code. Raises CheckpointError.
    """
    path = locate(source)
    tensors = _tensors(read_file(path, trust=trust), path)
    anchors = [(key, name) for key in tensors for name in _FIRST_CONVOLUTIONS if key.endswith(name)]
    if len(anchors) != 1:
        raise CheckpointError(
            f"{path}: holds {len(tensors)} tensors but no FLAIR-INC network: found "
            f"{len(anchors)} first convolutions ({' or '.join(_FIRST_CONVOLUTIONS)}), expected "
            f"one, among {', '.join(list(tensors)[:3]) or 'none'}",
            "give a FLAIR-INC checkpoint",
        )
    [(key, first)] = anchors
    weights = tensors.pop(CLASS_WEIGHTS, None)
    bare = _bare(tensors, prefix=key.removesuffix(first))
    head = bare.get("segmentation_head.0.weight")
    return Checkpoint(
        path=path,
        sha256=sha256_of(path),
        tensors=bare,
        encoder=_FIRST_CONVOLUTIONS[first],
        architecture=next(
            (name for start, name in _ARCHITECTURES.items() if _any_starts(bare, start)), None
        ),
        band_count=bare[first].shape[1] if bare[first].ndim > 1 else 0,
        channels=None if head is None or head.ndim == 0 else head.shape[0],
        active=None if weights is None else _active(weights, path),
    )


def choose_card(checkpoint: Checkpoint, model: str | None) -> Card:
    """Return the card named `model`, or without one the card the tensors speak for.

    Raises CheckpointError where the tensors contradict the card, or fit none or several.
    """
    if model is not None:
        card = find_card(model)
        if faults := _conflicts(checkpoint, card):
            raise CheckpointError(
                f"{checkpoint.path}: is not {card.name}: {'; '.join(faults)}",
                "name another --model, or none to have it deduced",
            )
        return card
    fitting = [card for card in CARDS if not _conflicts(checkpoint, card)]
    if not fitting:
        nearest = min(CARDS, key=lambda card: len(_conflicts(checkpoint, card)))
        raise CheckpointError(
            f"{checkpoint.path}: fits none of the {len(CARDS)} published models, the nearest is "
            f"{nearest.name}, but {'; '.join(_conflicts(checkpoint, nearest))}",
            "give a FLAIR-INC checkpoint",
        )
    if checkpoint.active is None:
        raise CheckpointError(
            f"{checkpoint.path}: has no {CLASS_WEIGHTS}, so 12 and 15 classes look alike",
            f"say which it is: --model {' or --model '.join(c.short_name for c in fitting)}",
        )
    assert len(fitting) == 1, "cards differ in what the tensors show"
    return fitting[0]


def load_network(checkpoint: Checkpoint, card: Card) -> nn.Module:
    """Build the network of `card` and load every tensor of the file into it, strictly.

    Raises CheckpointError that lists all missing, unexpected, mis-shaped and not finite tensors.
    """
    net = build_network(card, CHANNELS)
    expected = net.state_dict()
    found = checkpoint.tensors
    kinds = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "mis-shaped": [
            f"{name} {_show(found[name])}, expected {_show(tensor)}"
            for name, tensor in expected.items()
            if name in found and _show(found[name]) != _show(tensor)
        ],
        "not finite": [
            name
            for name, tensor in found.items()
            # A double cannot overflow on a sum of floats, and keeps what is not finite.
            if not math.isfinite(tensor.sum(dtype=torch.float64))
        ],
    }
    faults = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names]
    if faults:
        raise CheckpointError(
            f"{checkpoint.path}: does not load into {card.network} of "
            f"{len(expected)} tensors: {'; '.join(faults)}",
            "give the complete file of one model",
        )
    net.load_state_dict(found, strict=True)
    return net


def _tensors(content: Any, path: Path) -> Tensors:
    """Return the state dict of a decoded file, taken out of a Lightning checkpoint."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, not a state dict of named tensors",
            "give a state dict or a Lightning checkpoint",
        )
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{path}: {len(others)} of its {len(content)} entries are not tensors "
            f"({_listed(others)})",
            "give a state dict or a Lightning checkpoint",
        )
    return dict(content)


def _bare(tensors: Tensors, prefix: str) -> Tensors:
    """Rename tensors to those of the bare network; one outside `prefix` is never taken for one."""
    bare = {
        key.removeprefix(prefix) if key.startswith(prefix) else f"{key} (not {prefix}*)": tensor
        for key, tensor in tensors.items()
    }
    old_layout = _any_starts(bare, "decoder.0.")
    return {_renamed(key) if old_layout else key: tensor for key, tensor in bare.items()}


def _renamed(key: str) -> str:
    for old, new in _RENAMED.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _active(weights: Tensor, path: Path) -> tuple[int, ...]:
    if weights.shape != (CHANNELS,):
        raise CheckpointError(
            f"{path}: {CLASS_WEIGHTS} is {_show(weights)}, expected one weight for each of "
            f"{CHANNELS} classes",
            "give the complete file of one model",
        )
    return tuple(int(index) + 1 for index in torch.nonzero(weights).flatten())


def _conflicts(checkpoint: Checkpoint, card: Card) -> list[str]:
    """Return where the tensors contradict the card, in the words of the message."""
    seen_and_said: tuple[tuple[str, str | int | None, str | int | None], ...] = (
        ("decoder", checkpoint.architecture, card.architecture),
        ("encoder", checkpoint.encoder, card.encoder),
        ("input bands", checkpoint.band_count, card.band_count),
        ("output channels", checkpoint.channels, CHANNELS),
        ("active classes", _ranges(checkpoint.active), _ranges(card.active)),
    )
    return [
        f"{what} found {seen}, the card says {said}"
        for what, seen, said in seen_and_said
        if seen is not None and seen != said
    ]


def _ranges(values: Collection[int] | None) -> str | None:
    """Write 1, 2, 3, 18 as `1-3 18`; the values ascend."""
    if values is None:
        return None
    firsts = [value for value in values if value - 1 not in values]
    lasts = [value for value in values if value + 1 not in values]
    return (
        " ".join(
            str(first) if first == last else f"{first}-{last}"
            for first, last in zip(firsts, lasts, strict=True)
        )
        or "none"
    )


def _any_starts(tensors: Tensors, start: str) -> bool:
    return any(key.startswith(start) for key in tensors)


def _show(tensor: Tensor) -> str:
    return f"{list(tensor.shape)}{'' if tensor.is_floating_point() else ' of integers'}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
