"""`flair-run`: parse, call `segment`, print one line, return an exit code."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flair_engine.api import RunOptions, segment
from flair_engine.backends import EngineName
from flair_engine.errors import FlairError, OutputError
from flair_engine.landcover import LabelValues

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a command ended by Ctrl-C."""


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


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=Path)
@click.argument("output", metavar="OUTPUT.tif", type=Path)
@click.option("-m", "--model", required=True, type=Path, help="ONNX file made by flair-export.")
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="auto",
    show_default=True,
    help="Inference runtime.",
)
@click.option("--device", metavar="cpu|cuda|cuda:N", help="Where to run; default: what is there.")
@click.option("--batch", type=int, help="Tiles per inference; default: by device.")
@click.option("--slots", type=int, default=2, show_default=True, help="Batches in flight.")
@click.option("--threads", type=int, help="CPU threads; default: every CPU of the process.")
@click.option(
    "--bands",
    callback=band_numbers,
    help="Band numbers in the order of the model, e.g. 1,2,3,4,5.",
)
@click.option(
    "--gsd", "gsd_m", type=float, help="Metres per pixel, where the file does not say it (rightly)."
)
@click.option(
    "--labels",
    type=click.Choice(get_args(LabelValues)),
    default="flair",
    show_default=True,
    help="Values written: 1..19 with nodata 0, or the official tool's 0..18 with nodata 255.",
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
@click.option("--overwrite", is_flag=True, help="Replace an existing map.")
@click.option("--quiet", is_flag=True, help="No progress bar and no closing line.")
@click.option("--report", "report_path", type=Path, help="Write the run's figures as JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="flair-engine")
def command(
    inputs: tuple[Path, ...],
    output: Path,
    model: Path,
    quiet: bool,
    report_path: Path | None,
    debug: bool,  # noqa: ARG001  read by main
    **options: object,
) -> None:
    """Label aerial imagery with a FLAIR model and write a land-cover map.

    INPUT is anything GDAL opens; OUTPUT.tif opens coloured and named in QGIS.
    """
    if report_path and not report_path.parent.is_dir():
        raise OutputError(f"{report_path}: its folder does not exist: create it first")
    run_options = RunOptions(**options)  # type: ignore[arg-type]  # click has checked them
    with display(quiet) as shown:
        report = segment(model, inputs, output, run_options, **shown)
    if report_path:
        report_path.write_text(report.to_json() + "\n", encoding="utf-8")
    if not quiet:
        click.echo(report.closing_line)


@contextmanager
def display(quiet: bool) -> Iterator[dict[str, Any]]:
    """Yield what `segment` calls: a bar with Mpx/s on a terminal, lines for people on stderr."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    if quiet:
        yield {}
        return
    if not console.is_terminal:
        yield {"notify": lambda line: click.echo(f"flair-run: {line}", err=True)}
        return
    columns = (
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[text]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task: TaskID = progress.add_task("", total=None, text="loading the model")

        def status(line: str) -> None:
            progress.update(task, text=line)

        def advance(done: int, total: int) -> None:
            if done and progress.tasks[task].total is None:
                progress.reset(task, total=total)  # loading is no part of the rate
            elapsed = progress.tasks[task].elapsed or 1e-9
            rate = f"{done / 1e6:.1f} of {total / 1e6:.1f} Mpx, {done / 1e6 / elapsed:.2f} Mpx/s"
            progress.update(task, completed=done, total=total, text=rate)

        yield {"progress": advance, "notify": console.print, "status": status}


def main() -> None:
    """Entry point: every refusal is one line on stderr and an exit code."""
    try:
        command.main(standalone_mode=False)
    except FlairError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        _fail(f"{error.format_message()} (see flair-run --help)", 2)
    except (KeyboardInterrupt, click.Abort):
        if "--debug" in sys.argv:
            raise
        click.echo("interrupted: nothing was written", err=True)
        sys.exit(INTERRUPTED)


def _fail(message: str, exit_code: int) -> None:
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704  called while the error is handled
    click.echo(f"flair-run: {message}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
