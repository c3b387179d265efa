"""`flair-run`: parse, call `segment`, print one line, return an exit code."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flair_engine.api import segment
from flair_engine.command import SETTINGS, SKIPPED, run_command, say
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
)
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator


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


SOURCES = "file, folder or quoted pattern"


@click.command(context_settings=SETTINGS)
@click.argument("paths", metavar="[INPUT...] OUTPUT", nargs=-1, required=True)
@click.option("-m", "--model", required=True, type=Path, help="ONNX file made by flair-export.")
@click.option("--rvb", multiple=True, help=f"Red, green, blue: {SOURCES}.")
@click.option("--irc", multiple=True, help=f"Near infrared in its band 1: {SOURCES}.")
@click.option("--ndsm", multiple=True, help=f"Height in 8 bits, 5 counts per metre: {SOURCES}.")
@click.option("--dsm", multiple=True, help=f"Surface in metres: {SOURCES}.")
@click.option("--dtm", multiple=True, help=f"Terrain in metres: {SOURCES}.")
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
@click.option("--aoi", help="Map what lies in the shapes of a vector file alone.")
@click.option("--aoi-layer", metavar="NAME", help="The layer of --aoi that counts; default: all.")
@click.option(
    "--whole-cores", is_flag=True, help="Map every core that the box or the shapes touch, whole."
)
@click.option("--per-input", is_flag=True, help="OUTPUT is a folder: one map per delivered file.")
@click.option("--cog", is_flag=True, help="Write Cloud-Optimized GeoTIFFs.")
@click.option(
    "--labels",
    type=click.Choice(get_args(LabelValues)),
    default="flair",
    show_default=True,
    help="Values written: 1..19 with nodata 0, or the official tool's 0..18 with nodata 255.",
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
    help="With --engine openvino; bf16 needs a CPU that has it. Default: fp32.",
)
@click.option("--device", metavar="cpu|cuda|cuda:N", help="Where to run; default: what is there.")
@click.option("--batch", type=int, help="Tiles per inference; default: by device.")
@click.option("--slots", type=int, default=2, show_default=True, help="Batches in flight.")
@click.option("--threads", type=int, help="CPU threads; default: every CPU of the process.")
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
@click.option("--quiet", is_flag=True, help="No progress bar, no notices, no closing line.")
@click.option("--report", type=Path, help="Write the run's figures as JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__)
def command(
    paths: tuple[str, ...],
    model: Path,
    quiet: bool,
    debug: bool,  # noqa: ARG001  run_command reads it
    **options: Any,
) -> int:
    """Label aerial imagery with a FLAIR model and write a land-cover map.

    INPUT is one or many rasters, a folder or a quoted pattern: anything GDAL opens. Or name the
    products with --rvb, --irc and a height. OUTPUT.tif opens coloured and named in QGIS.
    """
    *images, output = paths
    inputs = Inputs(images=tuple(images), **_of(Inputs, options, but=("images",)))
    with progress_bar(quiet) as listener:
        done = segment(
            model,
            inputs,
            output,
            RunOptions(**_of(RunOptions, options)),
            read=ReadOptions(**_of(ReadOptions, options)),
            write=MapOptions(**_of(MapOptions, options)),
            progress=listener.progress,
            notify=listener.notify,
            status=listener.status,
        )
    if not quiet:
        say(done.closing_line, "flair-run")
    return SKIPPED if done.skipped_blocks else 0


def _of(kind: Any, options: dict[str, Any], but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return those of the command's options that are fields of a dataclass."""
    return {field.name: options[field.name] for field in fields(kind) if field.name not in but}


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Listener]:
    """Show a bar with Mpx/s and time left on a terminal; yield what is told of a run."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if quiet:
        yield Listener()
        return

    def notify(notice: str) -> None:
        console.print(f"flair-run: note: {notice}", markup=False)

    if not console.is_terminal:
        yield Listener(notify=notify)
        return
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[text]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task: TaskID = bar.add_task("", total=None, text="loading the model")

        def status(line: str) -> None:
            bar.update(task, text=line)

        def progress(done: int, total: int) -> None:
            elapsed = bar.tasks[task].elapsed or 1e-9
            rate = f"{done / 1e6:.1f} of {total / 1e6:.1f} Mpx, {done / 1e6 / elapsed:.2f} Mpx/s"
            bar.update(task, completed=done, total=total, text=rate)

        yield Listener(progress=progress, notify=notify, status=status)


def main() -> None:
    """Entry point of flair-run."""
    run_command(command, "flair-run", kept="finished strips are kept, continue with --resume")
