"""Raster files: how they are found and opened, and what they say of themselves."""

from __future__ import annotations

import errno
import math
import os
import stat
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from flair_engine.errors import SourceError, TooManyFilesError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.grid import ceil_div
from flair_engine.reading.file_info import Band, FileInfo
from flair_engine.reading.handed_on import check_handed_on
from flair_engine.reading.vrt import Sources, sources_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader


LIMITS = (errno.EMFILE, errno.ENFILE)
"""Errors of the system that say nothing of the file: as many are open as may be."""

INDEXES = ("GTI", "STACIT", "STACTA")
"""Drivers that know files by an index."""

os.environ.setdefault("GDAL_PNG_WHOLE_IMAGE_OPTIM", "NO")
"""Else GDAL reads a PNG that is cut short without a word."""

MANY_FILES = 64
"""Files from which they are described by several threads."""
DESCRIBING = 8
"""Threads that describe files: more than CPUs, since most of the time drives are waited for."""
IN_A_ROW = 32
"""Files that a thread describes in a row."""

LISTING, LISTING_LIMIT = "GDAL_DISABLE_READDIR_ON_OPEN", "GDAL_READDIR_LIMIT_ON_OPEN"
LISTED_FILES = 1000
"""GDAL's limit of a folder that it lists (gdal.org, Configuration options)."""

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".ecw", ".asc")
"""What is taken from a folder; a file given by name may be anything GDAL opens."""


def open_dataset(name: str) -> DatasetReader:
    """Open a raster for one thread. Raises SourceError where GDAL cannot, or would wait."""
    if fault := _special(name):
        raise fault
    with warnings.catch_warnings():
        # A missing georeference is refused by name where it matters.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(name, sharing=False)
        except UnicodeEncodeError as error:
            raise SourceError(
                f"{printable(name)}: its name holds bytes that are not UTF-8", "rename it"
            ) from error
        except (*GDAL_ERRORS, ValueError, OverflowError) as error:
            raise _unopened(name, first_line(error)) from error


def no_file_left(said: str) -> bool:
    """Return whether no more files can be opened, by what GDAL has said or by trying."""
    return (
        any(os.strerror(limit) in said for limit in LIMITS) or _system_error(os.devnull) in LIMITS
    )


def too_many_files(name: str) -> TooManyFilesError:
    """Return the error of a raster that is one too many."""
    return TooManyFilesError(
        f"{name}: cannot be opened, too many files are open already",
        "raise ulimit -n, or use fewer --threads",
    )


def _special(name: str) -> SourceError | None:
    """Return what is wrong with a name of what is no file: a pipe is waited for."""
    if not name:
        return SourceError("an empty name stands for no file", "name one, or leave it out")
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116  names of thousands of files, some of none
    except (OSError, ValueError):  # of GDAL alone, or nothing: said when it is opened
        return None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # some formats are folders
        return None
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
    return SourceError(f"{printable(name)}: is {kind}, no file", "give a raster")


def _unopened(name: str, said: str) -> SourceError:
    """Return why a raster cannot be opened: what the system says of the file, else GDAL."""
    number = _system_error(name)
    if number in LIMITS or no_file_left(said):
        return too_many_files(name)
    if number in (errno.EACCES, errno.EPERM):
        return SourceError(f"{name}: may not be read by you", "ask for permission to read it")
    if number == errno.ENOENT and _lies_on_disk(name):
        return SourceError(f"{name}: no such file", "check the path")
    if number == errno.ENAMETOOLONG and _lies_on_disk(name):
        return SourceError(f"{name[:40]}...: its name is too long", "check the path")
    return SourceError(f"{name}: GDAL cannot open it ({said})", "give a raster")


def _lies_on_disk(name: str) -> bool:
    """Return whether a name is that of a file, rather than one that GDAL alone knows."""
    return "/vsi" not in name and ":" not in name and not name.lstrip().startswith("<")


def _system_error(name: str) -> int | None:
    """Return the number of the error that opening a file ends in, None for none."""
    try:
        with open(name, "rb"):  # noqa: PTH123  the name may be none of a path
            return None
    except OSError as error:
        return error.errno
    except ValueError:  # a null byte
        return None


def describe(name: str) -> FileInfo:
    """Open a raster once and return what it says of itself. Raises SourceError."""
    with open_dataset(name) as dataset:
        info = _described(name, dataset)
    check_handed_on(info, _source)
    return info


def _source(name: str) -> FileInfo | None:
    """Return what a source of a VRT says of itself, None of one that cannot be opened."""
    try:
        dataset = open_dataset(name)
    except TooManyFilesError:
        raise
    except SourceError:
        return None
    with dataset:
        info = _described(name, dataset)
        return replace(info, unwritten=dataset.driver == "GTiff" and _lacks_blocks(dataset))


def _lacks_blocks(dataset: DatasetReader) -> bool:
    rows, cols = (
        range(ceil_div(size, block))
        for size, block in zip(dataset.shape, dataset.block_shapes[0], strict=True)
    )
    bands = {1} if dataset.interleaving is Interleaving.pixel else {1, dataset.count}
    return any(
        dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is None
        for band in bands
        for row in rows
        for col in cols
    )


def _described(name: str, dataset: DatasetReader) -> FileInfo:
    if dataset.count == 0 or dataset.height == 0 or dataset.width == 0:
        raise SourceError(f"{name}: holds no raster band", "give one of its subdatasets")
    _check_geotransform(name, dataset.transform)
    _check_driver(name, dataset)
    flags = dataset.mask_flag_enums[0]
    masked = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    if not masked and os.path.exists(f"{name}.msk"):  # noqa: PTH110  GDAL's name
        raise SourceError(
            f"{name}.msk: cannot be read as the mask of {name}", "fetch it again, or delete it"
        )
    sources = _sources(name, dataset)
    return FileInfo(
        name=name,
        height=dataset.height,
        width=dataset.width,
        bands=_bands(dataset),
        crs=dataset.crs,
        transform=dataset.transform,
        block_px=dataset.block_shapes[0],
        masked=masked,
        files=tuple(dict.fromkeys((*dataset.files, *sources.files))) or (name,),
        pasted=sources.pasted,
        interleaved=dataset.interleaving is Interleaving.pixel,
        unwritten=False,
        gcps=dataset.transform.is_identity and bool(dataset.gcps[0]),
    )


def _sources(name: str, dataset: DatasetReader) -> Sources:
    if dataset.driver != "VRT":
        return Sources()
    try:
        return sources_of(dataset)
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: is not written in UTF-8", "save it so") from error


def _check_driver(name: str, dataset: DatasetReader) -> None:
    """Raise SourceError where GDAL would read zeros for what is not there."""
    if dataset.driver in INDEXES:
        raise SourceError(
            f"{name}: is an index of tiles ({dataset.driver}), where those that are missing read "
            "as zeros",
            "give the tiles: a folder or pattern",
        )
    if dataset.driver == "ENVI":
        pixels = dataset.height * dataset.width
        wanted = pixels * sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
        path = Path(name)
        if path.is_file() and path.stat().st_size < wanted:
            raise SourceError(
                f"{name}: has {path.stat().st_size:,} bytes, its header says {wanted:,}",
                "fetch it again",
            )


def _check_geotransform(name: str, geotransform: Affine) -> None:
    """Raise SourceError where pixels have no place, or all the same."""
    area = geotransform.determinant
    numbers = tuple(geotransform)[:6]
    if not all(map(math.isfinite, (*numbers, area))) or area == 0 or not math.isfinite(1 / area):
        raise SourceError(
            f"{name}: its geotransform ({', '.join(f'{number:g}' for number in numbers)}) puts no "
            "pixel anywhere",
            "assign the right one with gdal_edit.py -a_ullr",
        )


def _bands(dataset: DatasetReader) -> tuple[Band, ...]:
    return tuple(
        Band(
            dtype=dtype,
            kind=ColorInterp(kind).name,
            description=description or "",
            nodata=nodata,
            scale=scale,
            offset=offset,
            unit=unit or "",
        )
        for dtype, kind, description, nodata, scale, offset, unit in zip(
            dataset.dtypes,
            dataset.colorinterp,
            dataset.descriptions,
            dataset.nodatavals,
            dataset.scales,
            dataset.offsets,
            dataset.units,
            strict=True,
        )
    )


def printable(name: str) -> str:
    """Return a name whose bytes that are not UTF-8 are replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def expand(names: Sequence[str]) -> list[str]:
    """Return the files that names, folders and globs stand for, each once, in order of name.

    Raises SourceError for one that stands for nothing.
    """
    files: dict[str, None] = {}
    for name in names:
        if _is_folder(name):
            found = _in_folder(name)
            wanted = f"a folder without rasters ({', '.join(SUFFIXES)})"
        elif _lies_on_disk(name) and any(sign in name for sign in "*?[") and not _is_there(name):
            found = _matching(name)
            wanted = "a pattern that matches no file"
        else:
            found = [name]
            wanted = ""
        if not found:
            raise SourceError(f"{name}: is {wanted}", "check the path")
        files.update(dict.fromkeys(sorted(found)))
    return list(files)


def _in_folder(name: str) -> list[str]:
    try:
        # Hidden files are other systems' notes of a raster (._x.tif).
        return [
            str(path)
            for path in Path(name).iterdir()
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and not path.is_dir()
        ]
    except OSError as error:
        raise SourceError(
            f"{name}: the folder cannot be listed ({error.strerror})", "check its permissions"
        ) from error


def _is_folder(name: str) -> bool:
    return os.path.isdir(name)  # noqa: PTH112  False, too, for what no file can be called


def _is_there(name: str) -> bool:
    return os.path.exists(name)  # noqa: PTH110


def _matching(pattern: str) -> list[str]:
    """Return the files a pattern matches; brackets of a folder that is there are its name."""
    folder, last = os.path.split(pattern)
    if folder and Path(folder).is_dir():
        found = glob(last, root_dir=folder)  # noqa: PTH207
        return [os.path.join(folder, name) for name in found]  # noqa: PTH118  as it is spelt
    return glob(pattern, recursive=True)  # noqa: PTH207  the pattern may be absolute


def describe_all(names: Sequence[str]) -> list[FileInfo]:
    """Describe the files that `names` stand for. Raises SourceError for the first that is wrong."""
    found = expand(names)
    if len(found) < MANY_FILES:
        return [_describe_there(name) for name in found]
    known: dict[str, CRS] = {}
    describe_some = partial(_describe_some, options=_without_listing(found), known=known)
    some = [found[start : start + IN_A_ROW] for start in range(0, len(found), IN_A_ROW)]
    # GDAL lets go of the interpreter while it opens a file, and drives are waited for.
    with ThreadPoolExecutor(DESCRIBING, thread_name_prefix="describe") as pool:
        try:
            return [info for infos in pool.map(describe_some, some) for info in infos]
        finally:
            pool.shutdown(cancel_futures=True)


def _describe_some(
    names: Sequence[str], options: Mapping[str, str], known: dict[str, CRS]
) -> list[FileInfo]:
    """Describe files with options of GDAL; those whose CRS is the same share one object."""
    # Setting GDAL up takes as long as opening a small file: once for all of them.
    with rasterio.Env.from_defaults(**options):
        infos = [_describe_there(name) for name in names]
        return [
            replace(info, crs=known.setdefault(info.crs.to_wkt(), info.crs)) if info.crs else info
            for info in infos
        ]


def _without_listing(names: Sequence[str]) -> dict[str, str]:
    """Return GDAL's option not to list the folder of each file, where it makes no difference.

    GDAL lists a folder to know what lies beside a file, and where it is larger than some limit
    lets go of that and looks for each sidecar by its name; so it does at once with this option.
    """
    folders = Counter(map(os.path.dirname, names))
    chosen = os.environ.keys() & {LISTING, LISTING_LIMIT}
    if chosen or min(folders.values()) <= LISTED_FILES:
        return {}
    return {LISTING: "TRUE"}


def _describe_there(name: str) -> FileInfo:
    if name and _lies_on_disk(name) and not _is_there(name):
        raise _unopened(printable(name), "no such file")
    return describe(name)
