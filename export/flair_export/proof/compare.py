"""Equal labels of two networks or files, counted by source of the tiles, image and class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flair_engine.agreement import LabelDifference, difference_of, pixels_by_label
from flair_engine.inference.onnx_runtime import open_session
from flair_engine.manifest import INPUT_NAME
from flair_export.proof.samples import NOISE

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
    lower: int
    """Pixels among those whose label is the lower class."""
    note: str = ""

    @property
    def difference(self) -> LabelDifference:
        """The counts alone."""
        return LabelDifference(pixels=self.pixels, different=self.different, lower=self.lower)

    @property
    def share(self) -> float:
        """Share of equal labels, 0..1; 1 where there are no pixels."""
        return self.difference.share


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Label agreement over all tiles."""

    sources: tuple[EqualLabels, ...]
    """By where the tiles come from."""
    classes: tuple[EqualLabels, ...]
    """The active classes, by ascending value; the class is the reference's."""
    images: tuple[EqualLabels, ...]
    """By image of the user's, in the order they were read."""

    @property
    def total(self) -> EqualLabels:
        """Equal labels over all sources."""
        return EqualLabels(
            name="total",
            pixels=sum(source.pixels for source in self.sources),
            different=sum(source.different for source in self.sources),
            lower=sum(source.lower for source in self.sources),
        )

    @property
    def lean_fault(self) -> str:
        """What is wrong with the lean over all sources but noise; empty where nothing is."""
        judged = (source.difference for source in self.sources if source.name != NOISE)
        return sum(judged, LabelDifference()).fault


@dataclass(kw_only=True, slots=True)
class LabelCounts:
    """Running counts over the tiles of one source, by label of the reference."""

    name: str
    note: str
    pixels: Counter[int] = field(default_factory=Counter)
    different: Counter[int] = field(default_factory=Counter)
    lower: Counter[int] = field(default_factory=Counter)
    images: dict[Path, LabelDifference] = field(default_factory=dict)

    def add(self, expected: np.ndarray, found: np.ndarray, image: Path | None) -> None:
        """Count the labels of one tile, uint8 of equal shape, read from `image`."""
        self.pixels.update(pixels_by_label(expected))
        self.different.update(pixels_by_label(expected[expected != found]))
        self.lower.update(pixels_by_label(expected[found < expected]))
        if image is not None:
            before = self.images.get(image, LabelDifference())
            self.images[image] = before + difference_of(expected, found)


def by_source(counts: Sequence[LabelCounts]) -> tuple[EqualLabels, ...]:
    """Return the equal labels of each source."""
    return tuple(
        EqualLabels(
            name=source.name,
            pixels=source.pixels.total(),
            different=source.different.total(),
            lower=source.lower.total(),
            note=source.note,
        )
        for source in counts
    )


def by_class(spec: ModelSpec, counts: Sequence[LabelCounts]) -> tuple[EqualLabels, ...]:
    """Return the equal labels of each active class over all sources."""
    pixels, different, lower = Counter[int](), Counter[int](), Counter[int]()
    for source in counts:
        pixels.update(source.pixels)
        different.update(source.different)
        lower.update(source.lower)
    return tuple(
        EqualLabels(
            name=entry.name,
            pixels=pixels[entry.value],
            different=different[entry.value],
            lower=lower[entry.value],
        )
        for entry in spec.active_classes
    )


def by_image(counts: Sequence[LabelCounts]) -> tuple[EqualLabels, ...]:
    """Return the equal labels of each image that tiles were read from."""
    images: dict[Path, LabelDifference] = {}
    for source in counts:
        for path, found in source.images.items():
            images[path] = images.get(path, LabelDifference()) + found
    return tuple(
        EqualLabels(
            name=path.name, pixels=found.pixels, different=found.different, lower=found.lower
        )
        for path, found in images.items()
    )


def compare_files(
    spec: ModelSpec,
    files: tuple[Path, Path],
    sources: Iterable[Source],
    status: Callable[[str], None],
) -> Comparison:
    """Compare the labels of two ONNX files of `spec`, the reference first, in ONNX Runtime.

    Only pixels inside a raster count. Raises EngineError for a file that is refused, ImageError for
    a tile that cannot be decoded.
    """
    reference, other = map(open_session, files)
    counts = []
    for source in sources:
        counted = LabelCounts(name=source.name, note=source.note)
        for number, tile in enumerate(source.tiles):
            status(f"comparing on {source.name}: tile {number + 1} of {source.count}")
            expected, found = (
                answers(session, ["labels"], tile.image[None])["labels"][0][tile.inside]
                for session in (reference, other)
            )
            counted.add(expected, found, tile.path)
        counts.append(counted)
    return Comparison(
        sources=by_source(counts), classes=by_class(spec, counts), images=by_image(counts)
    )


def answers(
    session: ort.InferenceSession, names: Sequence[str], images_nchw: np.ndarray
) -> dict[str, np.ndarray]:
    """Run an ONNX file on uint8 [N, bands, T, T]; return the outputs `names` by name."""
    found = session.run(list(names), {INPUT_NAME: images_nchw})
    return dict(zip(names, found, strict=True))
