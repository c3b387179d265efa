"""Trees of a synthetic scene: crowns where the picture lets them grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flair_export.synthetic.palette import (
    BRUSH,
    CONIFER,
    CROP,
    DECIDUOUS,
    GRASS,
    LEAVES,
    NEEDLES,
    PLOWED,
    SOIL,
)

if TYPE_CHECKING:
    from flair_export.synthetic.picture import Picture, Place


def plant_trees(picture: Picture) -> None:
    """Grow crowns on a jittered lattice by the picture's density, conifers in places."""
    rng, (height, width) = picture.rng, picture.shape
    plantable = (GRASS, BRUSH, CROP, PLOWED, SOIL, DECIDUOUS, CONIFER)
    conifers = picture.noise(500) > 0.55
    for top in range(-10, height + 20, 21):
        for left in range(-10, width + 20, 21):
            row, col = top + rng.uniform(-8, 8), left + rng.uniform(-8, 8)
            pixel = min(max(int(row), 0), height - 1), min(max(int(col), 0), width - 1)
            if rng.random() < picture.tree_density[pixel] and picture.label[pixel] in plantable:
                _grow_crown(picture, (row, col, rng.uniform(0, 6)), conifer=bool(conifers[pixel]))
    crowns = (picture.label == DECIDUOUS) | (picture.label == CONIFER)
    picture.height_m *= np.where(crowns, 1 + np.float32(0.07) * picture.noise(5), np.float32(1))


def _grow_crown(picture: Picture, place: Place, *, conifer: bool) -> None:
    """Draw one crown: a lumpy dome, or a cone."""
    rng = picture.rng
    radius = rng.uniform(10, 15) if conifer else rng.uniform(12, 23)
    piece, u, v = picture.around(place, 1.3 * radius)
    theta = np.arctan2(v, u)
    lobes = 1 + 0.1 * np.sin(3 * theta) + 0.06 * np.sin(5 * theta + radius)
    out = np.hypot(u, v) / (radius * lobes)
    if conifer:
        height_m = rng.uniform(9, 15) * (1 - 0.75 * out)
    else:
        dome = 0.45 + 0.55 * np.sqrt(np.maximum(0, 1 - out**2))
        height_m = (0.35 * radius + rng.uniform(1, 4)) * dome
    mask = (out < 1) & (height_m > piece.height_m)
    label, colors = (CONIFER, NEEDLES) if conifer else (DECIDUOUS, LEAVES)
    piece.fill(mask, label, picture.pick(colors), height_m[mask])
