"""Buildings of a synthetic scene: houses on their plots, and greenhouses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flair_export.cards import GSD_M
from flair_export.synthetic.ground import PLOT_PX, STREET_SPACING_PX
from flair_export.synthetic.palette import (
    BASIN,
    BUILDING,
    CROP,
    GLASS,
    GRASS,
    GRAVEL,
    GREENHOUSE,
    IMPERVIOUS,
    PAVING,
    PERVIOUS,
    PLOWED,
    POOL,
    ROOFS,
    VINEYARD,
)

if TYPE_CHECKING:
    from flair_export.synthetic.picture import Array, Color, Mask, Picture, Place


def build_houses(picture: Picture, village: Mask) -> None:
    """Build on most plots of the village."""
    for column, line in np.argwhere(village & (picture.rng.random(village.shape) < 0.93)):
        along = (column + 0.5 - len(village) / 2) * PLOT_PX + picture.rng.uniform(-9, 9)
        street = (-1, -1, 0, 0, 1, 1)[line] * STREET_SPACING_PX
        _build_house(picture, along, street, 1 if line in (1, 3, 5) else -1)


def _build_house(picture: Picture, along: float, street: float, away: int) -> None:
    """Put a house beside a street: drive, terrace, roof, and perhaps a pool, a wing and a shed.

    `away` is the direction across that leads from the street.
    """
    rng = picture.rng
    depth = rng.uniform(66, 84)

    def lot(side: float, behind: float, turn: float = 0.0) -> Place:
        return picture.place(along + side, street + away * (depth + behind), turn)

    label, color = (PERVIOUS, GRAVEL) if rng.random() < 0.4 else (IMPERVIOUS, PAVING)
    _pave(picture, lot(22, 6 - depth / 2), 9, depth / 2, label, color)
    _pave(picture, lot(-6, 24), 22, 16, IMPERVIOUS, PAVING)
    if rng.random() < 0.4:
        _pave(picture, lot(-18, 62), 24, 15, IMPERVIOUS, PAVING)
        _pave(picture, lot(-18, 62), 19, 10, POOL, BASIN)
    turn = rng.normal(0, 0.04) + (np.pi / 2 if rng.random() < 0.2 else 0)
    roof, eaves_m = picture.pick(ROOFS), rng.uniform(2.6, 4.8)
    _raise_roof(picture, lot(0, 0, turn), (rng.uniform(28, 41), rng.uniform(19, 24)), roof, eaves_m)
    if rng.random() < 0.35:
        wing = lot(rng.choice((-20, 20)), 18, turn + np.pi / 2)
        _raise_roof(picture, wing, (26, 14), roof, eaves_m)
    shed = lot(rng.choice((-32, 32)), 66, turn)
    piece, _, _, mask = picture.box(shed, 14, 11)
    if rng.random() < 0.45 and (piece.label[mask] == GRASS).all():
        _raise_roof(picture, shed, (13, 10), picture.pick(ROOFS), 2.2)


def _pave(
    picture: Picture, place: Place, half_length: float, half_width: float, label: int, color: Color
) -> None:
    piece, _, _, mask = picture.box(place, half_length, half_width)
    piece.fill(mask, label, color)


def _raise_roof(
    picture: Picture, place: Place, half_size: tuple[float, float], color: Array, eaves_m: float
) -> None:
    """Build a gabled roof, highest along its length; a lower one does not hide a higher one."""
    half_length, half_width = half_size
    piece, u, v, mask = picture.box(place, half_length, half_width)
    height_m = eaves_m + 0.6 * GSD_M * (half_width - np.abs(v))
    mask &= height_m > piece.height_m
    piece.fill(mask, BUILDING, color, height_m[mask])
    piece.color[:, mask] *= (1 + 0.05 * np.sin(2.1 * u))[mask]  # courses of tiles
    chimney = (np.abs(u - half_length / 2) < 3) & (np.abs(v - 4) < 3) & mask
    piece.fill(chimney, BUILDING, 0.8 * color, eaves_m + 0.6 * GSD_M * half_width + 1)


def build_greenhouses(picture: Picture) -> None:
    """Set a row of greenhouses on farmland beyond the village, one per 6 hectares of picture."""
    rng = picture.rng
    for _ in range(picture.label.size // 1_500_000):
        along = rng.uniform(-0.45, 0.45) * picture.size
        place = picture.place(along, rng.choice((-1, 1)) * rng.uniform(560, 640))
        piece, u, v, mask = picture.box(place, 130, 66)
        if not np.isin(piece.label[mask], (CROP, PLOWED, GRASS, VINEYARD)).all():
            continue
        y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
        picture.tree_density[np.hypot(y - place[0], x - place[1]) < 160] = 0
        piece.fill(mask, PERVIOUS, GRAVEL)
        position = v % 42
        arch = mask & (np.abs(u) < 122) & (position > 4) & (position < 38)
        curve_m = 3 + 1.6 * np.sqrt(1 - ((position[arch] - 21) / 17) ** 2)
        piece.fill(arch, GREENHOUSE, GLASS, curve_m)
        piece.color[:, arch & (u % 15 < 1.5)] *= np.float32(0.86)  # ribs
