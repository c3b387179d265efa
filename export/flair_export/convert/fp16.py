"""The way from an FP32 ONNX file to an FP16 one: measured, converted, compared, put in place.

ONNX Runtime on a CPU widens FP16 to FP32 around each operation, so what is compared here is the
rounding of the weights alone; what a GPU's FP16 arithmetic adds is judged where a plan is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import onnx

from flair_engine.manifest import read_model_spec
from flair_export.convert.fp16_graph import casts, largest_activations, to_fp16
from flair_export.errors import ExportError
from flair_export.proof.compare import Comparison, compare_files
from flair_export.proof.samples import check_images, sources
from flair_export.writing import write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from flair_engine.manifest import ModelSpec

MEASURED_TILES = 16
"""Tiles of each origin whose activations are measured."""
LEAST = 0.995
"""Least share of equal labels; below it the file is not written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp16Verdict(Comparison):
    """What the conversion found; agreement is of the weights only, see the module."""

    largest: tuple[tuple[str, float], ...]
    """Tensors and their largest absolute value, largest first; FP16 ends at 65,504."""
    kept_fp32: tuple[str, ...]
    casts: tuple[str, ...]


def convert_to_fp16(
    model: Path,
    output: Path,
    images: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Fp16Verdict:
    """Write the FP16 form of the FP32 file `model` to `output` and compare the two.

    Raises ExportError where labels differ too much; `output` is not trustworthy then.
    """
    spec = read_model_spec(model)
    check_images(images, spec.bands)
    full = onnx.load(str(model))
    to_fp16(full)  # refuses what cannot be converted before the long work
    progress("measuring activations")
    largest = largest_activations(full, _measured(spec, images))
    progress("converting to FP16")
    conversion = to_fp16(full, largest)
    write_model(output, conversion.model)
    found = compare_files(spec, (model, output), sources(spec, images), progress)
    verdict = Fp16Verdict(
        sources=found.sources,
        classes=found.classes,
        largest=tuple(sorted(largest.items(), key=lambda entry: -entry[1])),
        kept_fp32=conversion.kept_fp32,
        casts=tuple(casts(conversion.model)),
    )
    if verdict.total.share < LEAST:
        raise ExportError(
            f"{verdict.total.share:.4%} of labels of the FP16 file agree with FP32, at least "
            f"{LEAST:.1%} have to: keep the FP32 file"
        )
    return verdict


def _measured(spec: ModelSpec, images: Sequence[Path]) -> Iterator[np.ndarray]:
    for source in sources(spec, images):
        yield from (tile.image for tile in islice(source.tiles, MEASURED_TILES))
