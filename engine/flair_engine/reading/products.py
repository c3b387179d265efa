"""Products that a user gives: which bands of the model each supplies, and from which of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_engine.errors import SourceError
from flair_engine.manifest import ELEVATION
from flair_engine.options import ReadOptions
from flair_engine.reading.bands import (
    Chosen,
    choose_bands,
    name_of,
    numbers_by_name,
)
from flair_engine.reading.files import describe_all
from flair_engine.reading.metres import counts_to_metres, holds_counts, to_metres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.manifest import ModelSpec
    from flair_engine.options import Inputs
    from flair_engine.reading.file_info import FileInfo

SUPPLIES = {"rvb": ("red", "green", "blue"), "irc": ("nir",), "ndsm": (ELEVATION,)}
"""Bands that products supply whose own bands are known: of IRC (near infrared, red, green) one."""

EXPAND = "expand it with gdal_translate -expand rgb"

IMAGES = ("images", "rvb", "irc")
"""Products of 8-bit radiometry, which must be sampled as the model was trained."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """The files of one product, and what is read of each."""

    name: str
    bands: tuple[str, ...]
    """Bands of the model that it supplies, in their order."""
    files: list[Chosen]

    @property
    def infos(self) -> list[FileInfo]:
        """What the files say of themselves."""
        return [file.info for file in self.files]


def given_products(
    spec: ModelSpec, inputs: Inputs, options: ReadOptions, *, counts: bool | None = None
) -> list[Given]:
    """Describe and check what is given; the leading product, which gives the grid, comes first.

    `counts` says whether an nDSM is read as counts, where not all of its files are given. Raises
    SourceError with the one thing to mend first.
    """
    products = []
    for name, bands in _supplied_by(spec, inputs, options).items():
        infos = describe_all(inputs.given[name])
        files = [
            Chosen(info, choose_bands(info, numbers, options, judged=_judged(bands)))
            for info in infos
            for numbers in [_image_bands(name, info, bands, options)]
        ]
        products.append(Given(name=name, bands=bands, files=files))
    for name in ("ndsm", "dsm", "dtm"):
        if name in inputs.given:
            infos = describe_all(inputs.given[name])
            files = _height_files(name, infos, counts)
            products.append(Given(name=name, bands=(ELEVATION,), files=files))
    return products


def place_of(spec: ModelSpec, bands: Sequence[str]) -> slice:
    """Return where bands stand in the model's. Raises SourceError where they stand apart."""
    start = spec.bands.index(bands[0])
    place = slice(start, start + len(bands))
    if spec.bands[place] != tuple(bands):
        raise SourceError(
            f"{', '.join(bands)} do not follow one another in {spec.name} "
            f"({', '.join(spec.bands)})",
            "give one raster that holds all bands",
        )
    return place


def _supplied_by(
    spec: ModelSpec, inputs: Inputs, options: ReadOptions
) -> dict[str, tuple[str, ...]]:
    """Return the image products given, and the model's bands that each supplies."""
    _check_together(inputs, options)
    supplied = [band for name in SUPPLIES if name in inputs.given for band in SUPPLIES[name]]
    if inputs.dsm:
        supplied.append(ELEVATION)
    if useless := [band for band in supplied if band not in spec.bands]:
        raise SourceError(
            f"{useless[0]} is given, but {spec.name} reads {', '.join(spec.bands)}", "leave it out"
        )
    missing = tuple(band for band in spec.bands if band not in supplied)
    if inputs.images:
        if options.bands and len(options.bands) != len(missing):
            raise SourceError(
                f"{len(options.bands)} band numbers given, the model wants {len(missing)} of the "
                f"images ({', '.join(missing)})",
                "name one for each",
            )
        return {"images": missing}
    if missing:
        option = {"nir": "--irc", ELEVATION: "--ndsm, or --dsm and --dtm"}.get(missing[0], "--rvb")
        raise SourceError(f"{spec.name} needs {missing[0]}, which is not given", f"add {option}")
    return {name: SUPPLIES[name] for name in ("rvb", "irc") if name in inputs.given}


def _check_together(inputs: Inputs, options: ReadOptions) -> None:
    """Raise SourceError where products or options are given that do not go together."""
    if options.gsd_m is not None and not 0 < options.gsd_m < math.inf:
        raise SourceError(f"--gsd {options.gsd_m:g} is no size of a pixel", "give metres, e.g. 0.2")
    if isinstance(options.nodata, (int, float)) and not (
        0 <= options.nodata <= 255 and options.nodata % 1 == 0
    ):
        raise SourceError(
            f"--nodata {options.nodata:g} cannot occur in images of 8 bits",
            "give a whole number from 0 to 255, or none",
        )
    if inputs.images and (inputs.rvb or inputs.irc):
        raise SourceError("images given both by INPUT and by --rvb/--irc", "use one of the two")
    if not inputs.images and not inputs.rvb:
        raise SourceError("no image given", "name files as INPUT, or with --rvb and --irc")
    if bool(inputs.dsm) != bool(inputs.dtm):
        raise SourceError(
            "height needs both --dsm and --dtm, one was given", "give the other, in metres"
        )
    if inputs.ndsm and inputs.dsm:
        raise SourceError("height given both by --ndsm and by --dsm/--dtm", "use one of the two")
    if inputs.rvb and options.bands:
        raise SourceError(
            "--bands is for INPUT, RVB and IRC have theirs in known order", "leave it out"
        )


def _judged(bands: Sequence[str]) -> list[int]:
    """Return the places of the bands that say whether a pixel is valid: all but height."""
    return [place for place, band in enumerate(bands) if band != ELEVATION]


def _image_bands(
    name: str, info: FileInfo, bands: Sequence[str], options: ReadOptions
) -> tuple[int, ...]:
    """Return the numbers of the bands that are read of a file. Raises SourceError."""
    if name == "images" and not options.bands and info.count != len(bands):
        for number in range(1, info.count + 1):
            _check_no_palette(info, number, EXPAND)
        example = ",".join(str(n + 1) for n in range(len(bands)))
        raise SourceError(
            f"{info.name}: has {info.count} band{'s'[: info.count != 1]}, the model wants "
            f"{len(bands)} ({', '.join(bands)})",
            f"choose them with --bands {example}, or give the "
            "products with --rvb, --irc, --dsm and --dtm",
        )
    numbers = options.bands or _named_bands(name, info, bands)
    for number in numbers:
        _check_image_band(info, number)
    return numbers


def _named_bands(name: str, info: FileInfo, bands: Sequence[str]) -> tuple[int, ...]:
    if name == "irc":
        found = [n for n, band in enumerate(info.bands, 1) if name_of(band) == "nir"]
        return tuple(found) if len(found) == 1 else (1,)
    return numbers_by_name(info, bands)


def _check_image_band(info: FileInfo, number: int) -> None:
    """Raise SourceError unless a band holds 8-bit radiometry; one that is not there passes."""
    for band in info.bands[number - 1 : number]:
        if band.dtype != "uint8":
            raise SourceError(
                f"{info.name}: bands are {band.dtype}, the model wants uint8 (0..255 as delivered)",
                "give the 8-bit delivery: scaled images are labelled otherwise",
            )
        _check_no_palette(info, number, EXPAND)


def _check_no_palette(info: FileInfo, number: int, remedy: str) -> None:
    if info.bands[number - 1].kind == "palette":
        raise SourceError(
            f"{info.name}: band {number} holds numbers of colours (a palette), not values", remedy
        )


def _height_files(name: str, infos: Sequence[FileInfo], counts: bool | None) -> list[Chosen]:
    """Return what is read of height files; each keeps its own validity. Raises SourceError."""
    for info in infos:
        dtype = info.bands[0].dtype
        if dtype.startswith("complex"):
            raise SourceError(
                f"{info.name}: is {dtype}, heights are numbers", "give the right file"
            )
        _check_no_palette(info, 1, "give it without its colour table")
        others = [band for band in info.bands[1:] if name_of(band) != "alpha"]
        if others:
            raise SourceError(
                f"{info.name}: has {info.count} bands, a height has one",
                "give the height, or take one band out with gdal_translate -b",
            )
    if counts is None:
        counts = all(holds_counts(info) for info in infos)
    counts = name == "ndsm" and counts
    metres = counts_to_metres if name == "ndsm" else to_metres
    own = ReadOptions()
    return [
        Chosen(info, choose_bands(info, (1,), own, metres=None if counts else metres(info)))
        for info in infos
    ]
