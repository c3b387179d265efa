"""`flair-run`: parse, call `segment`, print one line, return an exit code."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flair_engine.api import segment
from flair_engine.command import SETTINGS, SKIPPED, run_command, say, sectioned
from flair_engine.inference.choose import engines
from flair_engine.option_groups import (
    AREA,
    FILE,
    INPUTS,
    ITEMS,
    MAPS,
    READING,
    RUNNING,
    fields_of,
    options,
)
from flair_engine.options import (
    Inputs,
    Listener,
    MapOptions,
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


def list_engines(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Print a line for each engine and end the command."""
    if value and not context.resilient_parsing:
        for line in engines():
            say(line, NAME)
        context.exit()


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
@options(INPUTS, READING, AREA, MAPS, RUNNING)
@click.option(
    "--whole-cores", is_flag=True, help="Map every core that the box or the shapes touch, whole."
)
@click.option("--preview", is_flag=True, help="Draw NAME.preview.png beside each map.")
@options(ITEMS)
@click.option("--overwrite", is_flag=True, help="Replace an existing map or unfinished run.")
@click.option("--resume", is_flag=True, help="Continue an unfinished run on this output.")
@click.option(
    "--engines",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_engines,
    help="List the engines, whether each can run here and why not, and exit.",
)
@click.option(
    "--plan",
    metavar="MODEL.plan",
    type=click.Path(path_type=Path),
    help="TensorRT plan that flair-export --engine trt --for built ahead.",
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
    **given: Any,
) -> int:
    """Label aerial imagery with a FLAIR model and write a land-cover map.

    INPUT is one or many rasters, a folder or a quoted pattern: anything GDAL opens. Or name the
    products with --rvb, --irc and a height. OUTPUT.tif opens coloured and named in QGIS.
    """
    *images, output = paths
    inputs = Inputs(images=tuple(images), **fields_of(Inputs, given, but=("images",)))
    with progress_shown(quiet) as listener:
        for line in engines() if debug else ():
            listener.notify(line)
        done = segment(
            model,
            inputs,
            output,
            RunOptions(**fields_of(RunOptions, given)),
            read=ReadOptions(**fields_of(ReadOptions, given)),
            write=MapOptions(**fields_of(MapOptions, given)),
            progress=listener.progress,
            notify=listener.notify,
            warn=listener.warn,
            status=listener.status,
            command=click.get_current_context().obj,
        )
    if not quiet:
        say(done.closing_line, NAME)
    return SKIPPED if done.skipped_blocks else 0


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
