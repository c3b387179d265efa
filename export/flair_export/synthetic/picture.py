"""Picture that a synthetic scene is painted on: colour, height and label, in a road frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Color = tuple[int, int, int, int]
"""Red, green, blue, near infrared, 0..255."""
Place = tuple[float, float, float]
"""Row, column and direction in radians."""


class Surface:
    """A piece of the picture: colour [4, H, W], height in metres [H, W] and label [H, W]."""

    def __init__(self, color: Array, height_m: Array, label: npt.NDArray[np.uint8]) -> None:
        self.color = color
        self.height_m = height_m
        self.label = label

    def fill(
        self, mask: Mask, label: int, color: npt.ArrayLike, height_m: npt.ArrayLike = 0.0
    ) -> None:
        """Paint the pixels of `mask`; `height_m` is one height, or one for each of them."""
        self.color[:, mask] = np.asarray(color, np.float32)[:, None]
        self.height_m[mask] = height_m
        self.label[mask] = label


class Picture(Surface):
    """The whole picture, the frame things are placed in, and where trees may grow.

    Every pixel starts with the label `ground`.
    """

    def __init__(self, height: int, width: int, seed: int, ground: int) -> None:
        super().__init__(
            np.zeros((4, height, width), np.float32),
            np.zeros((height, width), np.float32),
            np.full((height, width), ground, np.uint8),
        )
        self.tree_density = np.zeros((height, width), np.float32)
        """Chance of a tree on each spot of a 4 m lattice, 0..1."""
        self.rng = np.random.default_rng(seed)
        self.shape = (height, width)
        self.size = max(min(self.shape), 520)
        """Extent the layout is scaled by; a smaller picture shows the middle of one this large."""
        self.angle = float(self.rng.uniform(-0.45, 0.45))
        self.phase = float(self.rng.uniform(0, 2 * np.pi))
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x -= width / 2
        y -= height / 2
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        self.along: Array = x * cos + y * sin
        self.across: Array = y * cos - x * sin - self.road(self.along)

    def road(self, along: npt.ArrayLike) -> Array:
        """Return where the bending main road lies beside a straight line through the middle."""
        bends: Array = 50 + 70 * np.sin(np.asarray(along, np.float32) / 420 + self.phase)
        return bends

    def place(self, along: float, across: float, turn: float = 0.0) -> Place:
        """Return a point of the road frame in the picture, and the road's direction plus `turn`."""
        straight = across + float(self.road(along))
        slope = float(self.road(along + 1) - self.road(along))
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        row = along * sin + straight * cos + self.shape[0] / 2
        col = along * cos - straight * sin + self.shape[1] / 2
        return float(row), float(col), self.angle + float(np.arctan(slope)) + turn

    def around(self, place: Place, radius_px: float) -> tuple[Surface, Array, Array]:
        """Return the piece within `radius_px` of a place and its pixels' offsets from it.

        The piece is a view, empty where the place lies far outside. Offsets are in pixels, along
        and across the place's direction.
        """
        row, col, angle = place
        reach = int(radius_px) + 2
        top, left = max(0, int(row) - reach), max(0, int(col) - reach)
        rows = slice(top, max(top, int(row) + reach))
        cols = slice(left, max(left, int(col) + reach))
        color, height_m, label = self.color[:, rows, cols], self.height_m[rows, cols], self.label
        piece = Surface(color, height_m, label[rows, cols])
        y, x = np.mgrid[: height_m.shape[0], : height_m.shape[1]].astype(np.float32)
        y += top - row
        x += left - col
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return piece, x * cos + y * sin, y * cos - x * sin

    def box(
        self, place: Place, half_length: float, half_width: float
    ) -> tuple[Surface, Array, Array, Mask]:
        """Return the piece round a rectangle, its pixels' offsets, and which lie within."""
        piece, u, v = self.around(place, float(np.hypot(half_length, half_width)))
        return piece, u, v, (np.abs(u) <= half_length) & (np.abs(v) <= half_width)

    def noise(self, cell_px: int) -> Array:
        """Return noise of mean 0 and about unit size that varies smoothly over `cell_px`."""
        shape = self.shape[0] // cell_px + 2, self.shape[1] // cell_px + 2
        lattice: Array = self.rng.standard_normal(shape, np.float32)
        for axis, length in enumerate(self.shape):
            position = np.arange(length, dtype=np.float32) / cell_px
            index = position.astype(np.intp)
            part = (position - index).astype(np.float32)
            part = part * part * (3 - 2 * part)
            before, after = lattice.take(index, axis), lattice.take(index + 1, axis)
            lattice = before + (after - before) * (part if axis else part[:, None])
        return lattice

    def pick(self, choices: tuple[Color, ...]) -> Array:
        """Return one of the colours, slightly varied."""
        color: Array = np.array(choices[self.rng.integers(len(choices))], np.float32)
        color *= self.rng.uniform(0.93, 1.07)
        return color
