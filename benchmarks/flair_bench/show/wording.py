"""Words for figures: names of runs and geometries, shares, ratios with their spreads."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from flair_bench.figures import with_int8

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flair_bench.figures import GeometryCost, RunRatio, Spread, WholeRun

ENGINE_WORDS = {"ort": "ONNX Runtime", "openvino": "OpenVINO", "trt": "TensorRT"}
BY_ITSELF_WORDS = "the engine it takes by itself,"
PRECISION_WORDS = {"fp32": "FP32", "fp16": "FP16", "int8": "INT8"}
NONE = "-"
"""Where there is no figure."""


def percent(share: float | None) -> str:
    """Return a share in percent, cut and not rounded: 100.0000 is said of what differs nowhere."""
    return NONE if share is None else f"{floor(1e6 * share) / 1e4:.4f}"


def ratio(found: RunRatio | None) -> str:
    """Return how many times as long a reference takes: `2.74 (2.70 to 2.77)`."""
    return NONE if found is None else with_spread(found.wall, found.wall_spread, 2)


def with_spread(value: float, spread: Spread, decimals: int) -> str:
    """Return a median with the least and the most: `94.5 (93.3 to 95.6)`."""
    low, high = spread
    return f"{value:.{decimals}f} ({low:.{decimals}f} to {high:.{decimals}f})"


def with_precision(name: str, precision: str) -> str:
    """Return a run's name with those words of its precision that it lacks."""
    return " ".join([name, *(word for word in precision.split() if word not in name.split())])


def run_label(name: str, run: WholeRun) -> str:
    """Return a whole run's name with its precision and geometry, each once."""
    return with_precision(name, f"{run.precision} {run.geometry}")


def spoken(name: str, run: WholeRun) -> str:
    """Return a whole run in words: `OpenVINO INT8 and bf16 at 512 / 128`."""
    precision = " and ".join(PRECISION_WORDS.get(word, word) for word in run.precision.split())
    engine = name.split()[0]
    engine = BY_ITSELF_WORDS if engine == "auto" else ENGINE_WORDS.get(engine, engine)
    return f"{engine} {precision} at {run.geometry.replace('-', ' / ')}"


def geometry_label(cost: GeometryCost) -> str:
    """Return tile and margin of one geometry, and that its model is INT8."""
    return with_int8(f"{cost.tile_px} / {cost.margin_px}", cost.precision)


def missing_notes(missing: Mapping[str, str]) -> tuple[str, ...]:
    """Return which engines were not measured and why."""
    return tuple(f"{label}: not available here: {why}" for label, why in missing.items())
