"""FP16 files: measured, converted from FP32 ones and compared with them.

ONNX Runtime on a CPU widens FP16 to FP32 around each operation, so what is compared here is the
rounding of the weights alone; what a GPU's FP16 arithmetic adds is judged where a plan is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from flair_engine.manifest import spec_of
from flair_engine.model_file import load_model
from flair_engine.tolerances import FP16_FILE_EQUAL
from flair_export.convert.fp16_graph import largest_activations, to_fp16
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Fp16Verdict(Comparison):
    """What the conversion found; agreement is of the weights only, see the module."""

    largest: tuple[tuple[str, float], ...]
    """Tensors and their largest absolute value, largest first; FP16 ends at 65,504."""
    kept_fp32: tuple[str, ...]
    """Layers that stay FP32 between Casts, so as not to overflow."""


def convert_to_fp16(
    model: Path,
    output: Path,
    images: Sequence[Path] = (),
    status: Callable[[str], None] = lambda _: None,
) -> Fp16Verdict:
    """Write the FP16 form of the FP32 file `model` to `output` and compare the two.

    Raises ExportError where labels differ too much (`output` is not trustworthy then), OptionError
    for a model that is not FP32, ImageError, and WriteError where the file cannot be written.
    """
    full = load_model(model)
    spec = spec_of(full, str(model))
    check_images(images, spec.bands)
    to_fp16(full)  # refuses what cannot be converted before the long work
    status("measuring activations")
    largest = largest_activations(full, _measured(spec, images))
    status("converting to FP16")
    converted = to_fp16(full, largest)
    write_model(output, converted.model)
    found = compare_files(spec, (model, output), sources(spec, images), status)
    verdict = Fp16Verdict(
        sources=found.sources,
        classes=found.classes,
        images=found.images,
        largest=tuple(sorted(largest.items(), key=lambda entry: -entry[1])),
        kept_fp32=converted.kept_fp32,
    )
    if verdict.total.share < FP16_FILE_EQUAL:
        raise ExportError(
            f"{verdict.total.share:.4%} of labels of the FP16 file agree with FP32, at least "
            f"{FP16_FILE_EQUAL:.1%} have to",
            "keep the FP32 file",
        )
    if verdict.lean_fault:
        raise ExportError(f"the FP16 file beside FP32: {verdict.lean_fault}", "keep the FP32 file")
    return verdict


def _measured(spec: ModelSpec, images: Sequence[Path]) -> Iterator[np.ndarray]:
    for source in sources(spec, images):
        yield from (tile.image for tile in islice(source.tiles, MEASURED_TILES))
