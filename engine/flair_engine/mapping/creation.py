"""Creation options of the rasters of a run: those that a user may choose, and what for.

GDAL passes over a name that it does not know and a value that it cannot use, so both are refused
here, and what is left is tried on a small raster before the first pixel of an image is read.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from flair_engine.errors import OutputError, first_line
from flair_engine.gdal import GDAL_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WITHOUT_LOSS = ("NONE", "DEFLATE", "LZW", "ZSTD", "LZMA")
"""Compressions that give back each label as it was."""
BIGTIFF = ("YES", "IF_SAFER")
"""Of the others a map that outgrows 4 GiB could not be finished."""

GTIFF: Mapping[str, Sequence[str]] = {
    "COMPRESS": (*WITHOUT_LOSS, "PACKBITS"),
    "PREDICTOR": ("1", "2"),
    "ZLEVEL": tuple(map(str, range(1, 10))),
    "ZSTD_LEVEL": tuple(map(str, range(1, 23))),
    "LZMA_PRESET": tuple(map(str, range(10))),
    "BIGTIFF": BIGTIFF,
}
"""Values by name, of GeoTIFFs."""
COG: Mapping[str, Sequence[str]] = {
    "COMPRESS": WITHOUT_LOSS,
    "PREDICTOR": ("YES", "NO", "STANDARD"),
    "LEVEL": tuple(map(str, range(1, 23))),
    "BIGTIFF": BIGTIFF,
}
"""Values by name, of Cloud-Optimized GeoTIFFs."""
LEVEL_OF = {"ZLEVEL": "DEFLATE", "ZSTD_LEVEL": "ZSTD", "LZMA_PRESET": "LZMA"}
"""The compression that a level is of."""


def creation_options(co: Sequence[str], *, cog: bool) -> dict[str, str]:
    """Return `NAME=VALUE` options as rasterio takes them, over what maps are written with anyway.

    Raises OutputError for one that is none, that maps cannot have, or that this GDAL cannot write.
    """
    allowed, driver = (COG, "COG") if cog else (GTIFF, "GTiff")
    given: dict[str, str] = {}
    for option in co:
        name, mark, value = (part.strip().upper() for part in option.partition("="))
        if not (name and mark and value):
            raise OutputError(f"--co {option}: is not NAME=VALUE", "give e.g. COMPRESS=ZSTD")
        if name not in allowed:
            raise OutputError(
                f"--co {option}: {name} is fixed, or means nothing to a map written as {driver}",
                f"choose from {', '.join(allowed)}",
            )
        if value not in allowed[name]:
            raise OutputError(f"--co {option}: no map is written so", _values(name, allowed[name]))
        if name in given:
            raise OutputError(f"--co {option}: {name} is given twice", "give it once")
        given[name] = value
    compression = given.get("COMPRESS", "DEFLATE")
    for name, owner in LEVEL_OF.items():
        if name in given and owner != compression:
            raise OutputError(
                f"--co {name}: is of COMPRESS={owner}, the map is written with {compression}",
                "leave one of them out",
            )
    options = {name.lower(): value for name, value in given.items()}
    if options:
        _try(driver, {**options, "compress": compression}, compression)
    return options


def _values(name: str, values: Sequence[str]) -> str:
    if values[0].isdecimal():
        return f"{name} is a number from {values[0]} to {values[-1]}"
    return f"{name} is one of {', '.join(values)}"


def _try(driver: str, options: Mapping[str, str], compression: str) -> None:
    """Raise OutputError unless this GDAL writes a small raster with the options."""
    pixels_hw = (np.arange(64 * 64) % 19).astype(np.uint8).reshape(64, 64)
    try:
        with warnings.catch_warnings(), MemoryFile() as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with memory.open(
                driver=driver, dtype="uint8", count=1, height=64, width=64, **options
            ) as dataset:
                dataset.write(pixels_hw, 1)
            with memory.open() as dataset:
                written = dataset.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "NONE")
                same = (dataset.read(1) == pixels_hw).all()
    except GDAL_ERRORS as error:
        written, same = first_line(error), False
    if written != compression or not same:
        raise OutputError(
            f"--co: this GDAL does not write {compression} ({written})", "choose another COMPRESS"
        )
