"""Raster files: how they are found and opened, which pixels are valid, how windows are read."""

from __future__ import annotations

import threading
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import ReadError, SourceError, first_line
from flair_engine.grid import Window, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

    from flair_engine.options import Nodata, OnError
    from flair_engine.reading.layers import Pixels

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".ecw")
"""What is taken from a folder; a file given by name may be anything GDAL opens."""

Opener: TypeAlias = "Callable[[], DatasetReader]"
"""Opens a dataset; called once per thread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What a dataset says of itself."""

    name: str
    height: int
    width: int
    count: int
    dtypes: tuple[str, ...]
    crs: CRS | None
    transform: Affine
    block_px: tuple[int, int]
    nodata: float | None
    alpha: int | None
    """Number of the band that is tagged alpha."""
    masked: bool
    """A mask stands beside the bands (internal or .msk), other than nodata and alpha."""
    files: tuple[str, ...]
    """The files it is made of, for a VRT its sources."""


def open_dataset(name: str) -> DatasetReader:
    """Open a raster for one thread. Raises SourceError where GDAL cannot."""
    with warnings.catch_warnings():
        # A missing georeference is refused by name where it matters.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(name, sharing=False)
        except (RasterioError, ValueError, OverflowError, MemoryError) as error:
            raise SourceError(
                f"{short(name)}: GDAL cannot open it ({first_line(error)})", "give a raster"
            ) from error


def describe(name: str, opener: Opener | None = None) -> FileInfo:
    """Open a raster once and return what it says of itself. Raises SourceError."""
    with opener() if opener else open_dataset(name) as dataset:
        if dataset.count == 0 or dataset.height == 0 or dataset.width == 0:
            raise SourceError(f"{short(name)}: holds no raster band", "give one of its subdatasets")
        alphas = [n for n, kind in enumerate(dataset.colorinterp, 1) if kind is ColorInterp.alpha]
        flags = dataset.mask_flag_enums[0]
        plain = {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}
        return FileInfo(
            name=name,
            height=dataset.height,
            width=dataset.width,
            count=dataset.count,
            dtypes=tuple(dataset.dtypes),
            crs=dataset.crs,
            transform=dataset.transform,
            block_px=dataset.block_shapes[0],
            nodata=dataset.nodata,
            alpha=alphas[-1] if alphas else None,
            masked=not plain & set(flags),
            files=tuple(dataset.files),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BandChoice:
    """Which bands of a file are read and what makes a pixel of them invalid."""

    numbers: tuple[int, ...]
    """Band numbers, from 1, in the order they are delivered."""
    validity_bands: int
    """How many of them, from the first, must all equal nodata for a pixel to be invalid. A height
    of 0 beside them says nothing."""
    nodata: float | None
    mask_band: int | None
    """Number of a band that is 0 where invalid: an alpha band that is not among `numbers`."""
    masked: bool
    """Whether the dataset's own mask is asked."""


def choose_bands(
    info: FileInfo,
    numbers: Sequence[int],
    *,
    validity_bands: int | None = None,
    nodata: Nodata = None,
) -> BandChoice:
    """Decide how the validity of the chosen bands is known.

    A band tagged alpha is a mask only where it is not itself asked for: real files tag red or
    infrared so. Raises SourceError for a band that is not there.
    """
    if outside := [n for n in numbers if not 1 <= n <= info.count]:
        raise SourceError(
            f"{short(info.name)}: band {outside[0]} was asked for but the file has {info.count}",
            f"choose from 1 to {info.count}",
        )
    value = info.nodata if nodata is None else None if nodata == "none" else float(nodata)
    return BandChoice(
        numbers=tuple(numbers),
        validity_bands=validity_bands or len(numbers),
        nodata=value,
        mask_band=info.alpha if info.alpha not in numbers else None,
        masked=info.masked,
    )


class FileLayer(AbstractContextManager["FileLayer"]):
    """Bands of one dataset at a place on the raster's grid, read through a handle per thread.

    `on_error` says what happens to a block that cannot be decoded: `stop` raises ReadError,
    `skip` makes it invalid and counts it in `skipped_blocks`.
    """

    def __init__(
        self,
        info: FileInfo,
        choice: BandChoice,
        *,
        top: int = 0,
        left: int = 0,
        on_error: OnError = "stop",
        opener: Opener | None = None,
    ) -> None:
        self.name = info.name
        self.window = Window(top=top, left=left, height=info.height, width=info.width)
        self.count = len(choice.numbers)
        self.block_px = info.block_px
        self.skipped_blocks = 0
        self._choice = choice
        self._on_error = on_error
        self._open = opener or (lambda: open_dataset(info.name))
        self._handles: dict[int, DatasetReader] = {}
        self._lock = threading.Lock()

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return uint8 [bands, h, w] and bool [h, w] or None of a window of the file itself.

        Raises ReadError that names the file, the block and its pixels.
        """
        if out_bhw is None:
            out_bhw = np.empty((self.count, part.height, part.width), np.uint8)
        try:
            return out_bhw, self._read(part, out_bhw)
        except (RasterioError, MemoryError):
            return out_bhw, self._read_by_block(part, out_bhw)

    def close(self) -> None:
        """Close the handles of every thread; reading opens new ones."""
        with self._lock:
            while self._handles:
                self._handles.popitem()[1].close()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _dataset(self) -> DatasetReader:
        """Return the calling thread's own handle: GDAL datasets must not be shared."""
        thread = threading.get_ident()
        if thread not in self._handles:
            dataset = self._open()
            with self._lock:
                self._handles[thread] = dataset
        return self._handles[thread]

    def _read(self, part: Window, out_bhw: np.ndarray) -> np.ndarray | None:
        """Decode `part` into `out_bhw`; return where it is valid, None for everywhere."""
        dataset, choice = self._dataset(), self._choice
        where = RasterioWindow(part.left, part.top, part.width, part.height)
        dataset.read(choice.numbers, window=where, out=out_bhw)
        invalid = []
        if choice.nodata is not None and 0 <= choice.nodata <= 255 and choice.nodata % 1 == 0:
            # An integer: comparing bytes with a float converts every pixel.
            invalid.append(all_equal(out_bhw[: choice.validity_bands], int(choice.nodata)))
        if choice.mask_band is not None:
            invalid.append(dataset.read(choice.mask_band, window=where) == 0)
        if choice.masked:
            masks = dataset.read_masks(choice.numbers[: choice.validity_bands], window=where)
            invalid.append(all_equal(masks, 0))
        invalid = [found for found in invalid if found.any()]
        return ~np.logical_or.reduce(invalid) if invalid else None

    def _read_by_block(self, part: Window, out_bhw: np.ndarray) -> np.ndarray:
        valid_hw = np.zeros((part.height, part.width), bool)
        for block in blocks(part, self.block_px):
            rows, cols = block.relative_to(part).slices
            try:
                valid = self._read(block, out_bhw[:, rows, cols])
            except (RasterioError, MemoryError) as error:
                if self._on_error == "stop":
                    raise self._unreadable(block, error) from error
                with self._lock:
                    self.skipped_blocks += 1
                out_bhw[:, rows, cols] = 0
                continue
            valid_hw[rows, cols] = True if valid is None else valid
        return valid_hw

    def _unreadable(self, block: Window, error: Exception) -> ReadError:
        row, col = block.top // self.block_px[0], block.left // self.block_px[1]
        return ReadError(
            f"{short(self.name)}: block ({row}, {col}), rows {block.top} to {block.bottom - 1}, "
            f"columns {block.left} to {block.right - 1}, cannot be decoded "
            f"({first_line(error)})",
            "fetch the file again, or use --on-error skip",
        )


def all_equal(image_bhw: np.ndarray, value: int) -> np.ndarray:
    """Return bool [h, w], True where every band of uint8 [bands, h, w] is `value`."""
    equal: np.ndarray = image_bhw[0] == value
    for band_hw in image_bhw[1:]:
        if not equal.any():
            break
        equal &= band_hw == value
    return equal


def short(name: str) -> str:
    """Return a dataset's name for messages: a VRT made in memory has its whole text as name."""
    return "joined files" if name.lstrip().startswith("<") else name


def expand(names: Sequence[str]) -> list[str]:
    """Return the files that names, folders and globs stand for, each once, in order of name.

    Raises SourceError for one that stands for nothing.
    """
    files: dict[str, None] = {}
    for name in names:
        if Path(name).is_dir():
            found = [str(p) for p in Path(name).iterdir() if p.suffix.lower() in SUFFIXES]
            wanted = f"a folder without rasters ({', '.join(SUFFIXES)})"
        elif any(sign in name for sign in "*?[") and not Path(name).exists():
            found = glob(name, recursive=True)  # noqa: PTH207  the pattern may be absolute
            wanted = "a pattern that matches no file"
        else:
            found = [name]
            wanted = ""
        if not found:
            raise SourceError(f"{name}: is {wanted}", "check the path")
        files.update(dict.fromkeys(sorted(found)))
    return list(files)


def describe_all(names: Sequence[str]) -> list[FileInfo]:
    """Describe the files that `names` stand for. Raises SourceError."""
    infos = []
    for name in expand(names):
        if not Path(name).exists() and "/vsi" not in name and ":" not in name:
            raise SourceError(f"{name}: no such file", "check the path")
        infos.append(describe(name))
    return infos
