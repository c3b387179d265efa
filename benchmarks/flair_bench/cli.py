"""`flair-bench`: parse, measure, print a table, add a section to a result file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from flair_bench.errors import WrongAnswerError
from flair_bench.results import record, started_at
from flair_bench.show.tables import (
    print_accuracy,
    print_geometry,
    print_io,
    print_parity,
    print_throughput,
)
from flair_engine.errors import FlairError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flair_engine.options import RunOptions

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a command ended by Ctrl-C."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="flair-engine")
def command(debug: bool) -> None:  # noqa: ARG001  main reads it
    """Measure flair-engine: is it right, is it fast, and against what."""
    started_at()


def with_result(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json, the result file a measurement is put into."""
    return click.option(
        "--json", "json_path", type=Path, help="Result file to put the figures into."
    )(function)


def with_run(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how one model is run."""
    for option in (
        click.option("--threads", type=int, help="CPU threads; default: all."),
        click.option("--batch", type=int, help="Tiles per inference; default: by device."),
        click.option("--engine", "engine", help="Engine, e.g. ort or 'openvino bf16'."),
    ):
        function = option(function)
    return function


@command.command()
@click.argument("dataset", type=Path, required=False)
@click.option("-m", "--model", type=Path, help="ONNX file of margin 0.")
@click.option("--list", "lists", type=Path, multiple=True, help="Official CSV of the patches.")
@click.option("--confusion", "matrix_path", type=Path, help="Score this .npy matrix instead.")
@with_run
@with_result
def accuracy(
    dataset: Path | None,
    model: Path | None,
    lists: tuple[Path, ...],
    matrix_path: Path | None,
    engine: str | None,
    batch: int | None,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Score a model on FLAIR patches (IMG_*.tif, MSK_*.tif anywhere below DATASET)."""
    from flair_bench.data.dataset import find_pairs
    from flair_bench.measure import accuracy as measure

    if matrix_path:
        spec = measure.scorable(model) if model else None
        matrix = measure.read_confusion(matrix_path)
    else:
        if model is None or dataset is None:
            raise click.UsageError("give -m MODEL and DATASET, or --confusion MATRIX")
        spec = measure.scorable(model)
        with Console(stderr=True).status("starting") as status:
            matrix = measure.count_confusion(
                model, find_pairs(dataset, lists), _run(engine, batch, threads), status.update
            )
    figures = measure.figures(matrix, spec)
    print_accuracy(figures)
    _keep(json_path, "accuracy", figures)


@command.command()
@click.argument("images", type=Path, nargs=-1, required=True)
@click.option("-m", "--model", required=True, type=Path, help="ONNX file to judge.")
@click.option("--reference", required=True, help="Its checkpoint: a file or Hub id.")
@click.option("--engine", "engines", multiple=True, help="Engine; default: all there are.")
@click.option("--tolerance", type=float, help="Least share of equal labels; default: by precision.")
@with_result
def parity(
    images: tuple[Path, ...],
    model: Path,
    reference: str,
    engines: tuple[str, ...],
    tolerance: float | None,
    json_path: Path | None,
) -> None:
    """Compare the labels of every engine with PyTorch FP32 on tiles of IMAGES."""
    from flair_bench.measure import parity as measure
    from flair_bench.measure.engines import chosen
    from flair_bench.yardstick.networks import reference_network

    net = reference_network(reference, model)
    with Console(stderr=True).status("starting") as status:
        figures = measure.measure(net, model, images, chosen(engines), status.update)
    print_parity(figures)
    _keep(json_path, "parity", figures)
    if found := measure.faults(figures, tolerance):
        raise WrongAnswerError(f"{model}: {'; '.join(found)}")


@command.command()
@click.argument("images", type=Path, nargs=-1)
@click.option("--reference", required=True, help="Checkpoint: a file or Hub id.")
@click.option("--mask", "masks", type=Path, multiple=True, help="Masks of IMAGES, or a folder.")
@click.option("-m", "--model", "models", type=Path, multiple=True, help="Exports to compare.")
@click.option("--engine", default="ort", show_default=True, help="Engine, e.g. 'openvino bf16'.")
@click.option("--repeats", type=int, default=3, show_default=True, help="Timings of each.")
@with_result
def geometry(
    images: tuple[Path, ...],
    reference: str,
    masks: tuple[Path, ...],
    models: tuple[Path, ...],
    engine: str,
    repeats: int,
    json_path: Path | None,
) -> None:
    """Compare tiles and margins with the network run over IMAGES at once.

    IMAGES is one raster, the patches of one block, or their folder.
    """
    from flair_bench.data.rasters import files_in, read_image
    from flair_bench.measure import geometry as measure
    from flair_bench.measure.engines import chosen

    image, _, _ = read_image(files_in(images))
    truth = read_image(files_in(masks))[0][0] if masks else None
    with Console(stderr=True).status("starting") as status:
        figures = measure.measure(
            reference,
            measure.scene(image, truth),
            chosen([engine])[0],
            models=models,
            repeats=repeats,
            progress=status.update,
        )
    print_geometry(figures)
    _keep(json_path, "geometry", figures)


@command.command()
@click.argument("images", type=Path, nargs=-1)
@click.option("-m", "--model", "models", required=True, type=Path, multiple=True, help="Exports.")
@click.option("--reference", help="Their checkpoint, for the PyTorch runners.")
@click.option("--size", "size_px", default=5120, show_default=True, help="Mirror IMAGES to this.")
@click.option("--engine", "engines", multiple=True, help="Engine; default: all there are.")
@click.option("--batch", "batches", type=int, multiple=True, default=[1], show_default=True)
@click.option("--slots", type=int, multiple=True, default=[2], show_default=True)
@click.option("--best-batch", default=4, show_default=True, help="Batch of PyTorch at its best.")
@click.option("--repeats", default=3, show_default=True, help="Rounds.")
@with_result
def throughput(
    images: tuple[Path, ...],
    models: tuple[Path, ...],
    reference: str | None,
    size_px: int,
    engines: tuple[str, ...],
    batches: tuple[int, ...],
    slots: tuple[int, ...],
    best_batch: int,
    repeats: int,
    json_path: Path | None,
) -> None:
    """Time the network alone and whole runs, beside PyTorch in the same run.

    IMAGES is one raster, the patches of one block, or their folder; without any, a drawn scene.
    """
    from tempfile import TemporaryDirectory

    from flair_bench.data.rasters import image_or_scene
    from flair_bench.measure import throughput as measure
    from flair_bench.measure.engines import chosen
    from flair_bench.measure.network_speed import ThroughputOptions

    plan = ThroughputOptions(
        models=models,
        checkpoint=reference,
        choices=chosen(engines),
        batches=batches,
        slots=slots,
        repeats=repeats,
        best_batch=best_batch,
    )
    image = image_or_scene(images, models[0])
    with TemporaryDirectory() as folder, Console(stderr=True).status("starting") as status:
        figures = measure.measure(plan, image, size_px, Path(folder), status.update)
    print_throughput(figures)
    _keep(json_path, "throughput", figures)
    if found := measure.faults(figures):
        raise WrongAnswerError(f"fast but wrong: {'; '.join(found)}")


@command.command("io")
@click.argument("images", type=Path, nargs=-1)
@click.option("--size", "size_px", default=4096, show_default=True, help="Mirror IMAGES to this.")
@click.option("--repeats", default=3, show_default=True, help="Rounds after one to warm up.")
@with_result
def disk(images: tuple[Path, ...], size_px: int, repeats: int, json_path: Path | None) -> None:
    """Time reading and writing alone against GDAL, and measure memory.

    IMAGES is one raster, the patches of one block, or their folder; without any, a drawn scene.
    """
    from tempfile import TemporaryDirectory

    from flair_bench.data.rasters import draw_scene, files_in, read_image
    from flair_bench.measure import raster_io as measure

    image = read_image(files_in(images))[0] if images else draw_scene(1536, 5)[0]
    with TemporaryDirectory() as folder, Console(stderr=True).status("starting") as status:
        figures = measure.measure(image, size_px, repeats, Path(folder), status.update)
    print_io(figures)
    _keep(json_path, "io", figures)


@command.command()
@click.argument("results", type=Path, nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=Path, help="The page, ending in .html.")
@click.option("--markdown", "table_path", type=Path, help="Also write the tables as Markdown.")
def report(results: tuple[Path, ...], output: Path, table_path: Path | None) -> None:
    """Make one self-contained HTML page of result files."""
    from flair_bench.results import load
    from flair_bench.show import report as page

    loaded = [load(path) for path in results]
    output.write_text(page.html(loaded), encoding="utf-8")
    if table_path:
        table_path.write_text(page.markdown(loaded) + "\n", encoding="utf-8")
    click.echo(f"{output} is ready")


@command.command()
@click.option("--checkpoint", help="File or Hub id; default: a stand-in fitted on a drawn scene.")
@click.option("--data", type=Path, help="Folder of FLAIR patches; default: a drawn scene.")
@click.option("--size", "size_px", default=1536, show_default=True, help="Raster of whole runs.")
@click.option("--repeats", default=3, show_default=True, help="Rounds.")
@click.option("-o", "--output", required=True, type=Path, help="Result file, ending in .json.")
def suite(
    checkpoint: str | None, data: Path | None, size_px: int, repeats: int, output: Path
) -> None:
    """Run every measurement and write RESULT.json and RESULT.html."""
    from flair_bench.suite import SuiteOptions, run

    output.parent.mkdir(parents=True, exist_ok=True)
    request = SuiteOptions(
        checkpoint=checkpoint, data=data, size_px=size_px, repeats=repeats, output=output
    )
    with Console(stderr=True).status("starting") as status:
        page = run(request, status.update)
    click.echo(f"{output} and {page} are ready")


def _run(engine: str | None, batch: int | None, threads: int | None) -> RunOptions:
    from flair_bench.measure.engines import chosen
    from flair_engine.options import RunOptions

    if engine is None:
        return RunOptions(batch=batch, threads=threads)
    return chosen([engine])[0].options(batch=batch, threads=threads)


def _keep(path: Path | None, kind: str, figures: Mapping[str, Any]) -> None:
    if path:
        record(path, kind, figures)
        click.echo(f"{path}: {kind} is in it")


def main() -> None:
    """Entry point: every refusal is one line on stderr and an exit code."""
    try:
        command.main(standalone_mode=False)
    except FlairError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        _fail(f"{error.format_message()} (see flair-bench --help)", 2)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", INTERRUPTED)


def _fail(message: str, exit_code: int) -> None:
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704  called while the error is handled
    click.echo(f"flair-bench: {message}", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
