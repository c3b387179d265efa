"""Tiles an export is proven on: seeded noise, a synthetic scene and images of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flair_engine.agreement import noise_tiles
from flair_engine.grid import Window, cut, reflected
from flair_engine.manifest import tile_grid
from flair_export.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import EllipsisType

    import numpy as np
    from rasterio.io import DatasetReader

    from flair_engine.grid import Grid
    from flair_engine.manifest import ModelSpec

NOISE = "noise"
"""Name of the source whose labels have no right answer."""
PROVING_NOISE_TILES = 2
PROVING_SCENE_TILES = 4
PROVING_IMAGE_PIXELS = 200 * 512**2
"""Pixels of images compared, in whole tiles: 200 of 512 px, 12 of 2048 px."""
CALIBRATION_PIXELS = 2**25
"""Pixels measured, in whole tiles: 128 of 512 px, 8 of 2048 px, and as many to compare on."""
PROVING_SCENE_SEED = 20240917


@dataclass(frozen=True, slots=True)
class Tile:
    """One input of the network and the part of its answer that counts."""

    image: np.ndarray
    """uint8 [bands, T, T]."""
    height: int
    """Rows of the core that lie inside the raster."""
    width: int
    """Columns of the core that lie inside the raster."""
    path: Path | None = None
    """Of the image it was read from; None for what was made."""

    @property
    def inside(self) -> tuple[EllipsisType, slice, slice]:
        """Index of the pixels that lie inside the raster, in an answer [..., C, C]."""
        return ..., slice(self.height), slice(self.width)


@dataclass(frozen=True, slots=True)
class Source:
    """Tiles of one origin, made or read as they are asked for."""

    name: str
    note: str
    """How many tiles out of how many."""
    count: int
    tiles: Iterator[Tile]


def sources(spec: ModelSpec, images: Sequence[Path]) -> Iterator[Source]:
    """Yield noise, the synthetic scene and, where there are any, tiles of `images`."""
    yield Source(NOISE, f"{PROVING_NOISE_TILES} tiles", PROVING_NOISE_TILES, _noise(spec))
    yield _scene(spec)
    if images:
        yield image_source(spec, images)


def check_images(images: Sequence[Path], bands: Sequence[str]) -> None:
    """Raise ImageError unless every image opens, is uint8 and has the model's bands."""
    for path in images:
        with _opened(path) as image:
            if image.count != len(bands):
                raise ImageError(
                    f"{path}: has {image.count} bands",
                    f"give the {len(bands)} that the model reads ({', '.join(bands)})",
                )
            if set(image.dtypes) != {"uint8"}:
                raise ImageError(
                    f"{path}: is {', '.join(sorted(set(image.dtypes)))}, the model reads uint8",
                    "convert it with gdal_translate -ot Byte -scale",
                )


def evenly(total: int, limit: int) -> list[int]:
    """Return at most `limit` of the numbers 0..total-1, evenly spread."""
    if total <= limit:
        return list(range(total))
    return [index * total // limit for index in range(limit)]


def _noise(spec: ModelSpec) -> Iterator[Tile]:
    for image in noise_tiles(spec)[:PROVING_NOISE_TILES]:
        yield Tile(image, spec.core_px, spec.core_px)


def _scene(spec: ModelSpec) -> Source:
    from flair_export.synthetic.scene import synthetic_orthophoto

    edge = spec.tile_px
    grid = tile_grid(spec, Window(top=0, left=0, height=edge, width=edge))
    image = synthetic_orthophoto(edge, edge, PROVING_SCENE_SEED)[0][: len(spec.bands)]
    chosen = evenly(grid.rows * grid.cols, PROVING_SCENE_TILES)
    tiles = (
        Tile(cut(image, grid.tile(i, j)), grid.core(i, j).height, grid.core(i, j).width)
        for i, j in (divmod(number, grid.cols) for number in chosen)
    )
    note = f"{len(chosen)} of {grid.rows * grid.cols} tiles"
    return Source("synthetic scene", note, len(chosen), tiles)


def image_source(spec: ModelSpec, images: Sequence[Path]) -> Source:
    """Return at most PROVING_IMAGE_PIXELS in tiles spread evenly over `images`."""
    grids, total = _grids(spec, images)
    return _chosen(
        "images", images, grids, evenly(total, max(1, PROVING_IMAGE_PIXELS // spec.tile_px**2))
    )


def calibration(spec: ModelSpec, images: Sequence[Path]) -> tuple[Source, Source]:
    """Return tiles of `images` to measure ranges on, and others between them to compare on.

    Raises ImageError where there is but one tile.
    """
    grids, total = _grids(spec, images)
    chosen = evenly(total, 2 * max(1, CALIBRATION_PIXELS // spec.tile_px**2))
    if len(chosen) == 1:
        raise ImageError(
            f"{images[0]}: holds one tile of {spec.tile_px} px; calibration measures some tiles "
            "and compares labels on others",
            "give more or larger --calibrate images",
        )
    return (
        _chosen("calibration images", images, grids, chosen[::2]),
        _chosen("calibration images, other tiles", images, grids, chosen[1::2]),
    )


def _grids(spec: ModelSpec, images: Sequence[Path]) -> tuple[list[Grid], int]:
    """Return the grid of each image, and the number of tiles of all."""
    grids = []
    for path in images:
        with _opened(path) as image:
            grids.append(tile_grid(spec, image))
    return grids, sum(grid.rows * grid.cols for grid in grids)


def _chosen(
    name: str, images: Sequence[Path], grids: Sequence[Grid], chosen: Sequence[int]
) -> Source:
    total = sum(grid.rows * grid.cols for grid in grids)
    note = f"{len(chosen)} of {total} tiles of {len(images)} image{'s'[: len(images) != 1]}"
    return Source(name, note, len(chosen), _image_tiles(images, grids, chosen))


def _image_tiles(
    images: Sequence[Path], grids: Sequence[Grid], chosen: Sequence[int]
) -> Iterator[Tile]:
    """Read the tiles `chosen` by their number over all images.

    An image is open only while a tile is read: one left open by a generator that nobody finishes is
    closed by whatever thread collects it, and GDAL's environment of that thread goes with it.
    """
    first = 0
    for path, grid in zip(images, grids, strict=True):
        past = first + grid.rows * grid.cols
        for number in (number - first for number in chosen if first <= number < past):
            with _opened(path) as image:
                tile = _read_tile(image, grid, *divmod(number, grid.cols))
            yield tile
        first = past


def _read_tile(image: DatasetReader, grid: Grid, i: int, j: int) -> Tile:
    """Read one tile, reflected outside the raster; only the pixels it needs are decoded."""
    tile, core = grid.tile(i, j), grid.core(i, j)
    rows = reflected(tile.top, tile.bottom, grid.height)
    cols = reflected(tile.left, tile.right, grid.width)
    top, left = int(rows.min()), int(cols.min())
    window = ((top, int(rows.max()) + 1), (left, int(cols.max()) + 1))
    try:
        block = image.read(window=window)
    except OSError as error:  # RasterioIOError is one
        raise ImageError(
            f"{image.name}: rows {window[0]}, columns {window[1]} cannot be decoded ({error})",
            "give another image, or fetch this one again",
        ) from error
    pixels = block[:, (rows - top)[:, None], cols - left]
    return Tile(pixels, core.height, core.width, Path(image.name))


def _opened(path: Path) -> DatasetReader:
    import rasterio

    try:
        return rasterio.open(path)
    except OSError as error:  # RasterioIOError is one
        raise ImageError(
            f"{path}: cannot be opened as an image ({error})", "give a raster"
        ) from error
