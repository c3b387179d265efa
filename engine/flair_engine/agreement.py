"""Agreement of two engines on labels, and the verdict on a plan.

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
from flair_engine.tolerances import PLAN_EQUAL

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
class Agreement:
    """Share of equal labels over some tiles."""

    origin: Origin
    """What the tiles are of."""
    tiles: int
    pixels: int
    share: float
    """0..1, over all pixels."""
    share_by_class: Mapping[str, float]
    """By the reference's class, classes that occur."""

    @property
    def least(self) -> float:
        """What `share` has to reach."""
        return PLAN_EQUAL[self.origin]

    def __str__(self) -> str:
        worst = min(self.share_by_class, key=lambda name: self.share_by_class[name])
        return (
            f"{self.share:.3%} of labels agree with FP32 on {self.tiles} tiles of {self.origin}, "
            f"least for {worst} ({self.share_by_class[worst]:.2%})"
        )

    def check(self, what: str) -> None:
        """Raise EngineError where too few labels agree."""
        if self.share < self.least:
            raise EngineError(
                f"{what}: {self}; at least {self.least:.1%} must, so it is refused",
                "use --engine ort, or another TensorRT release",
            )


def compare(
    spec: ModelSpec,
    origin: Origin,
    pairs: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Agreement:
    """Compare (reference, found) labels tile by tile, uint8 of any shape."""
    pixels, equal, tiles = Counter[int](), Counter[int](), 0
    for reference, found in pairs:
        tiles += 1
        pixels.update(pixels_by_label(reference))
        equal.update(pixels_by_label(reference[reference == found]))
    names = {entry.value: entry.name for entry in spec.classes}
    return Agreement(
        origin=origin,
        tiles=tiles,
        pixels=pixels.total(),
        share=equal.total() / pixels.total(),
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
