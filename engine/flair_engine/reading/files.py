"""Raster files: how they are found and opened, and what they say of themselves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from flair_engine.errors import SourceError, first_line
from flair_engine.gdal import GDAL_ERRORS
from flair_engine.reading.vrt import Sources, sources_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

    from flair_engine.reading.vrt import Pasted

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".ecw", ".asc")
"""What is taken from a folder; a file given by name may be anything GDAL opens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """What a band of a file says of itself."""

    dtype: str
    kind: str
    """Colour interpretation: red, green, blue, gray, alpha, palette, undefined..."""
    description: str
    nodata: float | None
    scale: float
    offset: float
    """What is measured is value * scale + offset, in `unit`."""
    unit: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What a dataset says of itself."""

    name: str
    height: int
    width: int
    bands: tuple[Band, ...]
    crs: CRS | None
    transform: Affine
    block_px: tuple[int, int]
    masked: bool
    """A mask stands beside the bands (internal or .msk), other than nodata and alpha."""
    files: tuple[str, ...]
    """The files it is made of, those inside VRTs too."""
    pasted: tuple[Pasted, ...] | None
    """Where the sources of a VRT lie, None for any other file, and where that is not known."""
    gcps: bool
    """It is placed by ground control points alone."""

    @property
    def count(self) -> int:
        """Bands."""
        return len(self.bands)

    @property
    def alpha(self) -> int | None:
        """Number of the last band that is tagged alpha."""
        alphas = [number for number, band in enumerate(self.bands, 1) if band.kind == "alpha"]
        return alphas[-1] if alphas else None

    @property
    def placed(self) -> bool:
        """Whether it says where its pixels lie, if not in which CRS."""
        return not self.transform.is_identity


def open_dataset(name: str) -> DatasetReader:
    """Open a raster for one thread. Raises SourceError where GDAL cannot."""
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
            raise SourceError(
                f"{name}: GDAL cannot open it ({first_line(error)})", "give a raster"
            ) from error


def describe(name: str) -> FileInfo:
    """Open a raster once and return what it says of itself. Raises SourceError."""
    with open_dataset(name) as dataset:
        if dataset.count == 0 or dataset.height == 0 or dataset.width == 0:
            raise SourceError(f"{name}: holds no raster band", "give one of its subdatasets")
        plain = {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}
        sources = sources_of(dataset) if dataset.driver == "VRT" else Sources()
        return FileInfo(
            name=name,
            height=dataset.height,
            width=dataset.width,
            bands=_bands(dataset),
            crs=dataset.crs,
            transform=dataset.transform,
            block_px=dataset.block_shapes[0],
            masked=not plain & set(dataset.mask_flag_enums[0]),
            files=tuple(dict.fromkeys((*dataset.files, *sources.files))) or (name,),
            pasted=sources.pasted,
            gcps=dataset.transform.is_identity and bool(dataset.gcps[0]),
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
        if Path(name).is_dir():
            found = [str(p) for p in Path(name).iterdir() if p.suffix.lower() in SUFFIXES]
            wanted = f"a folder without rasters ({', '.join(SUFFIXES)})"
        elif any(sign in name for sign in "*?[") and not Path(name).exists():
            found = _matching(name)
            wanted = "a pattern that matches no file"
        else:
            found = [name]
            wanted = ""
        if not found:
            raise SourceError(f"{name}: is {wanted}", "check the path")
        files.update(dict.fromkeys(sorted(found)))
    return list(files)


def _matching(pattern: str) -> list[str]:
    """Return the files a pattern matches; brackets of a folder that is there are its name."""
    folder, _, last = pattern.rpartition("/")
    if folder and Path(folder).is_dir():
        return [f"{folder}/{name}" for name in glob(last, root_dir=folder)]  # noqa: PTH207
    return glob(pattern, recursive=True)  # noqa: PTH207  the pattern may be absolute


def describe_all(names: Sequence[str]) -> list[FileInfo]:
    """Describe the files that `names` stand for. Raises SourceError."""
    infos = []
    for name in expand(names):
        if "/vsi" not in name and ":" not in name and not Path(name).exists():
            raise SourceError(f"{printable(name)}: no such file", "check the path")
        infos.append(describe(name))
    return infos
