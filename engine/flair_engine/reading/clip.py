"""Pixels that a box or shapes cover: those whose centres lie inside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.features import rasterize

from flair_engine.grid import Window, blocks
from flair_engine.reading.area import reaching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flair_engine.grid import Cores
    from flair_engine.reading.pixel_grid import PixelGrid

LOOKED_AT_PX = (512, 4096)
"""Height and width of what `covers` looks at at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """Pixels of a raster whose centres lie in a box or in shapes.

    Of points and lines, those they lie on; as `rasterio.features.geometry_mask` has it.
    """

    window: Window
    """Around all of them."""
    shapes: Sequence[Any] | None
    """In the raster's CRS; None where they are the whole window."""
    pixel_grid: PixelGrid

    @property
    def digest(self) -> str:
        """What changes with the pixels."""
        found = hashlib.sha256(repr(self.window).encode())
        for shape in self.shapes or ():
            found.update(shape.wkb if hasattr(shape, "wkb") else repr(shape).encode())
        return found.hexdigest()

    def meeting(self, area: Cores) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, bool [rows], and columns of `area` whose cores meet the window."""
        size, window = area.grid.core_px, self.window
        rows, cols = np.array(area.rows) * size, np.array(area.cols) * size
        in_rows = (rows < window.bottom) & (rows + size > window.top)
        in_cols = (cols < window.right) & (cols + size > window.left)
        return in_rows, in_cols

    def inside(self, window: Window) -> np.ndarray:
        """Return bool [h, w] of the pixels of a window of the raster."""
        inside_hw = np.zeros((window.height, window.width), bool)
        common = window.intersection(self.window)
        if common.pixels:
            here = common.relative_to(window).slices
            inside_hw[here] = True if self.shapes is None else self._burnt(common)
        return inside_hw

    def _burnt(self, window: Window) -> np.ndarray:
        assert self.shapes is not None
        here = self.pixel_grid.of(window)
        near = reaching(self.shapes, here)
        if not len(near):
            return np.zeros((here.height, here.width), bool)
        shape_hw = (here.height, here.width)
        burnt = rasterize(near, out_shape=shape_hw, transform=here.transform, dtype="uint8")
        return np.asarray(burnt, bool)

    def covers(self, window: Window) -> bool:
        """Return whether a pixel of a window of the raster is one of them."""
        common = window.intersection(self.window)
        if self.shapes is None:
            return common.pixels > 0
        return any(self.inside(part).any() for part in blocks(common, LOOKED_AT_PX))

    def cut(self, window: Window, outputs: Mapping[str, np.ndarray]) -> None:
        """Put 0 at all other pixels of a window, in uint8 [bands, h, w] by name."""
        inside_hw = self.inside(window)
        if not inside_hw.all():
            for pixels_bhw in outputs.values():
                pixels_bhw *= inside_hw


def clip_to(shapes: Sequence[Any], pixel_grid: PixelGrid) -> Clip:
    """Return the pixels that shapes cover, as `area.area_shapes` gives them: a box, or shapely's.

    The edges of a box on a raster that does not lie askew are moved to the nearest edges of
    pixels, which are those of the pixels whose centres it holds.
    """
    whole = Window(top=0, left=0, height=pixel_grid.height, width=pixel_grid.width)
    upright = not (pixel_grid.transform.b or pixel_grid.transform.d)
    is_box = len(shapes) == 1 and isinstance(shapes[0], dict)
    around = _box_window(shapes[0], pixel_grid) if is_box else _shapes_window(shapes, pixel_grid)
    return Clip(
        window=around.intersection(whole),
        shapes=None if is_box and upright else shapes,
        pixel_grid=pixel_grid,
    )


def _box_window(box: Mapping[str, Any], pixel_grid: PixelGrid) -> Window:
    """Return the window of the pixels whose centres lie between the edges of a box.

    A centre on an edge lies beyond the left and the top one, so that boxes side by side share none.
    """
    pixels = _in_pixels(np.array(box["coordinates"][0]), pixel_grid)
    left, top, right, bottom = np.floor(np.concatenate([pixels.min(0), pixels.max(0)]) + 0.5)
    return _window(top, left, bottom, right)


def _shapes_window(shapes: Sequence[Any], pixel_grid: PixelGrid) -> Window:
    """Return a window around all pixels of the raster that shapes may cover."""
    import shapely

    if not len(shapes):
        return _window(0, 0, 0, 0)
    several = shapely.transform(np.array(shapes, object), lambda xy: _in_pixels(xy, pixel_grid))
    width, height = pixel_grid.width, pixel_grid.height
    near = shapely.clip_by_rect(several, -1, -1, width + 1, height + 1)
    left, top, right, bottom = shapely.bounds(near).T  # no numbers where nothing is near
    # Of areas the centres count, of lines and points the pixels they lie on.
    areal = shapely.get_dimensions(several) == 2
    half = np.where(areal, 0.5, 0.0)
    first = [np.where(areal, np.ceil(v - 0.5), np.floor(v)) for v in (top, left)]
    past = [np.floor(v - half) + 1 for v in (bottom, right)]
    tops, lefts = (np.maximum(v, 0) for v in first)
    bottoms, rights = np.minimum(past[0], height), np.minimum(past[1], width)
    there = (tops < bottoms) & (lefts < rights)
    if not there.any():
        return _window(0, 0, 0, 0)
    tops, lefts = tops[there].min(), lefts[there].min()
    return _window(tops, lefts, bottoms[there].max(), rights[there].max())


def _in_pixels(xy: np.ndarray, pixel_grid: PixelGrid) -> np.ndarray:
    """Return columns and rows [n, 2], fractions of pixels, of coordinates [n, 2]."""
    return np.column_stack(~pixel_grid.transform @ (xy[:, 0], xy[:, 1]))


def _window(top: float, left: float, bottom: float, right: float) -> Window:
    return Window(
        top=int(top),
        left=int(left),
        height=max(0, int(bottom) - int(top)),
        width=max(0, int(right) - int(left)),
    )
