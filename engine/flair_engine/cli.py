"""`flair-run`: parse, call `segment`, print one line, return an exit code."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flair_engine.api import segment
from flair_engine.command import SETTINGS, SKIPPED, run_command, say, sectioned
from flair_engine.inference.choose import engines
from flair_engine.options import (
    EngineName,
    Inputs,
    LabelValues,
    Listener,
    MapOptions,
    MaskChoice,
    Nodata,
    OnError,
    Precision,
    ReadOptions,
    RunOptions,
    silent,
)
from flair_engine.pace import LineProgress, Pace
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import TaskID

NAME = "flair-run"


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


def list_engines(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print a line for each engine and end the command."""
    if value and not context.resilient_parsing:
        for line in engines():
            say(line, NAME)
        context.exit()


MIB_OF_UNIT = {"M": 1, "G": 1024}
SOURCES = "file, folder or quoted pattern"
FILE = click.Path()
"""A name that a shell completes; what it stands for is looked at later."""

SECTIONS = {
    "What is mapped": (
        "model", "rvb", "irc", "ndsm", "dsm", "dtm", "bbox", "aoi",
        "aoi_layer", "whole_cores",
    ),
    "How images are read": (
        "bands", "nodata", "mask", "gsd_m", "resample", "on_error",
    ),
    "What is written": (
        "labels", "per_input", "cog", "co", "preview", "stac", "acquired", "report", "overwrite",
        "resume",
    ),
    "Where it is computed": (
        "engine", "precision", "engines", "device", "batch", "slots", "threads", "memory_mib",
        "plan", "plan_cache", "tactic_sources",
    ),
    "What is said": ("quiet", "debug", "version"),
}  # fmt: skip
"""Names of options by the title they stand under in --help."""


@click.command(cls=sectioned(SECTIONS), context_settings=SETTINGS)
@click.argument("paths", metavar="[INPUT...] OUTPUT", nargs=-1, required=True, type=FILE)
@click.option(
    "-m", "--model", required=True, type=click.Path(path_type=Path), help="From flair-export."
)
@click.option("--rvb", multiple=True, type=FILE, help=f"Red, green, blue: {SOURCES}.")
@click.option("--irc", multiple=True, type=FILE, help=f"Near infrared in its band 1: {SOURCES}.")
@click.option(
    "--ndsm", multiple=True, type=FILE, help=f"Height in 8 bits, 5 counts per metre: {SOURCES}."
)
@click.option("--dsm", multiple=True, type=FILE, help=f"Surface in metres: {SOURCES}.")
@click.option("--dtm", multiple=True, type=FILE, help=f"Terrain in metres: {SOURCES}.")
@click.option(
    "--bands",
    callback=band_numbers,
    help="Bands of INPUT in the order of the model, e.g. 1,2,3,4,5.",
)
@click.option(
    "--nodata", callback=nodata_value, metavar="VALUE|none", help="Instead of what files say."
)
@click.option(
    "--mask", callback=mask_source, metavar="none|alpha|N", help="Instead of what images say."
)
@click.option("--gsd", "gsd_m", type=float, help="Metres per pixel, where files do not say it.")
@click.option("--resample", is_flag=True, help="Warp images of another ground sampling.")
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="stop",
    show_default=True,
    help="At a block that cannot be decoded: stop (resumable), or nodata there and exit code 3.",
)
@click.option(
    "--bbox", callback=box, metavar="X,Y,X,Y", help="Map the box xmin,ymin,xmax,ymax alone."
)
@click.option("--aoi", type=FILE, help="Map what lies in the shapes of a vector file alone.")
@click.option("--aoi-layer", metavar="NAME", help="The layer of --aoi that counts; default: all.")
@click.option(
    "--whole-cores", is_flag=True, help="Map every core that the box or the shapes touch, whole."
)
@click.option("--per-input", is_flag=True, help="OUTPUT is a folder: one map per delivered file.")
@click.option("--cog", is_flag=True, help="Write Cloud-Optimized GeoTIFFs.")
@click.option(
    "--co",
    multiple=True,
    metavar="NAME=VALUE",
    help="Creation option of GDAL for the maps, e.g. COMPRESS=ZSTD.",
)
@click.option(
    "--labels",
    type=click.Choice(get_args(LabelValues)),
    default="flair",
    show_default=True,
    help="Values written: 1..19 with nodata 0, or the official tool's 0..18 with nodata 255.",
)
@click.option("--preview", is_flag=True, help="Draw NAME.preview.png beside each map.")
@click.option("--stac", is_flag=True, help="Write a STAC Item, NAME.json, beside each map.")
@click.option(
    "--acquired",
    metavar="DATE[/DATE]",
    help="When the images were taken, for --stac, e.g. 2023-07-14 or 2023.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing map or unfinished run.")
@click.option("--resume", is_flag=True, help="Continue an unfinished run on this output.")
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="auto",
    show_default=True,
    help="Inference runtime.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="fp32 is exact, bf16 needs a CPU that has it; default: by engine.",
)
@click.option(
    "--engines",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_engines,
    help="List the engines, whether each can run here and why not, and exit.",
)
@click.option(
    "--device",
    metavar="cpu|cuda:N[,cuda:N]|cuda:all",
    help="Where to run, on several GPUs too; default: what is there.",
)
@click.option("--batch", type=int, help="Tiles per inference; default: by device.")
@click.option(
    "--slots", type=int, default=2, show_default=True, help="Batches in flight on a device."
)
@click.option("--threads", type=int, help="CPU threads; default: every CPU of the process.")
@click.option(
    "--memory",
    "memory_mib",
    callback=mebibytes,
    metavar="SIZE",
    help="Memory of decoded pixels, e.g. 2G; default: a quarter of what is free, 1G at most.",
)
@click.option(
    "--plan",
    metavar="MODEL.plan",
    type=click.Path(path_type=Path),
    help="TensorRT plan that flair-export --engine trt --for built ahead.",
)
@click.option(
    "--plan-cache",
    type=click.Path(path_type=Path),
    envvar="FLAIR_PLAN_CACHE",
    help="Folder of TensorRT plans; default: flair-engine/plans in the user's cache folder.",
)
@click.option(
    "--tactic-sources",
    metavar="±NAME,...",
    help="TensorRT's sources of kernels, spelt as in trtexec, e.g. -CUBLAS,-CUDNN.",
)
@click.option(
    "-q", "--quiet", is_flag=True, help="No progress, notes or closing line; warnings stay."
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write what was done: a page where the name ends in .html, else JSON.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__)
def command(
    paths: tuple[str, ...],
    model: Path,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> int:
    """Label aerial imagery with a FLAIR model and write a land-cover map.

    INPUT is one or many rasters, a folder or a quoted pattern: anything GDAL opens. Or name the
    products with --rvb, --irc and a height. OUTPUT.tif opens coloured and named in QGIS.
    """
    *images, output = paths
    inputs = Inputs(images=tuple(images), **_of(Inputs, options, but=("images",)))
    with progress_shown(quiet) as listener:
        for line in engines() if debug else ():
            listener.notify(line)
        done = segment(
            model,
            inputs,
            output,
            RunOptions(**_of(RunOptions, options)),
            read=ReadOptions(**_of(ReadOptions, options)),
            write=MapOptions(**_of(MapOptions, options)),
            progress=listener.progress,
            notify=listener.notify,
            warn=listener.warn,
            status=listener.status,
            command=click.get_current_context().obj,
        )
    if not quiet:
        say(done.closing_line, NAME)
    return SKIPPED if done.skipped_blocks else 0


def _of(kind: Any, options: dict[str, Any], but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return those of the command's options that are fields of a dataclass."""
    return {field.name: options[field.name] for field in fields(kind) if field.name not in but}


@contextmanager
def progress_shown(quiet: bool) -> Iterator[Listener]:
    """Show how far a run is; yield what is told of it.

    On a terminal that is a bar, elsewhere a line from time to time. With `quiet` only warnings are
    shown: what they say is of the map.
    """
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)

    def tell(kind: str) -> Callable[[str], None]:
        return lambda said: console.print(f"{NAME}: {kind}: {said}", markup=False)

    notes = Listener(notify=tell("note"), warn=tell("warning"))
    if quiet:
        yield replace(notes, notify=silent)
    elif console.is_terminal:
        with _bar(console) as bar:
            yield replace(notes, progress=bar.progress, status=bar.status)
    else:
        lines = LineProgress(lambda line: console.print(f"{NAME}: {line}", markup=False))
        yield replace(notes, progress=lines.progress, status=silent)


@contextmanager
def _bar(console: Console) -> Iterator[Listener]:
    """Show a bar with Mpx/s and time left, within 80 columns; it goes again at the end."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[text]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task: TaskID = bar.add_task("", total=None, text="loading the model")
        pace = Pace()

        def status(line: str) -> None:
            bar.update(task, text=line)

        def progress(done: int, total: int) -> None:
            if pace.began is None:
                bar.reset(task, completed=done, total=total)  # what was before is no speed
            rate = pace.at(done)
            text = f"{done / 1e6:.1f} of {total / 1e6:.1f} Mpx, {rate / 1e6:.2f} Mpx/s"
            bar.update(task, completed=done, total=total, text=text)

        yield Listener(progress=progress, status=status)


def main() -> None:
    """Entry point of flair-run."""
    run_command(command, NAME, kept="finished strips are kept, continue with --resume")
