"""How many labels of two networks or files are equal: by source of the tiles, and by class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_engine.agreement import pixels_by_label
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np
    import onnxruntime as ort

    from flair_engine.manifest import ModelSpec
    from flair_export.proof.samples import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualLabels:
    """How many labels of some pixels are equal."""

    name: str
    """The class, or where the tiles come from."""
    pixels: int
    """Pixels compared; for a class those the reference gives it."""
    different: int
    """Pixels among them whose label differs."""
    note: str = ""

    @property
    def share(self) -> float:
        """Share of equal labels, 0..1; 1 where there are no pixels."""
        return 1 - self.different / self.pixels if self.pixels else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Label agreement over all tiles."""

    sources: tuple[EqualLabels, ...]
    """By where the tiles come from."""
    classes: tuple[EqualLabels, ...]
    """The active classes, by ascending value; the class is the reference's."""

    @property
    def total(self) -> EqualLabels:
        """Equal labels over all sources."""
        return EqualLabels(
            name="total",
            pixels=sum(source.pixels for source in self.sources),
            different=sum(source.different for source in self.sources),
        )


def compare_files(
    spec: ModelSpec,
    files: tuple[Path, Path],
    sources: Iterable[Source],
    progress: Callable[[str], None],
) -> Comparison:
    """Compare the labels of two ONNX files of `spec`, the reference first, in ONNX Runtime.

    Only pixels inside a raster count. Raises EngineError for a file that is refused, ImageError for
    a tile that cannot be decoded.
    """
    reference, other = map(open_session, files)
    pixels, different = Counter[int](), Counter[int]()
    by_source = []
    for source in sources:
        before = pixels.total(), different.total()
        for number, tile in enumerate(source.tiles):
            progress(f"comparing on {source.name}: tile {number + 1} of {source.count}")
            expected, found = (
                answers(session, ["labels"], tile.image[None])["labels"][
                    0, : tile.height, : tile.width
                ]
                for session in (reference, other)
            )
            pixels.update(pixels_by_label(expected))
            different.update(pixels_by_label(expected[expected != found]))
        by_source.append(
            EqualLabels(
                name=source.name,
                pixels=pixels.total() - before[0],
                different=different.total() - before[1],
                note=source.note,
            )
        )
    return Comparison(sources=tuple(by_source), classes=by_class(spec, pixels, different))


def answers(
    session: ort.InferenceSession, names: Sequence[str], images_nchw: np.ndarray
) -> dict[str, np.ndarray]:
    """Run an ONNX file on uint8 [N, bands, T, T]; return the outputs `names` by name."""
    found = session.run(list(names), {INPUT_NAME: images_nchw})
    return dict(zip(names, found, strict=True))


def by_class(
    spec: ModelSpec, pixels: Counter[int], different: Counter[int]
) -> tuple[EqualLabels, ...]:
    """Return the agreement of each active class from counts by label."""
    return tuple(
        EqualLabels(name=entry.name, pixels=pixels[entry.value], different=different[entry.value])
        for entry in spec.active_classes
    )
