"""The way from an FP32 ONNX file to an FP16 one: measured, converted, compared, put in place.

ONNX Runtime on a CPU widens FP16 to FP32 around each operation, so what is compared here is the
rounding of the weights alone; what a GPU's FP16 arithmetic adds is judged where a plan is built.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import onnx

from flair_engine.backends.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME, read_model_spec
from flair_export.errors import ExportError
from flair_export.precision import casts, largest_activations, to_fp16
from flair_export.samples import check_images, sources
from flair_export.verify import Agreement

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
class HalfVerdict:
    """What the conversion found; agreement is of the weights only, see the module."""

    sources: tuple[Agreement, ...]
    classes: tuple[Agreement, ...]
    largest: tuple[tuple[str, float], ...]
    """Tensors and their largest absolute value, largest first; FP16 ends at 65,504."""
    kept_fp32: tuple[str, ...]
    casts: tuple[str, ...]

    @property
    def total(self) -> Agreement:
        """Agreement over all sources."""
        return Agreement(
            name="total",
            pixels=sum(source.pixels for source in self.sources),
            different=sum(source.different for source in self.sources),
        )


def halve(
    model: Path,
    output: Path,
    images: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> HalfVerdict:
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
    onnx.save(conversion.model, str(output))
    by_source, by_class = _compare(spec, (model, output), images, progress)
    verdict = HalfVerdict(
        sources=by_source,
        classes=by_class,
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


def _compare(
    spec: ModelSpec,
    files: tuple[Path, Path],
    images: Sequence[Path],
    progress: Callable[[str], None],
) -> tuple[tuple[Agreement, ...], tuple[Agreement, ...]]:
    """Return the agreement of the labels of two files by source and by class of the first."""
    full, half = map(open_session, files)
    pixels, different = Counter[int](), Counter[int]()
    by_source = []
    for source in sources(spec, images):
        before = pixels.total(), different.total()
        for number, tile in enumerate(source.tiles):
            progress(f"comparing on {source.name}: tile {number + 1} of {source.count}")
            batch = {INPUT_NAME: tile.image[None]}
            expected, found = (
                session.run(["labels"], batch)[0][0, : tile.height, : tile.width]
                for session in (full, half)
            )
            pixels.update(expected.ravel().tolist())
            different.update(expected[expected != found].tolist())
        by_source.append(
            Agreement(
                name=source.name,
                pixels=pixels.total() - before[0],
                different=different.total() - before[1],
                note=source.note,
            )
        )
    return tuple(by_source), tuple(
        Agreement(name=entry.name, pixels=pixels[entry.value], different=different[entry.value])
        for entry in spec.active_classes
    )
