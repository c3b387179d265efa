"""The way from an FP32 ONNX file to an INT8 one: measured on images, converted, compared.

Ranges come from some tiles of the calibration images and the labels are compared on other tiles of
them. ONNX Runtime computes the file in integers here as `flair-run` does, so the agreement is that
of the whole change, and the manifest keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import onnx

from flair_engine.manifest import attach_manifest, read_model_spec
from flair_export.convert.int8_graph import quantized_tensors, to_int8
from flair_export.convert.ranges import measured_ranges
from flair_export.errors import ExportError
from flair_export.proof.compare import Comparison, compare_files
from flair_export.proof.samples import calibration, check_images, image_source
from flair_export.writing import write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from flair_export.proof.samples import Source

LEAST = 0.99
"""Least share of equal labels; below it the file is not written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Verdict(Comparison):
    """What the conversion found; agreement is of INT8 with FP32."""

    measured: str
    """The tiles whose ranges were taken."""
    integer: tuple[str, ...]
    """Convolutions that compute in integers."""
    kept_fp32: tuple[str, ...]
    """Convolutions that stay FP32."""


def convert_to_int8(
    model: Path,
    output: Path,
    calibrate: Sequence[Path],
    images: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Int8Verdict:
    """Write the INT8 form of the FP32 file `model` to `output` and compare the two.

    `calibrate` are rasters like those to be mapped; labels are compared on tiles of them that were
    not measured, and on `images`. Raises ImageError for an unusable raster or too few tiles,
    OptionError where `model` cannot be converted, WriteError, and ExportError where labels differ
    too much; `output` is not trustworthy then.
    """
    spec = read_model_spec(model)
    check_images((*calibrate, *images), spec.bands)
    full = onnx.load(str(model))
    names = quantized_tensors(full)  # refuses what cannot be converted before the long work
    measured, others = calibration(spec, calibrate)
    ranges = measured_ranges(full, names, _shown(measured, progress))
    progress("converting to INT8")
    quantization = to_int8(full, ranges)
    write_model(output, quantization.model)
    compared = [others, *([image_source(spec, images)] if images else [])]
    found = compare_files(spec, (model, output), compared, progress)
    if found.total.share < LEAST:
        raise ExportError(
            f"{found.total.share:.2%} of labels of the INT8 file agree with FP32, at least "
            f"{LEAST:.0%} have to: give more --calibrate images of the kind to be mapped, or keep "
            "the FP32 file"
        )
    converted = read_model_spec(output)
    attach_manifest(quantization.model, replace(converted, agreement_fp32=found.total.share))
    write_model(output, quantization.model)
    return Int8Verdict(
        sources=found.sources,
        classes=found.classes,
        measured=measured.note,
        integer=quantization.integer,
        kept_fp32=quantization.kept_fp32,
    )


def _shown(source: Source, progress: Callable[[str], None]) -> Iterator[np.ndarray]:
    for number, tile in enumerate(source.tiles, 1):
        progress(f"measuring on {source.name}: tile {number} of {source.count}")
        yield tile.image
