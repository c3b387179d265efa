"""INT8 files: measured on images, converted from FP32 ones and compared with them.

Ranges come from some tiles of the calibration images and the labels are compared on other tiles of
them, over all, by class and by image. ONNX Runtime computes the file in INT8 here as `flair-run`
does, so the agreement is that of the whole change, and the manifest keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flair_engine.manifest import attach_manifest, spec_of
from flair_engine.model_file import load_model
from flair_engine.tolerances import (
    INT8_CLASS_EQUAL,
    INT8_COUNTED_PX,
    INT8_FILE_EQUAL,
    INT8_IMAGE_EQUAL,
)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8Verdict(Comparison):
    """What the conversion found; agreement is of INT8 with FP32."""

    measured: str
    """The tiles whose ranges were taken."""
    int8: tuple[str, ...]
    """Convolutions that compute in INT8."""
    kept_fp32: tuple[str, ...]
    """Convolutions that stay FP32."""


def convert_to_int8(
    model: Path,
    output: Path,
    calibrate: Sequence[Path],
    images: Sequence[Path] = (),
    status: Callable[[str], None] = lambda _: None,
) -> Int8Verdict:
    """Write the INT8 form of the FP32 file `model` to `output` and compare the two.

    `calibrate` are rasters like those to be mapped; labels are compared on tiles of them that were
    not measured, and on `images`. Raises ImageError for an unusable raster or too few tiles,
    OptionError where `model` cannot be converted, WriteError, and ExportError where labels differ
    too much; `output` is not trustworthy then.
    """
    full = load_model(model)
    spec = spec_of(full, str(model))
    check_images((*calibrate, *images), spec.bands)
    names = quantized_tensors(full)  # refuses what cannot be converted before the long work
    measured, others = calibration(spec, calibrate)
    ranges = measured_ranges(full, names, _shown(measured, status))
    status("converting to INT8")
    converted = to_int8(full, ranges)
    write_model(output, converted.model)
    compared = [others, *([image_source(spec, images)] if images else [])]
    found = compare_files(spec, (model, output), compared, status)
    if faults := _faults(found):
        raise ExportError(
            "; ".join(faults),
            "give more --calibrate images of the kind to be mapped, or keep the FP32 file",
        )
    int8_spec = replace(spec, precision="int8", agreement_fp32=found.total.share)
    attach_manifest(converted.model, int8_spec)
    write_model(output, converted.model)
    return Int8Verdict(
        sources=found.sources,
        classes=found.classes,
        images=found.images,
        measured=measured.note,
        int8=converted.int8,
        kept_fp32=converted.kept_fp32,
    )


def _faults(found: Comparison) -> list[str]:
    """Return what speaks against the file: over all, its lean, its worst class and image."""
    faults = []
    if found.total.share < INT8_FILE_EQUAL:
        faults.append(
            f"{found.total.share:.2%} of labels of the INT8 file agree with FP32, at least "
            f"{INT8_FILE_EQUAL:.0%} have to"
        )
    if found.lean_fault:
        faults.append(f"the INT8 file beside FP32: {found.lean_fault}")
    for entries, least in ((found.classes, INT8_CLASS_EQUAL), (found.images, INT8_IMAGE_EQUAL)):
        counted = [entry for entry in entries if entry.pixels >= INT8_COUNTED_PX]
        worst = min(counted, key=lambda entry: entry.share, default=None)
        if worst is not None and worst.share < least:
            faults.append(
                f"{worst.share:.2%} of the labels of {worst.name} agree with FP32, at least "
                f"{least:.0%} have to"
            )
    return faults


def _shown(source: Source, status: Callable[[str], None]) -> Iterator[np.ndarray]:
    for number, tile in enumerate(source.tiles, 1):
        status(f"measuring on {source.name}: tile {number} of {source.count}")
        yield tile.image
