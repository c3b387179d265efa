"""Files for Deepness, a plugin of QGIS: made of FP32 ones and compared with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import spec_of
from flair_engine.model_file import load_model
from flair_engine.tolerances import DEEPNESS_EQUAL, EXPORTED_COUNTS
from flair_export.convert.deepness_graph import to_deepness
from flair_export.errors import ExportError
from flair_export.graph.contract import LOGITS_NAME, with_logits
from flair_export.proof.compare import (
    Comparison,
    LabelCounts,
    answers,
    by_class,
    by_image,
    by_source,
)
from flair_export.proof.deepness import PluginModel
from flair_export.proof.samples import check_images, sources
from flair_export.writing import write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx

    from flair_engine.manifest import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepnessVerdict(Comparison):
    """What the comparison with the FP32 file found."""

    share_difference: float
    """Largest difference of a probability, 0..1, to the softmax of the FP32 file's logits."""

    @property
    def faults(self) -> tuple[str, ...]:
        """What is beyond tolerance; empty where the file stands."""
        faults = []
        if self.total.share < DEEPNESS_EQUAL:
            faults.append(
                f"{self.total.share:.4%} of labels agree with FP32, at least {DEEPNESS_EQUAL:.1%} "
                "have to"
            )
        if not self.share_difference <= EXPORTED_COUNTS / 255:
            faults.append(
                f"a probability is {self.share_difference:.2g} off, at most {EXPORTED_COUNTS} of "
                "255 is allowed"
            )
        return tuple(faults)


def convert_to_deepness(
    model: Path,
    output: Path,
    images: Sequence[Path] = (),
    status: Callable[[str], None] = lambda _: None,
) -> DeepnessVerdict:
    """Write the form of the FP32 file `model` that Deepness reads to `output`, and compare the two.

    Raises ExportError where they differ too much (`output` is not trustworthy then), OptionError
    for a model that is not FP32 or has a margin, ImageError, and WriteError where the file cannot
    be written.
    """
    full = load_model(model)
    spec = spec_of(full, str(model))
    check_images(images, spec.bands)
    write_model(output, to_deepness(full))
    verdict = _compared(spec, full, output, images, status)
    if verdict.faults:
        raise ExportError(
            f"the file for Deepness is not faithful: {'; '.join(verdict.faults)}",
            "try other versions of onnx or onnxruntime",
        )
    return verdict


def _compared(
    spec: ModelSpec,
    full: onnx.ModelProto,
    output: Path,
    images: Sequence[Path],
    status: Callable[[str], None],
) -> DeepnessVerdict:
    """Compare what the plugin makes of a file with the FP32 model it was made of."""
    reference = open_session(with_logits(full).SerializeToString())
    plugin = PluginModel(output)
    values = np.array([_value(spec, name) for name in plugin.class_names], np.uint8)
    counts, largest = [], 0.0
    for source in sources(spec, images):
        counted = LabelCounts(name=source.name, note=source.note)
        for number, tile in enumerate(source.tiles):
            status(f"comparing on {source.name}: tile {number + 1} of {source.count}")
            expected = answers(reference, ["labels", LOGITS_NAME], tile.image[None])
            found = plugin.answer(tile.image[None])
            inside = (0, *tile.inside)
            counted.add(expected["labels"][inside], values[found.channels][inside], tile.path)
            off = np.abs(softmax(expected[LOGITS_NAME]) - found.shares)[inside]
            largest = np.fmax(largest, off.max()) if np.isfinite(off).all() else np.inf
        counts.append(counted)
    return DeepnessVerdict(
        sources=by_source(counts),
        classes=by_class(spec, counts),
        images=by_image(counts),
        share_difference=float(largest),
    )


def _value(spec: ModelSpec, name: str) -> int:
    """Return the label of the class that a channel is called by."""
    return next(entry.value for entry in spec.active_classes if entry.name == name)


def softmax(logits_nchw: np.ndarray) -> np.ndarray:
    """Return the shares of FP32 logits over their second axis, computed in 64 bits."""
    powers = np.exp(logits_nchw - logits_nchw.max(axis=1, keepdims=True), dtype=np.float64)
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares
