"""Ground of a synthetic scene: fields, woods, a river, gardens and roads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flair_export.synthetic.palette import (
    ASPHALT,
    BANK,
    BRUSH,
    CARS,
    CROP,
    GRASS,
    GRAVEL,
    HEDGE,
    IMPERVIOUS,
    LAWNS,
    MARKING,
    PAVING,
    PERVIOUS,
    PLOWED,
    RIVER,
    SAND,
    SOIL,
    UNDERGROWTH,
    VINE,
    VINEYARD,
    WATER,
)

if TYPE_CHECKING:
    from flair_export.synthetic.picture import Array, Color, Mask, Picture

PLOT_PX = 120
"""Length of road a garden takes."""
STREET_SPACING_PX = 340
"""Distance between parallel streets; two rows of gardens lie between them."""


@dataclass(frozen=True, slots=True)
class Field:
    """How one kind of field looks."""

    label: int
    color: Color
    height_m: float = 0.0
    row_px: float = 1.0
    """Distance between rows."""
    contrast: float = 0.0
    """Brightness of the rows against their gaps, a fraction."""


FIELDS = (
    Field(CROP, (196, 174, 112, 140), 0.8, 4.0, 0.05),  # ripe wheat
    Field(CROP, (206, 188, 128, 148), 0.6, 5.0, 0.06),  # barley
    Field(CROP, (164, 166, 84, 176), 0.7, 4.0, 0.05),  # unripe
    Field(CROP, (210, 196, 72, 170), 1.2, 3.0, 0.04),  # rapeseed
    Field(PLOWED, (148, 118, 92, 84), 0.0, 7.0, 0.09),
    Field(PLOWED, (128, 100, 80, 74), 0.0, 6.0, 0.10),
    Field(VINEYARD, (150, 132, 100, 112), 0.0, 11.0),
    Field(GRASS, (116, 134, 84, 158), 0.1),
    Field(GRASS, (130, 142, 92, 152), 0.1),
)


def paint_fields(picture: Picture) -> None:
    """Cover the ground with strips of fields, with hedgerows between them, and with woods."""
    rng = picture.rng
    u = picture.across + np.float32(0.12) * picture.along
    reach = float(np.abs(u).max()) + 1
    edges = -reach + np.cumsum(rng.uniform(200, 430, 3 + int(reach / 100)))
    bounds = np.concatenate(([-np.inf], edges, [np.inf])).astype(np.float32)
    strip = np.searchsorted(edges, u)
    length = rng.uniform(320, 760, len(edges) + 1).astype(np.float32)[strip]
    shift = rng.uniform(8e4, 9e4, len(edges) + 1).astype(np.float32)[strip]  # no end is negative
    v = picture.along + shift
    cell = (v / length).astype(np.intp)
    cell -= cell.min()

    fields = (len(edges) + 1, int(cell.max()) + 1)
    kind = rng.integers(len(FIELDS), size=fields)[strip, cell]
    tint = rng.uniform(0.92, 1.08, fields).astype(np.float32)[strip, cell]
    row = np.where((rng.random(fields) < 0.65)[strip, cell], u, v)
    for index, field in enumerate(FIELDS):
        mask = kind == index
        _paint_field(picture, mask, field, row[mask], tint[mask])

    end = v % length
    edge = np.minimum(u - bounds[strip], bounds[strip + 1] - u)
    border = np.minimum(edge, np.minimum(end, length - end))
    picture.fill(border < 6, GRASS, LAWNS[1])
    hedgerow = (border < 9) & (rng.random(fields) < 0.4)[strip, cell]
    wood = picture.noise(700) + np.float32(0.35) * picture.noise(120) > 0.8
    picture.fill(wood, GRASS, UNDERGROWTH)
    picture.tree_density[:] = np.where(wood, 1, np.where(hedgerow, 0.55, 0.002))


def _paint_field(picture: Picture, mask: Mask, field: Field, row: Array, tint: Array) -> None:
    """Fill the fields of one kind; `row` is the position across their rows, pixels."""
    picture.fill(mask, field.label, field.color, field.height_m)
    shade = tint * (1 + np.float32(field.contrast) * np.sin(row * (2 * np.pi / field.row_px)))
    if field.label == CROP:  # the pairs of wheel tracks that sprayers leave
        shade[np.minimum(row % 130, (row - 9) % 130) < 2.5] *= np.float32(0.85)
    if field.label == VINEYARD:
        vines = row % field.row_px < 5.5
        soil = np.array(field.color, np.float32)[:, None]
        picture.color[:, mask] = np.where(vines, np.array(VINE, np.float32)[:, None], soil)
        picture.height_m[mask] = np.where(vines, 1.5, 0)
    picture.color[:, mask] *= shade.astype(np.float32)


def paint_river(picture: Picture) -> None:
    """Let a river with sandy banks and trees run on one side of the village."""
    phase, side = picture.rng.uniform(0, 6), picture.rng.choice((-1, 1))
    meander = 60 * np.sin(picture.along / 260 + phase) + 22 * np.sin(picture.along / 97)
    course = side * 0.36 * picture.size + meander + 5 * picture.noise(60)
    to_bank = np.abs(picture.across - course) - 34 - 7 * picture.noise(300)
    picture.tree_density[to_bank < 60] = 0.45
    picture.tree_density[to_bank < 10] = 0
    picture.fill(to_bank < 60, GRASS, BANK)
    picture.fill(to_bank < 7 + 6 * picture.noise(90), SOIL, SAND)
    picture.fill(to_bank < 0, WATER, RIVER)


def paint_gardens(picture: Picture) -> Mask:
    """Lay out lawns and hedges in six rows of plots; return which are used, [plots, rows]."""
    rng = picture.rng
    columns = 2 * (int(np.abs(picture.along).max()) // PLOT_PX + 1)
    along = (np.arange(columns) + 0.5 - columns / 2) * PLOT_PX / (0.46 * picture.size)
    across = (np.arange(6) - 2.5) * STREET_SPACING_PX / 2 / (0.23 * picture.size)
    village = along[:, None] ** 2 + across**2 + rng.normal(0, 0.13, (columns, 6)) < 1

    column = np.floor(picture.along / PLOT_PX).astype(np.intp) + columns // 2
    line = np.floor(picture.across / (STREET_SPACING_PX / 2)).astype(np.intp) + 3
    inside = (line >= 0) & (line < 6)
    line = line.clip(0, 5)
    inside &= village[column, line]
    lawns = np.array([picture.pick(LAWNS) for _ in range(village.size)])
    picture.fill(inside, GRASS, LAWNS[0])
    picture.color[:, inside] = lawns[(column * 6 + line)[inside]].T
    picture.tree_density[inside] = 0.05

    side = np.abs(picture.along % PLOT_PX - PLOT_PX / 2) > PLOT_PX / 2 - 4
    back = np.abs(picture.across % STREET_SPACING_PX - STREET_SPACING_PX / 2) < 4
    hedged = (rng.random(village.shape) < 0.6)[column, line]
    picture.fill(inside & hedged & (side | back), BRUSH, HEDGE, 1.8)
    return village


def paint_roads(picture: Picture) -> None:
    """Draw the main road with its cars, the village streets, and the tracks they become."""
    reach = 0.46 * picture.size
    across, along = np.abs(picture.across), np.abs(picture.along)
    parallel = np.abs(across - STREET_SPACING_PX)
    crossing = np.abs((along + 2.5 * PLOT_PX) % (5 * PLOT_PX) - 2.5 * PLOT_PX)
    crossing[across > STREET_SPACING_PX + 10] = np.inf
    street = np.where(along < reach, np.minimum(parallel, crossing), np.inf)
    track = np.minimum(parallel, np.where(across > STREET_SPACING_PX, along, np.inf))
    picture.tree_density[(track < 24) | (street < 24) | (across < 34)] = 0
    picture.fill(track < 8 + picture.noise(30), PERVIOUS, GRAVEL)
    picture.fill((street < 18) | (across < 29), IMPERVIOUS, PAVING)
    picture.fill((street < 13) | (across < 20), IMPERVIOUS, ASPHALT)
    picture.fill((across < 1) & (picture.along % 45 < 22), IMPERVIOUS, MARKING)
    spots = np.arange(-reach, reach, 32)
    for spot in picture.rng.choice(spots, len(spots) // 4, replace=False):
        piece, _, _, car = picture.box(picture.place(spot, picture.rng.choice((-10, 10))), 11, 5)
        piece.fill(car, IMPERVIOUS, picture.pick(CARS), 1.4)
