"""`flair-post`: sub-commands that parse, call one function, print one line."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flair_engine.command import SETTINGS, run_command, say
from flair_engine.options import Listener
from flair_engine.post import work
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POST_NAME = "flair-post"
A_MAP = "MAP"
OUT = click.option("-o", "--output", required=True, type=Path, metavar="TABLE", help="CSV or "
                   "Parquet, by its ending.")  # fmt: skip
MIN_M2 = "Give smaller regions, in m² on the ground, to their largest neighbour."


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every sub-command has."""
    for option in (
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
        click.option("-q", "--quiet", is_flag=True, help="No progress bar, no closing line."),
        click.option("--overwrite", is_flag=True, help="Replace an output of flair-engine."),
    ):
        function = option(function)
    return function


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name=POST_NAME)
def command() -> None:
    """Go on with maps of flair-run: sieved, as polygons, as hectares, compared, as one.

    MAP is a map, a VRT of flair-post, or a folder of maps.
    """


@command.command()
@click.argument("map_path", metavar=A_MAP, type=Path)
@click.argument("output", metavar="OUT.tif", type=Path)
@click.option("--min-m2", type=float, required=True, help=MIN_M2)
@shared
def sieve(map_path: Path, output: Path, min_m2: float, **options: Any) -> None:
    """Write a map without small regions, with the colours and names of MAP."""
    run(options, work.sieve, map_path, output, min_m2)


@command.command()
@click.argument("map_path", metavar=A_MAP, type=Path)
@click.argument("output", metavar="OUT.gpkg|OUT.parquet", type=Path)
@click.option("--min-m2", type=float, default=0.0, help=MIN_M2)
@click.option(
    "--simplify", "simplify_m", type=float, default=0.0, metavar="M",
    help="Straighten the stairs of pixels, by about so many metres; shared edges stay shared.",
)  # fmt: skip
@shared
def polygons(
    map_path: Path, output: Path, min_m2: float, simplify_m: float, **options: Any
) -> None:
    """Write the regions of MAP as polygons: class, colour, m² on the ground, confidence."""
    run(options, work.polygons, map_path, output, min_m2, simplify_m)


@command.command()
@click.argument("map_path", metavar=A_MAP, type=Path)
@click.option("--zones", required=True, type=Path, help="Vector file of areas, in any CRS.")
@click.option("--id", "field", required=True, help="Field that tells zones apart.")
@click.option("--layer", help="Layer of the file, where it has several.")
@OUT
@shared
def hectares(
    map_path: Path, zones: Path, field: str, layer: str | None, output: Path, **options: Any
) -> None:
    """Write hectares and share of each class in each zone, pixels cut exactly."""
    run(options, work.hectares, map_path, zones, field, layer, output)


@command.command()
@click.argument("old", type=Path)
@click.argument("new", type=Path)
@OUT
@click.option("--map", "map_path", type=Path, metavar="OUT.tif", help="Write a map of changes.")
@click.option(
    "--resample", type=click.Choice(["nearest"]), help="Put OLD on the pixels of NEW, if need be."
)
@shared
def change(
    old: Path, new: Path, output: Path, map_path: Path | None, resample: str | None, **options: Any
) -> None:
    """Write hectares from each class of OLD to each of NEW, matched by name."""
    run(options, work.change, old, new, output, map_path, resample=resample is not None)


@command.command()
@click.argument("folder", type=Path)
@click.argument("output", metavar="OUT.vrt", type=Path)
@shared
def vrt(folder: Path, output: Path, **options: Any) -> None:
    """Write one virtual raster over the maps of FOLDER, with their colours and names."""
    run(options, work.vrt, folder, output)


def run(options: dict[str, Any], function: Callable[..., str], *given: Any, **named: Any) -> None:
    """Call a function of `work` with what was parsed; print its closing line."""
    quiet = options["quiet"]
    with progress_bar(quiet) as listener, work.environment():
        line = function(*given, overwrite=options["overwrite"], listener=listener, **named)
    if not quiet:
        say(line, POST_NAME)


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Listener]:
    """Show a bar with the time left on a terminal; yield what is told of the work."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)

    def notify(notice: str) -> None:  # what changes what a figure means is said even if quiet
        console.print(f"{POST_NAME}: note: {notice}", markup=False)

    if quiet or not console.is_terminal:
        yield Listener(notify=notify)
        return
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task: TaskID = bar.add_task("", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield Listener(progress=progress, notify=notify)


def main() -> None:
    """Entry point of flair-post."""
    run_command(command, POST_NAME, kept="nothing was written")
