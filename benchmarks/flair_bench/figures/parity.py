"""Parity: labels of engines against PyTorch FP32."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from flair_bench.figures.arrays import PackedArray

VALUE = re.compile(r"[0-9]{1,3}")
COLOR = re.compile(r"#[0-9a-f]{6}")


class Flip(NamedTuple):
    """Labels of one class that an engine gives to another."""

    expected: str
    found: str
    pixels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassParity:
    """Pixels of one class in PyTorch's labels."""

    pixels: int
    different: int
    """Those the engine labels otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineParity:
    """What one engine differs in from PyTorch FP32."""

    precision: str
    """What it computes in."""
    tolerance: float
    """Least share of equal labels for that precision."""
    agreement: float
    """Share of equal labels."""
    different: int
    """Pixels."""
    lower: int | None
    """Pixels among them whose label is the lower class; None where measured before it was
    counted."""
    largest_lead_lost: float
    """Largest lead (top-1 minus top-2 logit of PyTorch) at a pixel that differs."""
    flipped_by_lead: tuple[int, ...]
    """Pixels that differ, by the bins of `ParityFigures.leads`."""
    classes: Mapping[str, ClassParity]
    """By name."""
    flips: tuple[Flip, ...]
    """The most frequent ones, in descending order."""

    @property
    def lean(self) -> float | None:
        """Share of the labels that differ that are the lower class; None where not known."""
        if self.lower is None or not self.different:
            return None
        return self.lower / self.different


@dataclass(frozen=True, kw_only=True, slots=True)
class AgreementMap:
    """The tile in whose core an engine's labels differ most."""

    image: PackedArray
    """[bands, h, w], three bands at most."""
    reference: PackedArray
    """Labels of PyTorch, [h, w]."""
    engine: PackedArray
    """Labels of the engine, [h, w]."""
    label: str
    """The engine's name."""
    colors: Mapping[str, str]
    """`#rrggbb` by class value in digits."""

    def __post_init__(self) -> None:
        if not (
            len(self.image.shape) == 3
            and self.image.shape[1:] == self.reference.shape == self.engine.shape
        ):
            raise ValueError("image and labels are not of one size")
        for value, color in self.colors.items():
            if not (VALUE.fullmatch(value) and int(value) < 256 and COLOR.fullmatch(color)):
                raise ValueError(f"class {value[:10]} of color {color[:10]}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityFigures:
    """Labels of every engine that runs here against PyTorch FP32 on tiles of images."""

    model: str
    weights_sha256: str
    tile_px: int
    margin_px: int
    tiles: str
    """How many out of how many, in words."""
    pixels: int
    lead_edges: tuple[float, ...]
    """Inner edges of the bins of leads."""
    leads: tuple[int, ...]
    """Pixels by bin, one more than edges."""
    logit_largest: float
    """Largest absolute difference of a logit in ONNX Runtime."""
    logit_p999: float
    """99.9th percentile of the same in a tile, the largest of any tile."""
    engines: Mapping[str, EngineParity]
    """By the label of the choice: `openvino bf16`."""
    missing: Mapping[str, str]
    """Why an engine cannot run here, by label."""
    map: AgreementMap
