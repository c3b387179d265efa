"""Options that several commands share, by what they are of: the same words, written once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flair_engine.options import (
    EngineName,
    LabelValues,
    MaskChoice,
    Nodata,
    OnError,
    Precision,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def band_numbers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return `1,2,3` as numbers; raise click.BadParameter where one is not a number from 1."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of band numbers such as 1,2,3,4,5")
    return tuple(map(int, parts))


def nodata_value(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Nodata:
    """Return `none` or a number; raise click.BadParameter for anything else."""
    if value is None or value == "none":
        return value  # type: ignore[return-value]  # the literal "none"
    try:
        return float(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither a number nor none") from error


def mask_source(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> MaskChoice:
    """Return `none`, `alpha` or a band's number; raise click.BadParameter for anything else."""
    if value is None or value in ("none", "alpha"):
        return value  # type: ignore[return-value]  # one of the literals
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither none, alpha nor the number of a band")
    return int(value)


def box(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Return `xmin,ymin,xmax,ymax` as numbers; raise click.BadParameter for anything else."""
    if value is None:
        return None
    try:
        edges = tuple(float(part) for part in value.split(","))
    except ValueError:
        edges = ()
    if len(edges) != 4:
        raise click.BadParameter(f"{value!r} is not xmin,ymin,xmax,ymax")
    return edges


def mebibytes(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> int | None:
    """Return `2G` or `800M` in MiB; raise click.BadParameter for anything else."""
    if value is None:
        return None
    number, unit = value[:-1], value[-1:].upper()
    if not number.isdecimal() or unit not in MIB_OF_UNIT:
        raise click.BadParameter(f"{value!r} is not a size such as 2G or 800M")
    return int(number) * MIB_OF_UNIT[unit]


MIB_OF_UNIT = {"M": 1, "G": 1024}
SOURCES = "file, folder or quoted pattern"
FILE = click.Path()
"""A name that a shell completes; what it stands for is looked at later."""

INPUTS = (
    click.option(
        "-m", "--model", required=True, type=click.Path(path_type=Path), help="From flair-export."
    ),
    click.option("--rvb", multiple=True, type=FILE, help=f"Red, green, blue: {SOURCES}."),
    click.option(
        "--irc", multiple=True, type=FILE, help=f"Near infrared in its band 1: {SOURCES}."
    ),
    click.option(
        "--ndsm", multiple=True, type=FILE, help=f"Height in 8 bits, 5 counts per metre: {SOURCES}."
    ),
    click.option("--dsm", multiple=True, type=FILE, help=f"Surface in metres: {SOURCES}."),
    click.option("--dtm", multiple=True, type=FILE, help=f"Terrain in metres: {SOURCES}."),
)
"""Which model, and which products are given apart from INPUT."""

READING = (
    click.option(
        "--bands",
        callback=band_numbers,
        help="Bands of INPUT in the order of the model, e.g. 1,2,3,4,5.",
    ),
    click.option(
        "--nodata", callback=nodata_value, metavar="VALUE|none", help="Instead of what files say."
    ),
    click.option(
        "--mask", callback=mask_source, metavar="none|alpha|N", help="Instead of what images say."
    ),
    click.option("--gsd", "gsd_m", type=float, help="Metres per pixel, where files do not say it."),
    click.option("--resample", is_flag=True, help="Warp images of another ground sampling."),
    click.option(
        "--on-error",
        type=click.Choice(get_args(OnError)),
        default="stop",
        show_default=True,
        help="At a block that cannot be decoded: stop (resumable), or nodata there and exit code "
        "3.",
    ),
)
"""How images are read."""

AREA = (
    click.option(
        "--bbox", callback=box, metavar="X,Y,X,Y", help="Map the box xmin,ymin,xmax,ymax alone."
    ),
    click.option("--aoi", type=FILE, help="Map what lies in the shapes of a vector file alone."),
    click.option(
        "--aoi-layer", metavar="NAME", help="The layer of --aoi that counts; default: all."
    ),
)
"""What of the images is mapped."""

MAPS = (
    click.option(
        "--per-input", is_flag=True, help="OUTPUT is a folder: one map per delivered file."
    ),
    click.option("--cog", is_flag=True, help="Write Cloud-Optimized GeoTIFFs."),
    click.option(
        "--co",
        multiple=True,
        metavar="NAME=VALUE",
        help="Creation option of GDAL for the maps, e.g. COMPRESS=ZSTD.",
    ),
    click.option(
        "--labels",
        type=click.Choice(get_args(LabelValues)),
        default="flair",
        show_default=True,
        help="Values written: 1..19 with nodata 0, or the official tool's 0..18 with nodata 255.",
    ),
)
"""How maps are written."""

ITEMS = (
    click.option("--stac", is_flag=True, help="Write a STAC Item, NAME.json, beside each map."),
    click.option(
        "--acquired",
        metavar="DATE[/DATE]",
        help="When the images were taken, for --stac, e.g. 2023-07-14 or 2023.",
    ),
)
"""What catalogues read of maps."""

RUNNING = (
    click.option(
        "--engine",
        type=click.Choice(get_args(EngineName)),
        default="auto",
        show_default=True,
        help="Inference runtime.",
    ),
    click.option(
        "--precision",
        type=click.Choice(get_args(Precision)),
        help="fp32 is exact, bf16 needs a CPU that has it; default: by engine.",
    ),
    click.option(
        "--device",
        metavar="cpu|cuda:N[,cuda:N]|cuda:all",
        help="Where to run, on several GPUs too; default: what is there.",
    ),
    click.option("--batch", type=int, help="Tiles per inference; default: by device."),
    click.option(
        "--slots", type=int, default=2, show_default=True, help="Batches in flight on a device."
    ),
    click.option("--threads", type=int, help="CPU threads; default: every CPU of the process."),
    click.option(
        "--memory",
        "memory_mib",
        callback=mebibytes,
        metavar="SIZE",
        help="Memory of decoded pixels, e.g. 2G; default: a quarter of what is free, 1G at most.",
    ),
    click.option(
        "--plan-cache",
        type=click.Path(path_type=Path),
        envvar="FLAIR_PLAN_CACHE",
        help="Folder of TensorRT plans; default: flair-engine/plans in the user's cache folder.",
    ),
    click.option(
        "--tactic-sources",
        metavar="±NAME,...",
        help="TensorRT's sources of kernels, spelt as in trtexec, e.g. -CUBLAS,-CUDNN.",
    ),
)
"""Where and how the model is run."""


def options(*groups: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Return what adds groups of options to a command, in their order."""

    def add(function: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return add


def fields_of(kind: Any, given: dict[str, Any], but: Sequence[str] = ()) -> dict[str, Any]:
    """Return those of the options that were given that are fields of a dataclass."""
    return {f.name: given[f.name] for f in fields(kind) if f.name in given and f.name not in but}
