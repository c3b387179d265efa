"""A synthetic aerial image with its land cover: a village between fields, woods and a river.

Everything is placed in a road frame: `along` the main road and `across` from it, in pixels of
0.2 m. Ground comes first (fields, river, gardens, roads), then what stands on it (houses,
greenhouses, trees), then the light. Each step paints colour, height and label together, so the
labels are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flair_export.cards import GSD_M
from flair_export.synthetic.picture import Array, Color, Mask, Picture, Place

COUNTS_PER_M = 5
"""The elevation band is clip(5 * height in metres, 0, 255)."""
PLOT_PX = 120
"""Length of road a garden takes."""
BLOCK_PX = 340
"""Distance between parallel streets; two rows of gardens lie between them."""

BUILDING, PERVIOUS, IMPERVIOUS, SOIL, WATER, CONIFER, DECIDUOUS, BRUSH = range(1, 9)
VINEYARD, GRASS, CROP, PLOWED, POOL = range(9, 14)
GREENHOUSE = 18

ASPHALT, PAVING = (134, 131, 129, 96), (182, 172, 158, 128)
GRAVEL, SAND = (190, 174, 146, 134), (214, 200, 168, 152)
RIVER, BASIN = (66, 88, 86, 24), (92, 188, 204, 44)
GLASS, MARKING = (206, 216, 220, 176), (222, 222, 222, 222)
BANK, UNDERGROWTH = (112, 138, 82, 164), (92, 108, 70, 140)
HEDGE, VINE = (76, 102, 58, 148), (80, 110, 54, 150)
LAWNS = ((110, 138, 80, 166), (122, 142, 88, 158), (138, 146, 98, 150), (100, 130, 74, 170))
LEAVES = ((72, 98, 54, 160), (84, 106, 56, 166), (64, 90, 56, 152), (96, 108, 58, 158))
NEEDLES = ((44, 68, 52, 100), (50, 74, 54, 106))
TILES = ((180, 104, 80, 122), (166, 92, 74, 114), (186, 124, 96, 130), (146, 94, 80, 104))
ROOFS = (*TILES, (104, 106, 116, 82), (198, 188, 176, 140))
CARS = ((206, 206, 208, 150), (60, 62, 70, 50), (168, 52, 48, 90), (58, 84, 138, 70))


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


def synthetic_orthophoto(
    height: int, width: int, seed: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a scene of `height` x `width` pixels of 0.2 m; the same arguments give the same scene.

    Returns the image, uint8 [5, H, W] of red, green, blue, near infrared and elevation
    (clip(5 * height in metres, 0, 255)), and the labels, uint8 [H, W] of FLAIR values 1..19.
    Raises ValueError where a side is shorter than one pixel.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a scene of {height} x {width} px has no pixel: give sides of 1 or more")
    canvas = Picture(height, width, seed, GRASS)
    paint_fields(canvas)
    paint_river(canvas)
    village = paint_gardens(canvas)
    paint_roads(canvas)
    build_houses(canvas, village)
    build_greenhouses(canvas)
    plant_trees(canvas)
    return expose(canvas), canvas.label


def paint_fields(canvas: Picture) -> None:
    """Cover the ground with strips of fields, with hedgerows between them, and with woods."""
    rng = canvas.rng
    u = canvas.across + np.float32(0.12) * canvas.along
    reach = float(np.abs(u).max()) + 1
    edges = -reach + np.cumsum(rng.uniform(200, 430, 3 + int(reach / 100)))
    bounds = np.concatenate(([-np.inf], edges, [np.inf])).astype(np.float32)
    strip = np.searchsorted(edges, u)
    length = rng.uniform(320, 760, len(edges) + 1).astype(np.float32)[strip]
    shift = rng.uniform(8e4, 9e4, len(edges) + 1).astype(np.float32)[strip]  # no end is negative
    v = canvas.along + shift
    cell = (v / length).astype(np.intp)
    cell -= cell.min()

    fields = (len(edges) + 1, int(cell.max()) + 1)
    kind = rng.integers(len(FIELDS), size=fields)[strip, cell]
    tint = rng.uniform(0.92, 1.08, fields).astype(np.float32)[strip, cell]
    row = np.where((rng.random(fields) < 0.65)[strip, cell], u, v)
    for index, field in enumerate(FIELDS):
        mask = kind == index
        _paint_field(canvas, mask, field, row[mask], tint[mask])

    end = v % length
    edge = np.minimum(u - bounds[strip], bounds[strip + 1] - u)
    border = np.minimum(edge, np.minimum(end, length - end))
    canvas.fill(border < 6, GRASS, LAWNS[1])
    hedgerow = (border < 9) & (rng.random(fields) < 0.4)[strip, cell]
    wood = canvas.noise(700) + np.float32(0.35) * canvas.noise(120) > 0.8
    canvas.fill(wood, GRASS, UNDERGROWTH)
    canvas.tree_density[:] = np.where(wood, 1, np.where(hedgerow, 0.55, 0.002))


def _paint_field(canvas: Picture, mask: Mask, field: Field, row: Array, tint: Array) -> None:
    """Fill the fields of one kind; `row` is the position across their rows, pixels."""
    canvas.fill(mask, field.label, field.color, field.height_m)
    shade = tint * (1 + np.float32(field.contrast) * np.sin(row * (2 * np.pi / field.row_px)))
    if field.label == CROP:  # the pairs of wheel tracks that sprayers leave
        shade[np.minimum(row % 130, (row - 9) % 130) < 2.5] *= np.float32(0.85)
    if field.label == VINEYARD:
        vines = row % field.row_px < 5.5
        soil = np.array(field.color, np.float32)[:, None]
        canvas.color[:, mask] = np.where(vines, np.array(VINE, np.float32)[:, None], soil)
        canvas.height_m[mask] = np.where(vines, 1.5, 0)
    canvas.color[:, mask] *= shade.astype(np.float32)


def paint_river(canvas: Picture) -> None:
    """Let a river with sandy banks and trees run on one side of the village."""
    phase, side = canvas.rng.uniform(0, 6), canvas.rng.choice((-1, 1))
    meander = 60 * np.sin(canvas.along / 260 + phase) + 22 * np.sin(canvas.along / 97)
    course = side * 0.36 * canvas.size + meander + 5 * canvas.noise(60)
    to_bank = np.abs(canvas.across - course) - 34 - 7 * canvas.noise(300)
    canvas.tree_density[to_bank < 60] = 0.45
    canvas.tree_density[to_bank < 10] = 0
    canvas.fill(to_bank < 60, GRASS, BANK)
    canvas.fill(to_bank < 7 + 6 * canvas.noise(90), SOIL, SAND)
    canvas.fill(to_bank < 0, WATER, RIVER)


def paint_gardens(canvas: Picture) -> Mask:
    """Lay out lawns and hedges in six rows of plots; return which are used, [plots, rows]."""
    rng = canvas.rng
    columns = 2 * (int(np.abs(canvas.along).max()) // PLOT_PX + 1)
    along = (np.arange(columns) + 0.5 - columns / 2) * PLOT_PX / (0.46 * canvas.size)
    across = (np.arange(6) - 2.5) * BLOCK_PX / 2 / (0.23 * canvas.size)
    village = along[:, None] ** 2 + across**2 + rng.normal(0, 0.13, (columns, 6)) < 1

    column = np.floor(canvas.along / PLOT_PX).astype(np.intp) + columns // 2
    line = np.floor(canvas.across / (BLOCK_PX / 2)).astype(np.intp) + 3
    inside = (line >= 0) & (line < 6)
    line = line.clip(0, 5)
    inside &= village[column, line]
    lawns = np.array([canvas.pick(LAWNS) for _ in range(village.size)])
    canvas.fill(inside, GRASS, LAWNS[0])
    canvas.color[:, inside] = lawns[(column * 6 + line)[inside]].T
    canvas.tree_density[inside] = 0.05

    side = np.abs(canvas.along % PLOT_PX - PLOT_PX / 2) > PLOT_PX / 2 - 4
    back = np.abs(canvas.across % BLOCK_PX - BLOCK_PX / 2) < 4
    hedged = (rng.random(village.shape) < 0.6)[column, line]
    canvas.fill(inside & hedged & (side | back), BRUSH, HEDGE, 1.8)
    return village


def paint_roads(canvas: Picture) -> None:
    """Draw the main road with its cars, the village streets, and the tracks they become."""
    reach = 0.46 * canvas.size
    across, along = np.abs(canvas.across), np.abs(canvas.along)
    parallel = np.abs(across - BLOCK_PX)
    crossing = np.abs((along + 2.5 * PLOT_PX) % (5 * PLOT_PX) - 2.5 * PLOT_PX)
    crossing[across > BLOCK_PX + 10] = np.inf
    street = np.where(along < reach, np.minimum(parallel, crossing), np.inf)
    track = np.minimum(parallel, np.where(across > BLOCK_PX, along, np.inf))
    canvas.tree_density[(track < 24) | (street < 24) | (across < 34)] = 0
    canvas.fill(track < 8 + canvas.noise(30), PERVIOUS, GRAVEL)
    canvas.fill((street < 18) | (across < 29), IMPERVIOUS, PAVING)
    canvas.fill((street < 13) | (across < 20), IMPERVIOUS, ASPHALT)
    canvas.fill((across < 1) & (canvas.along % 45 < 22), IMPERVIOUS, MARKING)
    spots = np.arange(-reach, reach, 32)
    for spot in canvas.rng.choice(spots, len(spots) // 4, replace=False):
        piece, _, _, car = canvas.box(canvas.place(spot, canvas.rng.choice((-10, 10))), 11, 5)
        piece.fill(car, IMPERVIOUS, canvas.pick(CARS), 1.4)


def build_houses(canvas: Picture, village: Mask) -> None:
    """Build on most plots of the village."""
    for column, line in np.argwhere(village & (canvas.rng.random(village.shape) < 0.93)):
        along = (column + 0.5 - len(village) / 2) * PLOT_PX + canvas.rng.uniform(-9, 9)
        street = (-1, -1, 0, 0, 1, 1)[line] * BLOCK_PX
        _build_house(canvas, along, street, 1 if line in (1, 3, 5) else -1)


def _build_house(canvas: Picture, along: float, street: float, away: int) -> None:
    """Put a house beside a street: drive, terrace, roof, and perhaps a pool, a wing and a shed.

    `away` is the direction across that leads from the street.
    """
    rng = canvas.rng
    depth = rng.uniform(66, 84)

    def lot(side: float, behind: float, turn: float = 0.0) -> Place:
        return canvas.place(along + side, street + away * (depth + behind), turn)

    label, color = (PERVIOUS, GRAVEL) if rng.random() < 0.4 else (IMPERVIOUS, PAVING)
    _pave(canvas, lot(22, 6 - depth / 2), 9, depth / 2, label, color)
    _pave(canvas, lot(-6, 24), 22, 16, IMPERVIOUS, PAVING)
    if rng.random() < 0.4:
        _pave(canvas, lot(-18, 62), 24, 15, IMPERVIOUS, PAVING)
        _pave(canvas, lot(-18, 62), 19, 10, POOL, BASIN)
    turn = rng.normal(0, 0.04) + (np.pi / 2 if rng.random() < 0.2 else 0)
    roof, eaves_m = canvas.pick(ROOFS), rng.uniform(2.6, 4.8)
    _raise_roof(canvas, lot(0, 0, turn), (rng.uniform(28, 41), rng.uniform(19, 24)), roof, eaves_m)
    if rng.random() < 0.35:
        wing = lot(rng.choice((-20, 20)), 18, turn + np.pi / 2)
        _raise_roof(canvas, wing, (26, 14), roof, eaves_m)
    shed = lot(rng.choice((-32, 32)), 66, turn)
    piece, _, _, mask = canvas.box(shed, 14, 11)
    if rng.random() < 0.45 and (piece.label[mask] == GRASS).all():
        _raise_roof(canvas, shed, (13, 10), canvas.pick(ROOFS), 2.2)


def _pave(
    canvas: Picture, place: Place, half_length: float, half_width: float, label: int, color: Color
) -> None:
    piece, _, _, mask = canvas.box(place, half_length, half_width)
    piece.fill(mask, label, color)


def _raise_roof(
    canvas: Picture, place: Place, half_size: tuple[float, float], color: Array, eaves_m: float
) -> None:
    """Build a gabled roof, highest along its length; a lower one does not hide a higher one."""
    half_length, half_width = half_size
    piece, u, v, mask = canvas.box(place, half_length, half_width)
    height_m = eaves_m + 0.6 * GSD_M * (half_width - np.abs(v))
    mask &= height_m > piece.height_m
    piece.fill(mask, BUILDING, color, height_m[mask])
    piece.color[:, mask] *= (1 + 0.05 * np.sin(2.1 * u))[mask]  # courses of tiles
    chimney = (np.abs(u - half_length / 2) < 3) & (np.abs(v - 4) < 3) & mask
    piece.fill(chimney, BUILDING, 0.8 * color, eaves_m + 0.6 * GSD_M * half_width + 1)


def build_greenhouses(canvas: Picture) -> None:
    """Set a row of greenhouses on farmland beyond the village, one per 6 hectares of picture."""
    rng = canvas.rng
    for _ in range(canvas.label.size // 1_500_000):
        along = rng.uniform(-0.45, 0.45) * canvas.size
        place = canvas.place(along, rng.choice((-1, 1)) * rng.uniform(560, 640))
        piece, u, v, mask = canvas.box(place, 130, 66)
        if not np.isin(piece.label[mask], (CROP, PLOWED, GRASS, VINEYARD)).all():
            continue
        y, x = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
        canvas.tree_density[np.hypot(y - place[0], x - place[1]) < 160] = 0
        piece.fill(mask, PERVIOUS, GRAVEL)
        position = v % 42
        arch = mask & (np.abs(u) < 122) & (position > 4) & (position < 38)
        curve_m = 3 + 1.6 * np.sqrt(1 - ((position[arch] - 21) / 17) ** 2)
        piece.fill(arch, GREENHOUSE, GLASS, curve_m)
        piece.color[:, arch & (u % 15 < 1.5)] *= np.float32(0.86)  # ribs


def plant_trees(canvas: Picture) -> None:
    """Grow crowns on a jittered lattice by the canvas's density, conifers in places."""
    rng, (height, width) = canvas.rng, canvas.shape
    plantable = (GRASS, BRUSH, CROP, PLOWED, SOIL, DECIDUOUS, CONIFER)
    conifers = canvas.noise(500) > 0.55
    for top in range(-10, height + 20, 21):
        for left in range(-10, width + 20, 21):
            row, col = top + rng.uniform(-8, 8), left + rng.uniform(-8, 8)
            pixel = min(max(int(row), 0), height - 1), min(max(int(col), 0), width - 1)
            if rng.random() < canvas.tree_density[pixel] and canvas.label[pixel] in plantable:
                _grow_crown(canvas, (row, col, rng.uniform(0, 6)), conifer=bool(conifers[pixel]))
    crowns = (canvas.label == DECIDUOUS) | (canvas.label == CONIFER)
    canvas.height_m *= np.where(crowns, 1 + np.float32(0.07) * canvas.noise(5), np.float32(1))


def _grow_crown(canvas: Picture, place: Place, *, conifer: bool) -> None:
    """Draw one crown: a lumpy dome, or a cone."""
    rng = canvas.rng
    radius = rng.uniform(10, 15) if conifer else rng.uniform(12, 23)
    piece, u, v = canvas.around(place, 1.3 * radius)
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
    piece.fill(mask, label, canvas.pick(colors), height_m[mask])


def expose(canvas: Picture) -> npt.NDArray[np.uint8]:
    """Return the five bands as a camera sees them: texture, sun, shadows and sensor noise."""
    height_m = canvas.height_m
    light = 1 + np.float32(0.05) * canvas.noise(160) + np.float32(0.03) * canvas.noise(24)
    light += np.float32(0.035) * canvas.noise(5)
    rise = height_m[:-1, :-1] - height_m[1:, 1:]  # towards the sun in the south-east
    light[:-1, :-1] += np.float32(0.27) * np.tanh(np.float32(1.3) * rise)
    dimming = np.array([0.5, 0.47, 0.4, 0.5], np.float32)  # skylight is blue
    shadow = cast_shadow(height_m)
    bands = np.empty((5, *canvas.shape), np.uint8)
    for band, (color, dim) in enumerate(zip(canvas.color, dimming, strict=True)):
        grain = canvas.rng.standard_normal(canvas.shape, np.float32)
        bands[band] = (color * light * (1 - dim * shadow) + 4 * grain).clip(0, 255)
    grain = canvas.rng.standard_normal(canvas.shape, np.float32)
    bands[4] = (COUNTS_PER_M * height_m + np.float32(0.6) * grain).clip(0, 255)
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
