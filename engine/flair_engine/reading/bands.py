"""Bands of a file: which are read for what, and what makes a pixel of them invalid."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flair_engine.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.options import ReadOptions
    from flair_engine.reading.file_info import Band, FileInfo
    from flair_engine.reading.metres import ToMetres

NAMES = {
    "nir": r"nir|near[ -]?infra-?red|infra-?red|proche infrarouge|infrarouge|pir|b0?8",
    "red edge": r"red[ -]?edge",
    "red": r"red|rouge|b0?4",
    "green": r"green|vert|b0?3",
    "blue": r"blue|bleu|b0?2",
    "alpha": r"alpha",
}
"""Words of colour tags and band descriptions by the model's name, English, French and Sentinel-2's;
the first that is found counts."""

LETTERS = {"r": "red", "g": "green", "v": "green", "b": "blue", "n": "nir", "i": "nir"}
"""What single letters stand for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BandChoice:
    """Which bands of a file are read and what makes a pixel of them invalid."""

    numbers: tuple[int, ...]
    """Band numbers, from 1, in the order they are delivered."""
    judged: tuple[int, ...]
    """Places in `numbers` of the bands that must all equal nodata for a pixel to be invalid. A
    height of 0 beside them says nothing."""
    nodata: tuple[float | None, ...]
    """By band that is judged; a pixel is valid where one of them has none."""
    mask_band: int | None
    """Number of a band that is 0 where invalid."""
    masked: bool
    """Whether the dataset's own mask is asked."""
    metres: ToMetres | None = None
    """What turns the values into metres; None for counts as they are."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A file, and what is read of it."""

    info: FileInfo
    choice: BandChoice


def choose_bands(
    info: FileInfo,
    numbers: Sequence[int],
    options: ReadOptions,
    *,
    judged: Sequence[int] | None = None,
    metres: ToMetres | None = None,
) -> BandChoice:
    """Decide how the validity of the chosen bands is known, which has one source in a file.

    Its mask, else its alpha band, else its nodata value; `options` overrides. A band that is
    itself read is no mask: real files tag red or infrared as alpha. Raises SourceError for a band
    that is not there.
    """
    if options.mask == "alpha" and info.alpha is None:
        raise SourceError(
            f"{info.name}: --mask alpha, but no band is tagged alpha",
            "name a band, or leave it out",
        )
    if options.mask == "alpha" and info.alpha in numbers:
        raise SourceError(
            f"{info.name}: --mask alpha, but its alpha band {info.alpha} is read as an image",
            "choose others with --bands",
        )
    wanted = [*numbers, options.mask] if isinstance(options.mask, int) else list(numbers)
    if outside := [n for n in wanted if not 1 <= n <= info.count]:
        raise SourceError(
            f"{info.name}: band {outside[0]} was asked for but the file has {info.count}",
            f"choose from 1 to {info.count}",
        )
    places = tuple(range(len(numbers)) if judged is None else judged)
    masked = info.masked and options.mask is None
    mask_band = None if masked else _mask_band(info, numbers, options)
    return BandChoice(
        numbers=tuple(numbers),
        judged=places,
        nodata=_nodata(
            info, [numbers[n] for n in places], options, told=masked or mask_band is not None
        ),
        mask_band=mask_band,
        masked=masked,
        metres=metres,
    )


def _mask_band(info: FileInfo, numbers: Sequence[int], options: ReadOptions) -> int | None:
    """Return the number of the band that is asked which pixels are valid."""
    if isinstance(options.mask, int):
        return options.mask
    alpha = info.alpha
    if options.mask == "none" or alpha is None or alpha in numbers:
        return None
    is_nir = name_of(info.bands[alpha - 1]) == "nir"
    return None if is_nir and options.mask is None else alpha


def _nodata(
    info: FileInfo, numbers: Sequence[int], options: ReadOptions, *, told: bool
) -> tuple[float | None, ...]:
    """Return the nodata value of each band; none of the file's where a mask has `told`."""
    if isinstance(options.nodata, (int, float)):
        return (float(options.nodata),) * len(numbers)
    if options.nodata == "none" or told:
        return (None,) * len(numbers)
    return tuple(info.bands[number - 1].nodata for number in numbers)


def name_of(band: Band) -> str | None:
    """Return the colour a band says it is, by its description, else by its tag."""
    for text in (band.description.strip().lower().replace("_", " "), band.kind):
        if text in LETTERS:
            return LETTERS[text]
        for name, words in NAMES.items():
            if re.search(rf"\b({words})\b", text):
                return name
    return None


def numbers_by_name(info: FileInfo, wanted: Sequence[str]) -> tuple[int, ...]:
    """Return the number of the band for each wanted name: by its tags where they name it.

    Bands stand in the order wanted, except where the file names red, green and blue (all that are
    wanted of them) and puts them elsewhere: then those are taken where they are named, near
    infrared too if it is, and the others keep their order. The file has as many bands as are
    wanted, or more.
    """
    default = tuple(range(1, len(wanted) + 1))
    named: dict[str, int] = {}
    for number, band in enumerate(info.bands, 1):
        name = name_of(band)
        if name and name in wanted:
            if name in named:  # twice: the tags say nothing
                return default
            named[name] = number
    colours = [name for name in ("red", "green", "blue") if name in wanted]
    if len(colours) < 2 or any(name not in named for name in colours):
        return default
    left = iter(number for number in range(1, info.count + 1) if number not in named.values())
    return tuple(named[name] if name in named else next(left) for name in wanted)
