"""`flair-export`: parse, call `export`, print the verdict, return an exit code."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape

from flair_engine.command import SETTINGS, run_command
from flair_engine.manifest import PRECISIONS, read_model_spec
from flair_engine.tolerances import INT8_FILE_EQUAL
from flair_engine.version import __version__
from flair_export.cards import MARGIN_PX, OFFICIAL_TILE_PX, TILE_PX
from flair_export.convert.plan import (
    AheadOptions,
    PrebuildOptions,
    build_ahead,
    prebuild_plan,
)
from flair_export.errors import OptionError
from flair_export.proof.verify import VerificationError
from flair_export.publish import (
    ExportOptions,
    export,
    export_deepness,
    export_fp16,
    export_int8,
    is_onnx,
)
from flair_export.show import (
    expected_of,
    print_deepness,
    print_fp16,
    print_int8,
    print_models,
    print_spec,
    print_trials,
    print_verdict,
)
from flair_export.stac import check_item, is_item, item_path, write_item
from flair_export.trial import Hardware
from flair_export.tuning import TuneOptions, hardware_here, tune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FLAVOURS = ("flair", "deepness")
PLUGIN = "in QGIS, Plugins, Deepness, Model file path"
IMAGE_OPTIONS = ("--verify", "--calibrate")
"""Options that take every name up to the next option."""


def names(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    """Return `labels,confidence` as names, none where the option is not given."""
    return () if value is None else tuple(name.strip() for name in value.split(","))


def negated(_context: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    """Return what is left on unless a flag is given."""
    return not value


def list_models(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    """Print the published models and exit, where asked to."""
    if asked:
        print_models()
        context.exit()


@click.command(
    "flair-export",
    context_settings=SETTINGS,
    epilog="`flair-export inspect MODEL.onnx` shows what an exported model holds, `flair-export "
    "tune CHECKPOINT IMAGE...` makes the fastest one for this machine.",
)
@click.argument("checkpoint")
@click.option("-o", "--output", metavar="MODEL.onnx", type=Path, help="With --for: MODEL.plan.")
@click.option("--model", metavar="NAME", help="Published model it is; default: what it holds.")
@click.option(
    "--outputs",
    metavar="NAMES",
    callback=names,
    default="labels",
    show_default=True,
    help="labels[,confidence][,probabilities]",
)
@click.option(
    "--tile",
    "tile_px",
    type=int,
    default=TILE_PX,
    show_default=True,
    help=f"Tile edge, px; {OFFICIAL_TILE_PX} is the official tool's.",
)
@click.option(
    "--margin",
    "margin_px",
    type=int,
    default=MARGIN_PX,
    show_default=True,
    help="Context on each side of a tile whose labels are not kept, px.",
)
@click.option(
    "--verify",
    metavar="IMAGE...",
    multiple=True,
    type=Path,
    help="Also prove the export on these rasters, all names up to the next option.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="fp16 is what TensorRT runs, int8 is for CPUs; of a checkpoint, or of an FP32 .onnx "
    "without torch.",
)
@click.option(
    "--calibrate",
    metavar="IMAGE...",
    multiple=True,
    type=Path,
    help="With int8: rasters like those to be mapped, all names up to the next option.",
)
@click.option(
    "--engine",
    type=click.Choice(["trt"]),
    help="Build the TensorRT plan of an FP16 .onnx ahead of the first flair-run: for this GPU, "
    "or with --for.",
)
@click.option(
    "--for",
    "cards",
    metavar="smNN,...",
    callback=names,
    help="With --engine: write a plan for cards of these compute capabilities to -o, e.g. "
    "sm86,sm89; needs no GPU.",
)
@click.option("--device", metavar="cuda:N", help="With --engine: the GPU to build for.")
@click.option("--batch", type=int, help="With --engine: tiles per inference, as for flair-run.")
@click.option(
    "--plan-cache",
    type=click.Path(path_type=Path),
    envvar="FLAIR_PLAN_CACHE",
    help="With --engine: folder of plans, as for flair-run.",
)
@click.option(
    "--tactic-sources", metavar="±NAME,...", help="With --engine: as in trtexec, e.g. -CUBLAS."
)
@click.option(
    "--no-context-crop",
    "context_crop",
    is_flag=True,
    callback=negated,
    help="Compute the whole tile as PyTorch does, not only what its kept centre needs; to compare.",
)
@click.option(
    "--flavour",
    type=click.Choice(FLAVOURS),
    default="flair",
    show_default=True,
    help="flair is what flair-run reads, deepness what the plugin of QGIS does; of a checkpoint, "
    "or of an FP32 .onnx of margin 0.",
)
@click.option(
    "--stac",
    is_flag=True,
    help="Describe the model in NAME.stac.json beside it; of an .onnx made here, without -o.",
)
@click.option("--trust-checkpoint", is_flag=True, help="Load a pickle that can run code.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model of flair-export.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=list_models,
    help="Show the published models and exit.",
)
@click.version_option(version=__version__)
def export_command(
    checkpoint: str,
    output: Path | None,
    precision: str,
    engine: str | None,
    flavour: str,
    stac: bool,
    debug: bool,  # noqa: ARG001  run_command reads it
    **options: Any,
) -> None:
    """Export a FLAIR checkpoint to one ONNX file and prove that it gives PyTorch's labels.

    CHECKPOINT is a .pth, .pt, .ckpt or .safetensors file, or a Hugging Face Hub id; with
    --precision fp16 or int8, --flavour deepness, --engine trt and --stac also an .onnx file
    made here.
    """
    deepness = flavour == "deepness"
    if deepness:
        check_deepness(engine=engine, stac=stac, precision=precision)
    if engine or options["cards"]:
        write_plan(checkpoint, engine, output, options)
        return
    described = stac and is_onnx(checkpoint) and precision == "fp32"
    model = Path(checkpoint) if output is None and described else output
    if model is None:
        raise click.UsageError("Missing option '-o' / '--output': the file to write")
    if stac:
        check_item(model, overwrite=options["overwrite"])
    if output is not None:
        check_source(checkpoint, precision, options, deepness=deepness)
        write_file(checkpoint, output, "deepness" if deepness else precision, options)
    if stac:
        click.echo(f"{write_item(model)} describes it.")
    elif is_item(item := item_path(model)):
        click.echo(f"note: {item} describes the file that was here before")


def write_file(checkpoint: str, output: Path, kind: str, options: dict[str, Any]) -> None:
    """Write a file of a precision or flavour, print the verdicts and what can be done with it."""
    try:
        EXPORTERS[kind](checkpoint, output, ExportOptions(**_of(ExportOptions, options)))
    except VerificationError as error:
        print_verdict(error.verdict)
        raise
    then = PLUGIN if kind == "deepness" else _next_command(output)
    click.echo(f"\n{output} is ready. Next: {then}")


def check_source(
    checkpoint: str, precision: str, options: dict[str, Any], *, deepness: bool
) -> None:
    """Raise OptionError for choices that make no file of a source."""
    if is_onnx(checkpoint) and precision == "fp32" and not deepness:
        raise OptionError(
            f"{checkpoint}: is exported already",
            "add --precision fp16 or int8, --flavour deepness or --engine trt, or give a "
            "checkpoint",
        )
    if options["calibrate"] and precision != "int8":
        raise OptionError(f"--calibrate is for --precision int8, not {precision}", "leave it out")


def check_deepness(*, engine: str | None, stac: bool, precision: str) -> None:
    """Raise OptionError for what a file for the plugin cannot be."""
    given = click.get_current_context().get_parameter_source
    chosen = {name: given(name) is not ParameterSource.DEFAULT for name in ("margin_px", "outputs")}
    refused = {
        "--engine": engine is not None,
        "--precision": precision != "fp32",
        "--margin": chosen["margin_px"],
        "--outputs": chosen["outputs"],
        "--stac": stac,
    }
    if found := [name for name, is_given in refused.items() if is_given]:
        raise OptionError(
            f"{' and '.join(found)} make no file for Deepness: it is FP32, of probabilities, "
            "without a margin, and described by itself",
            "leave that out",
        )


def _of(kind: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return those of the command's options that are fields of a dataclass."""
    return {field.name: options[field.name] for field in fields(kind)}


def check_plan(engine: str | None, output: Path | None, options: dict[str, Any]) -> None:
    """Raise OptionError for options that do not go with a plan."""
    if not engine:
        raise OptionError("--for names the cards of a plan", "add --engine trt")
    if not options["cards"]:
        if output is not None:
            raise OptionError(
                f"the plan for this machine's GPU is kept in the plan folder, not in {output}",
                "leave out -o, or name cards with --for",
            )
        return
    if output is None:
        raise OptionError("--for writes a file", "name it with -o MODEL.plan")
    source = click.get_current_context().get_parameter_source
    for name in ("device", "verify", "plan_cache"):
        if source(name) is ParameterSource.COMMANDLINE:
            raise OptionError(
                f"--{name.replace('_', '-')} is for a plan that is judged on this machine's GPU, "
                "one built with --for is judged where it first meets a GPU",
                "leave it out",
            )


def write_plan(
    model: str, engine: str | None, output: Path | None, options: dict[str, Any]
) -> None:
    """Build the plan of an FP16 file, for this machine's GPU or for named cards; say for what."""
    check_plan(engine, output, options)
    if not is_onnx(model):
        raise OptionError(
            f"{model}: --engine {engine} builds from an FP16 .onnx",
            f"run flair-export {model} --precision fp16 -o model.fp16.onnx first",
        )
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with console.status("loading the model") as line:

        def show(text: str) -> None:
            line.update(escape(text))

        if output is not None:
            ahead = AheadOptions(**_of(AheadOptions, options | {"output": output}))
            said = build_ahead(Path(model), ahead, show)
            command = f"flair-run -m {model} --plan {output} INPUT.tif OUTPUT.tif"
        else:
            prebuild = PrebuildOptions(**_of(PrebuildOptions, options))
            place = prebuild_plan(Path(model), prebuild, console.print, show)
            said = f"The plan for {place} is ready"
            command = _next_command(Path(model))
    click.echo(f"{said}. Next: {command}")


def write_fp32(checkpoint: str, output: Path, options: ExportOptions) -> None:
    """Export a checkpoint and print the verdict."""
    with _told() as status:
        verdict = export(checkpoint, output, options, status=status)
    print_verdict(verdict)


def write_deepness(source: str, output: Path, options: ExportOptions) -> None:
    """Convert an FP32 file, or a checkpoint exported first, for Deepness; print the verdicts."""
    with _told() as status:
        exported, converted = export_deepness(source, output, options, status=status)
    if exported:
        print_verdict(exported)
    print_deepness(converted)


def write_fp16(source: str, output: Path, options: ExportOptions) -> None:
    """Convert an FP32 file, or a checkpoint exported first, to FP16 and print the verdicts."""
    with _told() as status:
        exported, converted = export_fp16(source, output, options, status=status)
    if exported:
        print_verdict(exported)
    print_fp16(converted)


def write_int8(source: str, output: Path, options: ExportOptions) -> None:
    """Convert an FP32 file, or a checkpoint exported first, to INT8 and print the verdicts."""
    with _told() as status:
        exported, converted = export_int8(source, output, options, status=status)
    if exported:
        print_verdict(exported)
    print_int8(converted)


EXPORTERS = {
    "fp32": write_fp32,
    "fp16": write_fp16,
    "int8": write_int8,
    "deepness": write_deepness,
}
"""What writes and shows a file, by its precision or flavour."""


@contextmanager
def _told() -> Iterator[Callable[[str], None]]:
    """Show one line that says what is being done; yield what changes it."""
    with Console(stderr=True).status("starting") as line:
        yield lambda text: line.update(escape(text))  # names are no markup


@click.command("flair-export inspect", context_settings=SETTINGS)
@click.argument("model", metavar="MODEL.onnx", type=Path)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def inspect_command(model: Path, debug: bool) -> None:  # noqa: ARG001  run_command reads debug
    """Show the manifest of an exported model and the command that runs it."""
    print_spec(read_model_spec(model))
    click.echo(f"\nNext: {_next_command(model)}")


@click.command("flair-export tune", context_settings=SETTINGS)
@click.argument("checkpoint")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=Path)
@click.option("-o", "--output", required=True, metavar="MODEL.onnx", type=Path)
@click.option(
    "--for",
    "hardware",
    type=click.Choice(get_args(Hardware)),
    help="What maps are to be made on; default: the GPU, where there is NVIDIA's driver.",
)
@click.option(
    "--equal",
    "least_percent",
    type=float,
    default=100 * INT8_FILE_EQUAL,
    show_default=True,
    help="Least share of labels that have to be FP32's, %.",
)
@click.option("--model", metavar="NAME", help="Published model it is; default: what it holds.")
@click.option(
    "--outputs",
    metavar="NAMES",
    callback=names,
    default="labels",
    show_default=True,
    help="labels[,confidence][,probabilities]",
)
@click.option("--trust-checkpoint", is_flag=True, help="Load a pickle that can run code.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model of flair-export.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def tune_command(
    checkpoint: str,
    images: tuple[Path, ...],
    output: Path,
    hardware: Hardware | None,
    least_percent: float,
    debug: bool,  # noqa: ARG001  run_command reads it
    **options: Any,
) -> None:
    """Make the file of CHECKPOINT that labels fastest here, and judge it on IMAGE.

    IMAGE are rasters like those to be mapped, two or more where there are: INT8 is measured on some
    and all is judged by the others. Tile by memory, precision by what the machine computes fastest
    while labels stay FP32's.
    """
    asked = TuneOptions(
        hardware=hardware or hardware_here(),
        least_equal=least_percent / 100,
        export=ExportOptions(**options),
    )
    with _told() as status:
        found = tune(checkpoint, images, output, asked, status)
    print_trials(found.tried)
    way = found.way
    click.echo(f"\n{output} is {expected_of(found)}")
    click.echo(f"Next: flair-run -m {output} {way.arguments} INPUT.tif OUTPUT.tif")


VERBS = {"inspect": inspect_command, "tune": tune_command}
"""Commands beside the export, by the first word."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of flair-export."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verb = VERBS.get(given[0]) if given else None
    run_command(
        verb or export_command,
        "flair-export",
        kept="nothing was written",
        arguments=given[1:] if verb else _spread(given),
    )


def _spread(arguments: Sequence[str]) -> list[str]:
    """Repeat an option of IMAGE... before each name that follows it, as a shell expands `*.tif`."""
    spread: list[str] = []
    taking = ""
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("-"):
            option = argument.partition("=")[0]
            taking = option if option in IMAGE_OPTIONS else ""
        elif taking and previous != taking:
            spread.append(taking)
        spread.append(argument)
    return spread


def _next_command(model: Path) -> str:
    return f"flair-run -m {model} INPUT.tif OUTPUT.tif"
