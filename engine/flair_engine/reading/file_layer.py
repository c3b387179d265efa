"""One file read in place: its pixels, which of them are valid, and what cannot be decoded."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.windows import Window as RasterioWindow

from flair_engine.errors import ReadError, SourceError, TooManyFilesError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.grid import Window, blocks, cut_at
from flair_engine.options import silent
from flair_engine.reading.files import no_file_left, open_dataset, too_many_files
from flair_engine.reading.layers import Pixels, SkippedBlock
from flair_engine.reading.metres import possible
from flair_engine.window_index import WindowIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rasterio.io import DatasetReader

    from flair_engine.options import OnError
    from flair_engine.reading.bands import BandChoice
    from flair_engine.reading.file_info import FileInfo

SMALLEST_BLOCK_PX = 16
"""Edge of the smallest tiles of a TIFF."""

UNREADABLE = (*GDAL_ERRORS, SourceError)
"""Whatever reading raises, opening a handle included."""


class FileLayer(AbstractContextManager["FileLayer"]):
    """Bands of one dataset at a place on a grid, read through a handle per thread.

    `on_error` says what happens to a block that cannot be decoded: `stop` raises ReadError, `skip`
    makes it invalid and notes it in `skipped`. `tell` is called once with what the user
    should know of the values.
    """

    def __init__(
        self,
        info: FileInfo,
        choice: BandChoice,
        *,
        top: int = 0,
        left: int = 0,
        on_error: OnError = "stop",
        tell: Callable[[str], None] = silent,
    ) -> None:
        self.name = info.name
        self.window = Window(top=top, left=left, height=info.height, width=info.width)
        self.count = len(choice.numbers)
        self.dtype: type[np.generic] = np.float32 if choice.metres else np.uint8
        self.block_px = info.block_px
        self.skipped: set[SkippedBlock] = set()
        known = [info.pasted[n - 1] for n in choice.numbers if n <= len(info.pasted)]
        self._pasted = [band for band in dict.fromkeys(known) if band is not None]
        """Where sources of a VRT lie, of bands that differ in it."""
        everything = [pasted for band in self._pasted for pasted in band]
        self._edges = WindowIndex([pasted.window for pasted in everything])
        self._virtual = bool(info.pasted)
        self._interleaved = info.interleaved
        self._fills = tuple(info.bands[number - 1].nodata for number in choice.numbers)
        self._unopened: dict[str, SourceError | None] = {}
        """By file of a VRT what is wrong with it, of those that were looked at."""
        self.choice = choice
        self._on_error = on_error
        self._tell = tell
        self._handles: dict[int, DatasetReader] = {}
        self._lock = threading.Lock()

    def read(self, part: Window, out_bhw: np.ndarray | None = None) -> Pixels:
        """Return the pixels of a window of the file itself; see Layer.

        Raises ReadError that names the file, the block and its pixels.
        """
        if out_bhw is None:
            out_bhw = np.empty((self.count, part.height, part.width), self.dtype)
        try:
            return Pixels(out_bhw, self._read(part, out_bhw))
        except UNREADABLE:
            # GDAL answers a second read through the handle that failed with zeros.
            self.close_mine()
            return self._read_by_block(part, out_bhw)

    def close(self) -> None:
        """Close the handles of every thread; reading opens new ones."""
        with self._lock:
            while self._handles:
                self._handles.popitem()[1].close()

    def close_mine(self) -> None:
        """Close the calling thread's handle; reading opens a new one."""
        with self._lock:
            handle = self._handles.pop(threading.get_ident(), None)
        if handle:
            handle.close()

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _dataset(self) -> DatasetReader:
        """Return the calling thread's own handle: GDAL datasets must not be shared."""
        thread = threading.get_ident()
        if thread not in self._handles:
            dataset = open_dataset(self.name)
            with self._lock:
                self._handles[thread] = dataset
        return self._handles[thread]

    def _read(self, part: Window, out_bhw: np.ndarray) -> np.ndarray | None:
        """Decode `part` into `out_bhw`; return where it is valid, None for everywhere."""
        self._check_openable(part)
        dataset, choice = self._dataset(), self.choice
        where = RasterioWindow(part.left, part.top, part.width, part.height)
        if choice.metres is None:
            raw_bhw = dataset.read(choice.numbers, window=where, out=out_bhw)
        else:
            raw_bhw = dataset.read(choice.numbers, window=where)
            out_bhw[...] = choice.metres.of(raw_bhw)
        invalid_hw = _any(self._invalid(dataset, raw_bhw, where, part))
        if choice.metres:
            impossible_hw = self._impossible(out_bhw, invalid_hw)
            invalid_hw = _any([found for found in (invalid_hw, impossible_hw) if found is not None])
            if invalid_hw is not None:
                out_bhw[:, invalid_hw] = 0
        return None if invalid_hw is None else ~invalid_hw

    def _check_openable(self, part: Window) -> None:
        """Raise SourceError for a file of a VRT that is not there: GDAL may read void for it."""
        met = [p for band in self._pasted for p in band if p.window.intersection(part).pixels]
        for file in dict.fromkeys(file for pasted in met for file in (pasted.file, *pasted.below)):
            if file not in self._unopened:
                try:
                    open_dataset(file).close()
                    self._unopened[file] = None
                except TooManyFilesError:
                    raise
                except SourceError as error:
                    self._unopened[file] = error
            if fault := self._unopened[file]:
                raise fault

    def _invalid(
        self, dataset: DatasetReader, raw_bhw: np.ndarray, where: RasterioWindow, part: Window
    ) -> Iterator[np.ndarray]:
        """Yield bool [h, w] that are True where something says that a pixel is not valid."""
        choice = self.choice
        values = [_as_stored(value, raw_bhw.dtype) for value in choice.nodata]
        if None not in values:
            yield all_equal([raw_bhw[place] for place in choice.judged], values)
        if choice.mask_band is not None:
            yield dataset.read(choice.mask_band, window=where) == 0
        if dataset.driver == "GTiff":
            for place in choice.judged[: 1 if self._interleaved else None]:
                number, fill = choice.numbers[place], self._fills[place]
                for block in unwritten(dataset, number, raw_bhw[place], fill, part, self.block_px):
                    unwritten_hw = np.zeros(raw_bhw.shape[1:], bool)
                    unwritten_hw[block.relative_to(part).slices] = True
                    yield unwritten_hw
        for band in self._pasted:
            void_hw = uncovered([pasted.window for pasted in band], part)
            if void_hw is not None:
                yield void_hw
        if choice.masked:
            judged = [choice.numbers[place] for place in choice.judged]
            yield all_equal(dataset.read_masks(judged, window=where), [0] * len(judged))

    def _impossible(self, metres_bhw: np.ndarray, invalid_hw: np.ndarray | None) -> np.ndarray:
        """Return bool [h, w], True where a height cannot be; tell of one that nothing declares."""
        impossible_hw: np.ndarray = ~possible(metres_bhw[0])
        told_hw = np.isfinite(metres_bhw[0]) & impossible_hw
        if invalid_hw is not None:
            told_hw &= ~invalid_hw
        if told_hw.any():
            self._tell(
                f"{self.name}: holds {metres_bhw[0][told_hw][0]:g} m, which no place on Earth has "
                "and no nodata value declares: counted as missing height"
            )
        return impossible_hw

    def _read_by_block(self, part: Window, out_bhw: np.ndarray) -> Pixels:
        """Read block by block what failed as a whole, a fresh handle after each failure."""
        valid_hw = np.zeros((part.height, part.width), bool)
        lost_hw = np.zeros_like(valid_hw)
        left = deque(self._pieces(part))
        while left:
            piece = left.popleft()
            rows, cols = piece.relative_to(part).slices
            try:
                valid = self._read(piece, out_bhw[:, rows, cols])
            except UNREADABLE as error:
                self.close_mine()
                if no_file_left(str(error.__cause__ or error)):
                    error = too_many_files(self.name)
                if self._on_error == "stop" or isinstance(error, TooManyFilesError):
                    raise self._unreadable(piece, error) from error
                if self._virtual and not isinstance(error, SourceError):
                    met = self._edges.windows_meeting(piece)
                    smaller = list(quarters(piece, met[0] if met else piece))
                    left.extendleft(smaller)
                    if smaller:
                        continue
                with self._lock:
                    self.skipped.add(self._block_of(piece))
                out_bhw[:, rows, cols] = 0
                lost_hw[rows, cols] = True
                continue
            valid_hw[rows, cols] = True if valid is None else valid
        return Pixels(out_bhw, valid_hw, lost_hw)

    def _block_of(self, piece: Window) -> SkippedBlock:
        (height, width), top, left = self.block_px, self.window.top, self.window.left
        return SkippedBlock(
            file=self.name,
            top=(piece.top - top) // height * height,
            left=(piece.left - left) // width * width,
        )

    def _pieces(self, part: Window) -> Iterator[Window]:
        """Yield the blocks of a window, those of a VRT cut where its sources begin and end."""
        for block in blocks(part, self.block_px):
            yield from cut_at(block, self._edges.windows_meeting(block))

    def _unreadable(self, block: Window, error: Exception) -> ReadError:
        if isinstance(error, TooManyFilesError):
            return ReadError(error.what, error.remedy)
        if isinstance(error, SourceError):
            named = error.what.startswith(self.name)
            return ReadError(
                error.what if named else f"{self.name}: {error.what}",
                "mend that and continue with --resume, or use --on-error skip",
            )
        if isinstance(error, MemoryError):
            return ReadError(
                f"{self.name}: memory ran out as it was read ({first_line(error)})",
                "use fewer --threads",
            )
        row, col = block.top // self.block_px[0], block.left // self.block_px[1]
        return ReadError(
            f"{self.name}: block ({row}, {col}), rows {block.top} to {block.bottom - 1}, "
            f"columns {block.left} to {block.right - 1}, cannot be decoded "
            f"({first_line(error)})",
            "fetch the file again, or use --on-error skip",
        )


def all_equal(bands_hw: Sequence[np.ndarray] | np.ndarray, values: Sequence[Any]) -> np.ndarray:
    """Return bool [h, w], True where every band is the value given for it, which may be nan."""
    first, *others = zip(bands_hw, values, strict=True)
    equal = _equal(*first)
    for band_hw, value in others:
        if not equal.any():
            break
        equal &= _equal(band_hw, value)
    return equal


def _equal(band_hw: np.ndarray, value: float) -> np.ndarray:
    """Return where a band is a value; of floats where GDAL takes them for equal (gdal_priv.h)."""
    if np.isnan(value):
        return np.asarray(np.isnan(band_hw))
    equal = np.asarray(band_hw == value)
    if band_hw.dtype.kind == "f" and np.isfinite(value):
        with np.errstate(over="ignore", invalid="ignore"):
            near = np.finfo(np.float32).eps * np.abs(band_hw + value) * 2
            equal |= np.abs(band_hw - value) < near
    return equal


def _as_stored(value: float | None, dtype: np.dtype) -> float | int | None:
    """Return a nodata value as a type holds it, None where it cannot occur.

    An integer for integers: comparing bytes with a float converts every pixel.
    """
    if value is None or dtype.kind not in "iu":
        return value if value is None else dtype.type(value).item()
    limits = np.iinfo(dtype)
    occurs = value % 1 == 0 and limits.min <= value <= limits.max
    return int(value) if occurs else None


def _any(found: Iterator[np.ndarray] | Sequence[np.ndarray]) -> np.ndarray | None:
    """Return where any of some bool [h, w] is True, None for nowhere."""
    some = [found_hw for found_hw in found if found_hw.any()]
    return np.logical_or.reduce(some) if some else None


def unwritten(
    dataset: DatasetReader,
    number: int,
    raw_hw: np.ndarray,
    fill: float | None,
    part: Window,
    block_px: tuple[int, int],
) -> Iterator[Window]:
    """Yield the blocks of a TIFF's band in `part`, cut at it, that were never written.

    Writing was cut off there, or what lies there was left out (SPARSE_OK); GDAL reads nodata,
    `fill`, or zeros. Only blocks whose first pixel is that are looked up.
    """
    tops, lefts = (
        np.arange(start - start % size, stop, size)
        for start, stop, size in (
            (part.top, part.bottom, block_px[0]),
            (part.left, part.right, block_px[1]),
        )
    )
    rows, cols = np.maximum(tops - part.top, 0), np.maximum(lefts - part.left, 0)
    for down, across in np.argwhere(_equal(raw_hw[rows[:, None], cols], fill or 0)):
        top, left = int(tops[down]), int(lefts[across])
        place = f"{left // block_px[1]}_{top // block_px[0]}"
        if dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=number) is None:
            whole = Window(top=top, left=left, height=block_px[0], width=block_px[1])
            yield whole.intersection(part)


def quarters(piece: Window, anchor: Window) -> Iterator[Window]:
    """Yield the quarters of a window, none of one that is as small as blocks come.

    A block of a VRT holds many blocks of its sources, one of which cannot be decoded. It is cut
    where blocks of a source that begins where `anchor` does may end.
    """
    middles = [
        _middle(piece.top, piece.bottom, anchor.top),
        _middle(piece.left, piece.right, anchor.left),
    ]
    edges = [
        [start, *([middle] if middle else []), stop]
        for start, middle, stop in zip(
            (piece.top, piece.left), middles, (piece.bottom, piece.right), strict=True
        )
    ]
    if len(edges[0]) == len(edges[1]) == 2:
        return
    for top, bottom in pairwise(edges[0]):
        for left, right in pairwise(edges[1]):
            yield Window(top=top, left=left, height=bottom - top, width=right - left)


def _middle(start: int, stop: int, anchor: int) -> int | None:
    """Return the edge of a block nearest the middle of a span, None where none lies within it."""
    step = SMALLEST_BLOCK_PX
    middle = anchor + round(((start + stop) / 2 - anchor) / step) * step
    inside = [edge for edge in (middle, middle - step, middle + step) if start < edge < stop]
    return inside[0] if inside else None


def uncovered(covered: Sequence[Window], part: Window) -> np.ndarray | None:
    """Return bool [h, w], True where none of some windows covers `part`; None for nowhere."""
    met = [common for window in covered if (common := window.intersection(part)).pixels]
    if any(common == part for common in met):
        return None
    uncovered_hw = np.ones((part.height, part.width), bool)
    for common in met:
        uncovered_hw[common.relative_to(part).slices] = False
    return uncovered_hw
