"""Agreement of two engines on labels, its lean, and the verdict on a plan.

The reference of a plan is its own graph with every FP16 type made FP32. The weights stay rounded
as they are in the FP16 file: what that rounding costs is judged at export.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from flair_engine.errors import EngineError
from flair_engine.model_file import load_model
from flair_engine.tolerances import LEAN, LEAN_COUNTED, LEAN_MOVED, PLAN_EQUAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from flair_engine.manifest import ModelSpec

TILES = 16
"""Tiles of images that a plan is judged on, spread evenly."""
NOISE_TILES = 4
"""Tiles of noise, for where there are no images."""
SEED = 20240917
"""Of the noise: the same plan gets the same verdict."""

Origin = Literal["images", "noise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelDifference:
    """How many labels of some pixels differ from a reference's, and how many of them are lower."""

    pixels: int = 0
    """Compared."""
    different: int = 0
    lower: int = 0
    """Pixels among those that differ whose label is a smaller number than the reference's."""

    def __add__(self, other: LabelDifference) -> LabelDifference:
        """Return the difference over the pixels of both."""
        return LabelDifference(
            pixels=self.pixels + other.pixels,
            different=self.different + other.different,
            lower=self.lower + other.lower,
        )

    @property
    def share(self) -> float:
        """Share of equal labels, 0..1; 1 where there are no pixels."""
        return 1 - self.different / self.pixels if self.pixels else 1.0

    @property
    def lean(self) -> float | None:
        """Share of the labels that differ that are lower, 0..1; None where none differs.

        A half where rounding moves labels either way, 1 where ties all go to the first class.
        """
        return self.lower / self.different if self.different else None

    @property
    def leans(self) -> bool:
        """Whether the lean is beyond LEAN, and so many labels differ that it counts."""
        least, largest = LEAN
        moved = abs(2 * self.lower - self.different)
        return (
            self.different > LEAN_COUNTED
            and moved > LEAN_MOVED * self.pixels
            and not least <= self.lower / self.different <= largest
        )

    @property
    def fault(self) -> str:
        """What is wrong with the lean, for people; empty where nothing is."""
        if not self.leans:
            return ""
        least, largest = LEAN
        return (
            f"{self.lower / self.different:.0%} of the {self.different:,} labels that differ are "
            f"the lower class, expected {least:.0%} to {largest:.0%}: they lean"
        )


def difference_of(reference: np.ndarray, found: np.ndarray) -> LabelDifference:
    """Compare labels, uint8 of one shape."""
    return LabelDifference(
        pixels=reference.size,
        different=int(np.count_nonzero(found != reference)),
        lower=int(np.count_nonzero(found < reference)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Share of equal labels over some tiles."""

    origin: Origin
    """What the tiles are of."""
    tiles: int
    pixels: int
    different: int
    lower: int
    """As in LabelDifference."""
    share_by_class: Mapping[str, float]
    """By the reference's class, classes that occur."""

    @property
    def difference(self) -> LabelDifference:
        """The same over all classes."""
        return LabelDifference(pixels=self.pixels, different=self.different, lower=self.lower)

    @property
    def share(self) -> float:
        """Share of equal labels, 0..1, over all pixels."""
        return self.difference.share

    @property
    def least(self) -> float:
        """What `share` has to reach."""
        return PLAN_EQUAL[self.origin]

    def __str__(self) -> str:
        worst = min(self.share_by_class, key=lambda name: self.share_by_class[name])
        lean = self.difference.lean
        return (
            f"{self.share:.3%} of labels agree with FP32 on {self.tiles} tiles of {self.origin}, "
            f"least for {worst} ({self.share_by_class[worst]:.2%})"
        ) + ("" if lean is None else f"; {lean:.0%} of the others are the lower class")

    def check(self, what: str) -> None:
        """Raise EngineError where too few labels agree, or those that do not lean.

        On noise no lean is asked for: nothing there has a right answer on either side.
        """
        if self.share < self.least:
            raise EngineError(
                f"{what}: {self}; at least {self.least:.1%} must, so it is refused",
                "use --engine ort, or another TensorRT release",
            )
        if self.origin == "images" and self.difference.leans:
            raise EngineError(
                f"{what}: {self.difference.fault}, so it is refused",
                "export the FP16 file again, or use --engine ort",
            )


def compare(
    spec: ModelSpec,
    origin: Origin,
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Agreement:
    """Compare (reference, found) labels tile by tile, uint8 of any shape."""
    pixels, equal, tiles = Counter[int](), Counter[int](), 0
    total = LabelDifference()
    for reference, found in pairs:
        tiles += 1
        total += difference_of(reference, found)
        pixels.update(pixels_by_label(reference))
        equal.update(pixels_by_label(reference[reference == found]))
    names = {entry.value: entry.name for entry in spec.classes}
    return Agreement(
        origin=origin,
        tiles=tiles,
        pixels=total.pixels,
        different=total.different,
        lower=total.lower,
        share_by_class={
            names.get(value, str(value)): equal[value] / count
            for value, count in sorted(pixels.items())
        },
    )


def noise_tiles(spec: ModelSpec) -> Sequence[np.ndarray]:
    """Return seeded noise, uint8 [bands, T, T] each, for where no image is at hand."""
    random = np.random.default_rng(SEED)
    shape = (len(spec.bands), spec.tile_px, spec.tile_px)
    return [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(NOISE_TILES)]


def in_fp32(model: Path) -> bytes:
    """Return the ONNX file with every FP16 tensor and Cast made FP32, as bytes."""
    from onnx import TensorProto, numpy_helper

    twin = load_model(model)
    for tensor in twin.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for node in twin.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    del twin.graph.value_info[:]
    content: bytes = twin.SerializeToString()
    return content


def pixels_by_label(labels: np.ndarray) -> dict[int, int]:
    """Return how many pixels each label has that occurs, of uint8 labels of any shape."""
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
