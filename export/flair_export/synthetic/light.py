"""Light on a synthetic scene: texture, sun and shadows, and what a camera makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flair_engine.manifest import COUNTS_PER_METRE
from flair_export.cards import GSD_M

if TYPE_CHECKING:
    import numpy.typing as npt

    from flair_export.synthetic.picture import Array, Picture


def expose(picture: Picture) -> npt.NDArray[np.uint8]:
    """Return the five bands as a camera sees them: texture, sun, shadows and sensor noise."""
    height_m = picture.height_m
    light = 1 + np.float32(0.05) * picture.noise(160) + np.float32(0.03) * picture.noise(24)
    light += np.float32(0.035) * picture.noise(5)
    rise = height_m[:-1, :-1] - height_m[1:, 1:]  # towards the sun in the south-east
    light[:-1, :-1] += np.float32(0.27) * np.tanh(np.float32(1.3) * rise)
    dimming = np.array([0.5, 0.47, 0.4, 0.5], np.float32)  # skylight is blue
    shadow = cast_shadow(height_m)
    bands = np.empty((5, *picture.shape), np.uint8)
    for band, (color, dim) in enumerate(zip(picture.color, dimming, strict=True)):
        grain = picture.rng.standard_normal(picture.shape, np.float32)
        bands[band] = (color * light * (1 - dim * shadow) + 4 * grain).clip(0, 255)
    grain = picture.rng.standard_normal(picture.shape, np.float32)
    bands[4] = (COUNTS_PER_METRE * height_m + np.float32(0.6) * grain).clip(0, 255)
    return bands


def cast_shadow(height_m: Array) -> Array:
    """Return how much of the sun is hidden, 0..1; it stands in the south-east, 50 degrees up."""
    drop_m = np.float32(2 * np.sqrt(2) * GSD_M * np.tan(np.radians(50)))
    reach = height_m.copy()
    for _ in range(24):  # each step carries the tops two pixels further north-west
        reach[:-2, :-2] = np.maximum(height_m[:-2, :-2], reach[2:, 2:] - drop_m)
    hidden = (reach > height_m + 0.4).astype(np.float32)
    padded = np.pad(hidden, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    soft: Array = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return soft
