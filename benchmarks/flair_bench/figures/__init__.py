"""Figures of every measurement, field by field as they stand in a result file.

Shares lie between 0 and 1, except where a field says percent. A spread is the least and the most
of the rounds; the figure beside it is their median. Mpx are megapixels, 10^6; new ones are those
of cores, without margins.
"""

from flair_bench.figures.accuracy import (
    AccuracyFigures,
    Averages,
    ClassScore,
    Published,
)
from flair_bench.figures.arrays import PackedArray, packed
from flair_bench.figures.geometry import GeometryCost, GeometryFigures
from flair_bench.figures.install import Environment, InstallFigures
from flair_bench.figures.naming import with_int8
from flair_bench.figures.parity import (
    AgreementMap,
    ClassParity,
    EngineParity,
    Flip,
    ParityFigures,
)
from flair_bench.figures.raster_io import (
    GdalRatio,
    IoSpeed,
    RasterIoFigures,
    ReadingSpeed,
    WideRead,
)
from flair_bench.figures.rounds import Spread
from flair_bench.figures.throughput import (
    BEST,
    OFFICIAL,
    Bound,
    MachineLimits,
    ModelWork,
    NetworkSpeed,
    RunRatio,
    Stages,
    ThroughputFigures,
    WholeRun,
)

Figures = (
    AccuracyFigures
    | ParityFigures
    | GeometryFigures
    | InstallFigures
    | RasterIoFigures
    | ThroughputFigures
)
"""What one measurement leaves."""

__all__ = [
    "BEST",
    "OFFICIAL",
    "AccuracyFigures",
    "AgreementMap",
    "Averages",
    "Bound",
    "ClassParity",
    "ClassScore",
    "EngineParity",
    "Environment",
    "Figures",
    "Flip",
    "GdalRatio",
    "GeometryCost",
    "GeometryFigures",
    "InstallFigures",
    "IoSpeed",
    "MachineLimits",
    "ModelWork",
    "NetworkSpeed",
    "PackedArray",
    "ParityFigures",
    "Published",
    "RasterIoFigures",
    "ReadingSpeed",
    "RunRatio",
    "Spread",
    "Stages",
    "ThroughputFigures",
    "WholeRun",
    "WideRead",
    "packed",
    "with_int8",
]
