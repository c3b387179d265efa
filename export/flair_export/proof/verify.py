"""Proof of an export: PyTorch FP32 against the shipped file, tile by tile.

The reference is the bare 19-channel network with normalisation, class mask and centre crop written
out here once more, so that a fault in the exported module shows. Labels and the other outputs come
from the shipped file, logits from a twin that exposes them. Only pixels inside a raster count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.agreement import pixels_by_label
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import ModelSpec, read_model_spec
from flair_export.errors import ExportError
from flair_export.proof.compare import Comparison, EqualLabels, answers, by_class
from flair_export.proof.samples import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from flair_export.proof.samples import Tile

AGREEMENT = 0.9999
"""Least share of equal labels. FP32 sums in another order flip only pixels that nearly tie."""
COUNTS = 1
"""Largest difference of the other outputs, whose halves may round either way."""
BATCH = 2
"""Tiles per inference; above 1, so that a batch axis that is not free shows."""
LOGITS_EVERY = 4
"""Batches from one comparison of logits to the next: the twin costs a third inference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict(Comparison):
    """What the comparison found."""

    logit_difference: float
    """Largest absolute difference of a logit, over every fourth batch of tiles."""
    count_differences: dict[str, int]
    """Largest difference of each output but the labels, in counts of 255."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What is beyond tolerance; empty where the export stands."""
        faults = []
        if self.total.share < AGREEMENT:
            faults.append(
                f"{self.total.share:.4%} of labels agree with PyTorch, at least "
                f"{AGREEMENT:.2%} have to"
            )
        faults += [
            f"{name} is up to {counts} of 255 off, at most {COUNTS} is allowed"
            for name, counts in self.count_differences.items()
            if counts > COUNTS
        ]
        return tuple(faults)


class VerificationError(ExportError):
    """The ONNX file does not give the network's answers; `verdict` says where."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


@dataclass(slots=True)
class _Tally:
    """Running sums over all tiles."""

    pixels: Counter[int] = field(default_factory=Counter)
    different: Counter[int] = field(default_factory=Counter)
    logit_difference: float = 0.0
    count_differences: dict[str, int] = field(default_factory=dict)


def verify(
    net: nn.Module,
    model: Path,
    twin: bytes,
    images: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Compare `net` with the exported file `model`; `twin` is that file with its logits exposed.

    Raises ExportError where the network gives no finite numbers, ImageError for an unusable image.
    """
    spec = read_model_spec(model)
    shipped, exposing = open_session(model), open_session(twin)
    tally = _Tally()
    by_source = []
    for source in sources(spec, images):
        pixels, different = tally.pixels.total(), tally.different.total()
        for number, start in enumerate(range(0, source.count, BATCH)):
            progress(f"verifying on {source.name}: tile {start + 1} of {source.count}")
            tiles = list(islice(source.tiles, BATCH))
            batch = np.stack([tile.image for tile in tiles])
            logits = reference_logits(net, spec, batch)
            _compare_outputs(spec, logits, answers(shipped, spec.outputs, batch), tiles, tally)
            if number % LOGITS_EVERY == 0:
                (found,) = answers(exposing, ["logits"], batch).values()
                _compare_logits(logits, found, tiles, tally)
        by_source.append(
            EqualLabels(
                name=source.name,
                pixels=tally.pixels.total() - pixels,
                different=tally.different.total() - different,
                note=source.note,
            )
        )
    return Verdict(
        sources=tuple(by_source),
        classes=by_class(spec, tally.pixels, tally.different),
        logit_difference=tally.logit_difference,
        count_differences=tally.count_differences,
    )


def reference_logits(net: nn.Module, spec: ModelSpec, image: np.ndarray) -> Tensor:
    """Return what the bare network says of uint8 [N, bands, T, T]: [N, active, C, C] in FP32."""
    import torch

    statistics = spec.normalization
    mean = torch.tensor(statistics.mean).reshape(-1, 1, 1)
    std = torch.tensor(statistics.std).reshape(-1, 1, 1)
    channels = [entry.value - 1 for entry in spec.active_classes]
    core = slice(spec.margin_px, spec.margin_px + spec.core_px)
    with torch.inference_mode():
        whole: Tensor = net((torch.from_numpy(image).float() - mean) / std)
    logits = whole[:, channels, core, core]
    if not bool(torch.isfinite(logits).all()):
        raise ExportError(
            "the network gives infinite or undefined logits, so its weights are damaged or belong "
            "to other input statistics: try the published file of the model"
        )
    return logits


def reference_outputs(logits: Tensor, spec: ModelSpec) -> dict[str, np.ndarray]:
    """Return the outputs the manifest promises for `logits`, as uint8."""
    values = np.array([entry.value for entry in spec.active_classes], dtype=np.uint8)
    shares = np.floor(logits.softmax(dim=1).numpy() * 255 + 0.5).astype(np.uint8)
    count, _, height, width = shares.shape
    channels = max(entry.value for entry in spec.classes)
    probabilities = np.zeros((count, channels, height, width), dtype=np.uint8)
    probabilities[:, values - 1] = shares
    return {
        "labels": values[logits.argmax(dim=1).numpy()],
        "confidence": shares.max(axis=1),
        "probabilities": probabilities,
    }


def _compare_outputs(
    spec: ModelSpec,
    logits: Tensor,
    found: dict[str, np.ndarray],
    tiles: Sequence[Tile],
    tally: _Tally,
) -> None:
    """Add the differences of one batch of shipped outputs to the tally."""
    expected = reference_outputs(logits, spec)
    for index, tile in enumerate(tiles):
        inside = (index, ..., slice(tile.height), slice(tile.width))
        labels = expected["labels"][inside]
        tally.pixels.update(pixels_by_label(labels))
        tally.different.update(pixels_by_label(labels[labels != found["labels"][inside]]))
        for name in spec.outputs[1:]:
            counts = np.abs(expected[name][inside].astype(np.int16) - found[name][inside])
            largest = max(tally.count_differences.get(name, 0), int(counts.max()))
            tally.count_differences[name] = largest


def _compare_logits(
    logits: Tensor, found: np.ndarray, tiles: Sequence[Tile], tally: _Tally
) -> None:
    """Add the largest difference of one batch of logits to the tally."""
    for index, tile in enumerate(tiles):
        inside = (index, ..., slice(tile.height), slice(tile.width))
        largest = float(np.abs(logits.numpy()[inside] - found[inside]).max())
        tally.logit_difference = max(tally.logit_difference, largest)
