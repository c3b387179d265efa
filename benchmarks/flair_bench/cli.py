"""`flair-bench`: parse, measure, print a table, add a section to a result file."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from flair_bench.errors import WrongAnswerError
from flair_bench.measure.engines import Choice, chosen
from flair_bench.official import OFFICIAL_BATCH
from flair_bench.provenance import commit_at_start
from flair_bench.show.terminal import print_figures
from flair_engine.command import SETTINGS, run_command
from flair_engine.durable import write_whole
from flair_engine.options import RunOptions
from flair_engine.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flair_bench.figures import Figures

LOOK = "look at flair-bench parity on images of yours"


@click.group(context_settings=SETTINGS)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(version=__version__)
def command(debug: bool) -> None:  # noqa: ARG001  run_command reads it
    """Measure flair-engine: is it right, is it fast, and against what."""
    commit_at_start()


def every_engine(
    _context: click.Context, _parameter: click.Parameter, labels: tuple[str, ...]
) -> list[Choice]:
    """Return the engines of some labels, all where none is given. Raises EngineError."""
    return chosen(labels)


def one_engine(
    _context: click.Context, _parameter: click.Parameter, label: str | None
) -> Choice | None:
    """Return the engine of a label. Raises EngineError."""
    return None if label is None else chosen([label])[0]


with_result = click.option(
    "--json", "json_path", type=Path, help="Result file to put the figures into."
)
with_engines = click.option(
    "--engine",
    "choices",
    multiple=True,
    callback=every_engine,
    help="Engine; default: all there are.",
)


@command.command()
@click.argument("dataset", type=Path, required=False)
@click.option("-m", "--model", type=Path, help="ONNX file of margin 0.")
@click.option("--list", "lists", type=Path, multiple=True, help="Official CSV of the patches.")
@click.option("--confusion", "matrix_path", type=Path, help="Score this .npy matrix instead.")
@click.option(
    "--engine", "choice", callback=one_engine, help="Engine, e.g. ort or 'openvino bf16'."
)
@click.option("--batch", type=int, help="Tiles per inference; default: by device.")
@click.option("--threads", type=int, help="CPU threads; default: all.")
@with_result
def accuracy(
    dataset: Path | None,
    model: Path | None,
    lists: tuple[Path, ...],
    matrix_path: Path | None,
    choice: Choice | None,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Score a model on FLAIR patches (IMG_*.tif, MSK_*.tif anywhere below DATASET)."""
    check_kept(json_path, (dataset, model, matrix_path, *lists))
    from flair_bench.data.dataset import find_pairs
    from flair_bench.measure.accuracy import count_confusion, read_confusion, scorable, score

    if matrix_path:
        spec = scorable(model) if model else None
        matrix = read_confusion(matrix_path)
    elif model and dataset:
        spec = scorable(model)
        run = choice.options(**options) if choice else RunOptions(**options)
        with working() as (_, status):
            matrix = count_confusion(model, spec, find_pairs(dataset, lists), run, status)
    else:
        raise click.UsageError("give -m MODEL and DATASET, or --confusion MATRIX")
    show_and_keep(score(matrix, spec), json_path)


@command.command()
@click.argument("images", type=Path, nargs=-1, required=True)
@click.option("-m", "--model", required=True, type=Path, help="ONNX file to judge.")
@click.option("--reference", required=True, help="Its checkpoint: a file or Hub id.")
@with_engines
@click.option("--tolerance", type=float, help="Least share of equal labels; default: by precision.")
@with_result
def parity(
    images: tuple[Path, ...],
    model: Path,
    reference: str,
    choices: list[Choice],
    tolerance: float | None,
    json_path: Path | None,
) -> None:
    """Compare the labels of every engine with PyTorch FP32 on tiles of IMAGES."""
    check_kept(json_path, (*images, model, reference))
    from flair_bench.measure import parity as measurement
    from flair_bench.yardstick.networks import reference_network

    net = reference_network(reference, model)
    with working() as (_, status):
        figures = measurement.measure(net, model, images, choices, status)
    show_and_keep(figures, json_path)
    if found := measurement.faults(figures, tolerance):
        raise WrongAnswerError(f"{model}: {'; '.join(found)}", LOOK)


@command.command()
@click.argument("images", type=Path, nargs=-1)
@click.option("--reference", "checkpoint", required=True, help="Checkpoint: a file or Hub id.")
@click.option("--mask", "masks", type=Path, multiple=True, help="Masks of IMAGES, or a folder.")
@click.option("-m", "--model", "models", type=Path, multiple=True, help="Exports to compare.")
@click.option(
    "--engine",
    "choice",
    default="ort",
    show_default=True,
    callback=one_engine,
    help="Engine, e.g. 'openvino bf16'.",
)
@click.option("--repeats", type=int, default=3, show_default=True, help="Timings of each.")
@with_result
def geometry(
    images: tuple[Path, ...], masks: tuple[Path, ...], json_path: Path | None, **options: Any
) -> None:
    """Compare tiles and margins with the network run over IMAGES at once.

    IMAGES is one raster, the patches of one block, or their folder.
    """
    check_kept(json_path, (*images, *masks, *options["models"], options["checkpoint"]))
    from flair_bench.data.rasters import files_in, read_image
    from flair_bench.measure.geometry import GeometryOptions, cut_scene, measure

    truth = read_image(files_in(masks))[0] if masks else None
    scene = cut_scene(read_image(files_in(images)), truth)
    with working() as (_, status):
        figures = measure(GeometryOptions(**options), scene, status)
    show_and_keep(figures, json_path)


@command.command()
@click.argument("images", type=Path, nargs=-1)
@click.option("-m", "--model", "models", required=True, type=Path, multiple=True, help="Exports.")
@click.option("--reference", "checkpoint", help="Their checkpoint, for the PyTorch runners.")
@click.option("--size", "size_px", default=5120, show_default=True, help="Mirror IMAGES to this.")
@with_engines
@click.option("--batch", "batches", type=int, multiple=True, default=[1], show_default=True)
@click.option("--slots", type=int, multiple=True, default=[2], show_default=True)
@click.option(
    "--best-batch", default=OFFICIAL_BATCH, show_default=True, help="Batch of PyTorch at its best."
)
@click.option("--repeats", default=3, show_default=True, help="Rounds.")
@with_result
def throughput(images: tuple[Path, ...], json_path: Path | None, **options: Any) -> None:
    """Time the network alone and whole runs, beside PyTorch in the same run.

    IMAGES is one raster, the patches of one block, or their folder; without any, a drawn scene.
    """
    check_kept(json_path, (*images, *options["models"], options["checkpoint"]))
    from flair_bench.data.rasters import image_or_scene
    from flair_bench.measure import throughput as measurement
    from flair_engine.manifest import read_model_spec

    asked = measurement.ThroughputOptions(**options)
    image = image_or_scene(images, len(read_model_spec(asked.models[0]).bands))
    with working() as (folder, status):
        figures = measurement.measure(asked, image, folder, status)
    show_and_keep(figures, json_path)
    if found := measurement.faults(figures):
        raise WrongAnswerError(f"fast but wrong: {'; '.join(found)}", LOOK)


@command.command("io")
@click.argument("images", type=Path, nargs=-1)
@click.option("--size", "size_px", default=4096, show_default=True, help="Mirror IMAGES to this.")
@click.option("--repeats", default=3, show_default=True, help="Rounds after one to warm up.")
@with_result
def raster_io(images: tuple[Path, ...], json_path: Path | None, **options: Any) -> None:
    """Time reading and writing alone against GDAL, and measure memory.

    IMAGES is one raster, the patches of one block, or their folder; without any, a drawn scene.
    """
    check_kept(json_path, images)
    from flair_bench.data.rasters import image_or_scene
    from flair_bench.measure.raster_io import RasterIoOptions, measure
    from flair_export.cards import BANDS

    image = image_or_scene(images, len(BANDS))
    with working() as (folder, status):
        figures = measure(RasterIoOptions(**options), image, folder, status)
    show_and_keep(figures, json_path)


@command.command()
@click.argument("checkpoint")
@click.argument("images", type=Path, nargs=-1, required=True)
@click.option("--for", "hardware", type=click.Choice(["cpu", "gpu"]), help="Default: as here.")
@click.option("--equal", "least_percent", default=99.0, show_default=True, help="As for tune, %.")
def recommend(
    checkpoint: str, images: tuple[Path, ...], hardware: Any, least_percent: float
) -> None:
    """Try every tile, precision and engine on IMAGES: the tables behind flair-export tune.

    CHECKPOINT is a file or Hub id.
    """
    from flair_export.show import print_trials
    from flair_export.tuning import TuneOptions, hardware_here, try_geometries

    options = TuneOptions(hardware=hardware or hardware_here(), least_equal=least_percent / 100)
    with working() as (folder, status):
        for found in try_geometries(checkpoint, images, folder, options, status):
            print_trials(found)


@command.command()
@with_result
def install(json_path: Path | None) -> None:
    """Install the clone into fresh environments and run the demo there."""
    check_kept(json_path)
    from flair_bench.measure.install import measure

    with working() as (folder, status):
        figures = measure(folder, status)
    show_and_keep(figures, json_path)


@command.command()
@click.argument("results", type=Path, nargs=-1, required=True)
@click.option("-o", "--output", "page_path", type=Path, help="The page, ending in .html.")
@click.option(
    "--markdown",
    "text_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Text whose blocks between markers are replaced.",
)
def report(results: tuple[Path, ...], page_path: Path | None, text_path: Path | None) -> None:
    """Make one self-contained HTML page of result files, or put their figures into a text."""
    if page_path is None and text_path is None:
        raise click.UsageError("give -o PAGE.html, or --markdown FILE")
    from flair_bench.results import load

    if page_path:
        from flair_bench.show.page import check_page

        check_page(page_path, [*results, *([text_path] if text_path else [])])
    loaded = [load(path) for path in results]
    if text_path:
        from flair_bench.show.markdown import with_figures

        text = with_figures(text_path.read_text(encoding="utf-8"), loaded, str(text_path))
        write_whole(text_path, text.encode())
        click.echo(f"{text_path} holds the figures")
    if page_path:
        from flair_bench.show.page import html

        page_path.write_text(html(loaded), encoding="utf-8")
        click.echo(f"{page_path} is ready")


@command.command()
@click.option("--checkpoint", help="File or Hub id; default: a stand-in fitted on a drawn scene.")
@click.option("--data", type=Path, help="Folder of FLAIR patches; default: a drawn scene.")
@click.option("--size", "size_px", default=1536, show_default=True, help="Raster of whole runs.")
@click.option("--repeats", default=3, show_default=True, help="Rounds.")
@click.option("-o", "--output", required=True, type=Path, help="Result file, ending in .json.")
def suite(output: Path, **options: Any) -> None:
    """Run every measurement and write RESULT.json and RESULT.html."""
    from flair_bench.suite import SuiteOptions, run_suite

    output.parent.mkdir(parents=True, exist_ok=True)
    with working() as (_, status):
        page = run_suite(SuiteOptions(output=output, **options), status)
    click.echo(f"{output} and {page} are ready")


@contextmanager
def working() -> Iterator[tuple[Path, Callable[[str], None]]]:
    """Give a folder of scratch files and a function that says what is going on."""
    with TemporaryDirectory() as folder, Console(stderr=True).status("starting") as shown:
        yield Path(folder), lambda text: shown.update(escape(text))  # names are no markup


def check_kept(json_path: Path | None, inputs: Iterable[Path | str | None] = ()) -> None:
    """Refuse a result file that cannot take figures; see `results.check_place`.

    `inputs` are files that are read, None for one that is not given.
    """
    if json_path:
        from flair_bench.results import check_place

        check_place(json_path, [name for name in inputs if name])


def show_and_keep(figures: Figures, json_path: Path | None) -> None:
    """Print what a measurement says, and put it into a result file where one is named."""
    print_figures(figures)
    if json_path:
        from flair_bench.results import name_of, record

        record(json_path, figures)
        click.echo(f"{json_path}: {name_of(type(figures))} is in it")


def main() -> None:
    """Entry point of flair-bench."""
    run_command(command, "flair-bench")
