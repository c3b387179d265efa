"""Raster input and output alone."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flair_bench.figures.rounds import Spread

MOSAIC_PX = 25_000
"""Columns of the wide mosaic: 5 km at 0.2 m."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GdalRatio:
    """The engine's speed as a multiple of GDAL's, round by round."""

    median: float
    spread: Spread

    @classmethod
    def of(cls, theirs_s: Sequence[float], ours_s: Sequence[float]) -> "GdalRatio":
        """Return the ratio of the seconds of rounds."""
        ratios = [theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)]
        return cls(median=statistics.median(ratios), spread=Spread.of(ratios))


@dataclass(frozen=True, kw_only=True, slots=True)
class IoSpeed:
    """Reading or writing beside GDAL doing the same."""

    mpx_per_s: float
    gdal_mpx_per_s: float
    of_gdal: GdalRatio


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingSpeed(IoSpeed):
    """Reading of one file format."""

    blocks_requested: int
    """A block requested twice counts twice."""
    blocks: int
    """Stored in the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WideRead:
    """A whole run of a trivial model over a wide mosaic."""

    decode_factor: float
    """Blocks decoded by distinct ones."""
    blocks: int
    """Stored in the files."""
    peak_mib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RasterIoFigures:
    """Reading, writing and memory without a network that costs anything."""

    size_px: int
    """Edge of the square raster that is read and written."""
    threads: int
    repeats: int
    reading: Mapping[str, ReadingSpeed]
    """By format."""
    writing: IoSpeed
    wide: Mapping[str, WideRead]
    """By format and geometry, over a mosaic of 25,000 px across."""
    memory: Mapping[str, float]
    """Peak MiB of whole runs of a trivial model, by what they map."""
