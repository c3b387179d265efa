"""Weights file to a network that holds every one of its weights, and to the card it belongs to.

A file is `.pth`, `.pt`, `.ckpt` or `.safetensors`, local or on the Hugging Face Hub. What it holds
is read from its tensors; a name given by the user has to agree with them. Loading is all or
nothing.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flair_export.cards import CARDS, CHANNELS, Card, find_card
from flair_export.errors import CheckpointError
from flair_export.network.modules import build_network

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
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
            f"one. Its first tensors are {', '.join(list(tensors)[:3]) or 'none'}"
        )
    [(key, first)] = anchors
    weights = tensors.pop(CLASS_WEIGHTS, None)
    bare = _bare(tensors, prefix=key.removesuffix(first))
    head = bare.get("segmentation_head.0.weight")
    return Checkpoint(
        path=path,
        sha256=_sha256(path),
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
                f"{checkpoint.path}: is not {card.name}: {'; '.join(faults)}. "
                "Name another --model, or none to have it deduced"
            )
        return card
    fitting = [card for card in CARDS if not _conflicts(checkpoint, card)]
    if not fitting:
        nearest = min(CARDS, key=lambda card: len(_conflicts(checkpoint, card)))
        raise CheckpointError(
            f"{checkpoint.path}: fits none of the {len(CARDS)} published models. The nearest is "
            f"{nearest.name}, but {'; '.join(_conflicts(checkpoint, nearest))}"
        )
    if checkpoint.active is None:
        raise CheckpointError(
            f"{checkpoint.path}: has no {CLASS_WEIGHTS}, so 12 and 15 classes look alike. "
            f"Say which it is: --model {' or --model '.join(c.short_name for c in fitting)}"
        )
    assert len(fitting) == 1, "cards differ in what the tensors show"
    return fitting[0]


def load_network(checkpoint: Checkpoint, card: Card) -> nn.Module:
    """Build the network of `card` and load every tensor of the file into it, strictly.

    Raises CheckpointError that lists all missing, unexpected and mis-shaped tensors.
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
            f"{checkpoint.path}: does not load into {card.architecture}-{card.encoder} of "
            f"{len(expected)} tensors: {'; '.join(faults)}. Give the complete file of one model"
        )
    net.load_state_dict(found, strict=True)
    return net


def locate(source: str) -> Path:
    """Return the local path of a weights file, after a download where `source` is a Hub id."""
    path = Path(source)
    if path.is_file():
        return path
    if path.exists():
        raise CheckpointError(f"{path}: is no file. Give the weights file inside it")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and path.suffix not in SUFFIXES:
        return _download(source)
    raise CheckpointError(
        f"{path}: no such checkpoint. Give a {', '.join(SUFFIXES)} file or a Hub id such as "
        f"{CARDS[0].hub_id}"
    )


def read_file(path: Path, *, trust: bool) -> Any:
    """Decode a weights file; what it holds is not looked at yet."""
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path}: a checkpoint ends in {', '.join(SUFFIXES)}, not in '{path.suffix}'"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch remarks on, it also refuses
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # a damaged file raises whatever its damage leads to
        needs = re.search(r"GLOBAL (\S+)", str(error))
        if needs and isinstance(error, pickle.UnpicklingError):
            raise CheckpointError(
                f"{path}: needs {needs[1]}, so loading it would run code that comes with the "
                "file; tensors alone do not. Only if you trust who made it: --trust-checkpoint"
            ) from error
        raise CheckpointError(
            f"{path}: cannot be read as a {path.suffix} checkpoint "
            f"({type(error).__name__}: {_reason(error)}). Download or save it again"
        ) from error


def _reason(error: Exception) -> str:
    """Return the line that says what is wrong, among torch's advice on its options."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith("Unsupported")]
    return (telling or lines or ["it is cut short"])[0][:200]


def _tensors(content: Any, path: Path) -> Tensors:
    """Return the state dict of a decoded file, taken out of a Lightning checkpoint."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: holds a {type(content).__name__}, not a state dict of named tensors"
        )
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{path}: {len(others)} of its {len(content)} entries are not tensors "
            f"({_listed(others)}). Give a state dict or a Lightning checkpoint"
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
            f"{CHANNELS} classes"
        )
    return tuple(int(index) + 1 for index in torch.nonzero(weights).flatten())


def _conflicts(checkpoint: Checkpoint, card: Card) -> list[str]:
    """Return where the tensors contradict the card, in the words of the message."""
    seen_and_said: tuple[tuple[str, Any, Any], ...] = (
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


def _ranges(values: Iterable[int] | None) -> str | None:
    """Write 1, 2, 3, 18 as `1-3 18`."""
    if values is None:
        return None
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"


def _download(hub_id: str) -> Path:
    """Fetch the weights of a Hub repository into its cache, or find them there."""
    import huggingface_hub

    try:
        filename = f"{hub_id.partition('/')[2]}_weights.pth"
        return Path(huggingface_hub.hf_hub_download(hub_id, filename))
    except Exception as error:  # its classes and those of its HTTP client changed over versions
        raise CheckpointError(
            f"{hub_id}: no such file here, and the Hub does not give {filename} "
            f"({type(error).__name__}: {_reason(error)}). Check the name and the network, or "
            "download the file yourself and give its path"
        ) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _any_starts(tensors: Tensors, start: str) -> bool:
    return any(key.startswith(start) for key in tensors)


def _show(tensor: Tensor) -> str:
    return f"{list(tensor.shape)}{'' if tensor.is_floating_point() else ' of integers'}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
