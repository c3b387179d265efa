"""Reference of every proof: what PyTorch says of a tile, in FP32.

The bare 19-channel network with normalisation, class mask and centre crop written out here once
more, so that a fault in the exported module shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from flair_export.errors import ExportError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flair_engine.manifest import ModelSpec

Network: TypeAlias = "nn.Module"
"""A bare network of 19 channels in eval mode."""


def reference_logits(net: Network, spec: ModelSpec, images_nchw: np.ndarray) -> Tensor:
    """Return what the bare network says of uint8 [N, bands, T, T]: [N, active, C, C] in FP32.

    Raises ExportError for logits that are not finite.
    """
    import torch

    statistics = spec.normalization
    mean = torch.tensor(statistics.mean).reshape(-1, 1, 1)
    std = torch.tensor(statistics.std).reshape(-1, 1, 1)
    channels = [entry.value - 1 for entry in spec.active_classes]
    core = slice(spec.margin_px, spec.margin_px + spec.core_px)
    with torch.inference_mode():
        whole: Tensor = net((torch.from_numpy(images_nchw).float() - mean) / std)
    logits = whole[:, channels, core, core]
    if not bool(torch.isfinite(logits).all()):
        raise ExportError(
            "the network gives infinite or undefined logits, so its weights are damaged or belong "
            "to other input statistics",
            "try the published file of the model",
        )
    return logits


def reference_outputs(logits: Tensor, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Return the outputs the manifest promises for `logits`, as uint8."""
    values = np.array([entry.value for entry in spec.active_classes], dtype=np.uint8)
    labels = values[logits.argmax(dim=1).numpy()]
    if spec.outputs == ("labels",):
        return {"labels": labels}
    shares = np.floor(logits.softmax(dim=1).numpy() * 255 + 0.5).astype(np.uint8)
    count, _, height, width = shares.shape
    channels = max(entry.value for entry in spec.classes)
    probabilities = np.zeros((count, channels, height, width), dtype=np.uint8)
    probabilities[:, values - 1] = shares
    return {
        "labels": labels,
        "confidence": shares.max(axis=1),
        "probabilities": probabilities,
    }
