"""Proof of an export: PyTorch FP32 against the shipped file, tile by tile.

Labels and the other outputs come from the shipped file, logits from a twin that exposes them. Only
pixels inside a raster count.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import read_model_spec
from flair_engine.tolerances import EXPORTED_COUNTS, EXPORTED_EQUAL
from flair_export.errors import ExportError
from flair_export.proof.compare import (
    Comparison,
    LabelCounts,
    answers,
    by_class,
    by_image,
    by_source,
)
from flair_export.proof.reference import reference_logits, reference_outputs
from flair_export.proof.samples import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from flair_engine.manifest import ModelSpec
    from flair_export.proof.reference import Network
    from flair_export.proof.samples import Tile

VERIFIED_AT_ONCE = 2
"""Tiles per inference; above 1, so that a batch axis that is not free shows."""
BATCHES_PER_LOGITS = 4
"""Batches from one comparison of logits to the next: the twin costs a third inference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict(Comparison):
    """What the comparison found."""

    logit_difference: float
    """Largest absolute difference of a logit, over one batch of tiles in BATCHES_PER_LOGITS."""
    count_differences: dict[str, int]
    """Largest difference of each output but the labels, in counts of 255."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What is beyond tolerance; empty where the export stands."""
        faults = []
        if self.total.share < EXPORTED_EQUAL:
            faults.append(
                f"{self.total.share:.4%} of labels agree with PyTorch, at least "
                f"{EXPORTED_EQUAL:.2%} have to"
            )
        faults += [
            f"{name} is up to {counts} of 255 off, at most {EXPORTED_COUNTS} is allowed"
            for name, counts in self.count_differences.items()
            if counts > EXPORTED_COUNTS
        ]
        return tuple(faults)


class VerificationError(ExportError):
    """The ONNX file does not give the network's answers; `verdict` says where."""

    def __init__(self, what: str, remedy: str, verdict: Verdict) -> None:
        super().__init__(what, remedy)
        self.verdict = verdict


def verify(
    net: Network,
    model: Path,
    twin: bytes,
    images: Sequence[Path] = (),
    status: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Compare `net` with the exported file `model`; `twin` is that file with its logits exposed.

    Raises ExportError where the network gives no finite numbers, ImageError for an unusable image.
    """
    from flair_export.graph.contract import LOGITS_NAME

    spec = read_model_spec(model)
    shipped, exposing = (open_session(file, arena=False) for file in (model, twin))
    counts = []
    largest = dict.fromkeys((*spec.outputs[1:], LOGITS_NAME), 0.0)
    for source in sources(spec, images):
        counted = LabelCounts(name=source.name, note=source.note)
        for number, start in enumerate(range(0, source.count, VERIFIED_AT_ONCE)):
            status(f"verifying on {source.name}: tile {start + 1} of {source.count}")
            tiles = list(islice(source.tiles, VERIFIED_AT_ONCE))
            batch = np.stack([tile.image for tile in tiles])
            found = answers(shipped, spec.outputs, batch)
            if number % BATCHES_PER_LOGITS == 0:
                found |= answers(exposing, [LOGITS_NAME], batch)
            for index, tile in enumerate(tiles):
                expected = _expected(net, spec, tile)
                inside = {name: answer[index][tile.inside] for name, answer in found.items()}
                counted.add(expected["labels"], inside["labels"], tile.path)
                for name in largest.keys() & inside.keys():
                    difference = _largest_difference(expected[name], inside[name])
                    largest[name] = max(largest[name], difference)
        counts.append(counted)
    return Verdict(
        sources=by_source(counts),
        classes=by_class(spec, counts),
        images=by_image(counts),
        logit_difference=largest.pop(LOGITS_NAME),
        count_differences={name: int(difference) for name, difference in largest.items()},
    )


def _expected(net: Network, spec: ModelSpec, tile: Tile) -> dict[str, np.ndarray]:
    """Return logits and outputs of the network for the pixels of a tile inside the raster.

    By itself: PyTorch needs several times the memory of ONNX Runtime.
    """
    from flair_export.graph.contract import LOGITS_NAME

    logits = reference_logits(net, spec, tile.image[None])
    outputs = reference_outputs(logits, spec) | {LOGITS_NAME: logits.numpy()}
    return {name: answer[0][tile.inside] for name, answer in outputs.items()}


def _largest_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest difference of two answers of equal shape."""
    return float(np.abs(np.subtract(expected, found, dtype=np.float32)).max())
