"""PyTorch's side of a comparison: the network of a checkpoint, and its answer to whole rasters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from flair_bench.errors import ModelError
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_export.network.checkpoint import choose_card, load_network, read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def reference_network(checkpoint: str, model: Path) -> nn.Module:
    """Load the network `model` was exported from, in FP32 on the CPU.

    Raises ModelError where the checkpoint's weights are not those of the file, CheckpointError.
    """
    spec = read_model_spec(model)
    read = read_checkpoint(checkpoint)
    if read.sha256 != spec.weights_sha256:
        raise ModelError(
            f"{checkpoint}: its SHA-256 is {read.sha256[:12]}…, {model} was exported from "
            f"{spec.weights_sha256[:12]}…",
            "give the checkpoint the model was made from",
        )
    return load_network(read, choose_card(read, None))


def whole_raster_labels(net: nn.Module, spec: ModelSpec, image_bhw: np.ndarray) -> np.ndarray:
    """Return labels uint8 [H, W] of the network run once over a whole raster.

    This is the context limit: every pixel sees all there is, and zero padding stands only at the
    raster's border. H and W are multiples of 32.
    """
    statistics = spec.normalization
    mean = torch.tensor(statistics.mean).reshape(-1, 1, 1)
    std = torch.tensor(statistics.std).reshape(-1, 1, 1)
    values = np.array([entry.value for entry in spec.active_classes], np.uint8)
    with torch.inference_mode():
        normalised = (torch.from_numpy(image_bhw).float() - mean) / std
        logits = net(normalised[None].contiguous(memory_format=torch.channels_last))[0]
        index = logits[torch.from_numpy(values.astype(np.int64)) - 1].argmax(0)
    labels: np.ndarray = values[index.numpy()]
    return labels
