"""`flair-export`: parse, call `export`, print the verdict, return an exit code."""

from __future__ import annotations

import sys
import traceback
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from flair_engine.errors import FlairError
from flair_engine.manifest import PRECISIONS, read_model_spec
from flair_export.cards import CARDS
from flair_export.convert.fp16_graph import FP16_MAX
from flair_export.convert.plan import PrebuildOptions, prebuild
from flair_export.errors import OptionError
from flair_export.proof.verify import VerificationError
from flair_export.publish import ExportOptions, export, export_fp16, export_int8

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flair_engine.manifest import ModelSpec
    from flair_export.convert.fp16 import Fp16Verdict
    from flair_export.convert.int8 import Int8Verdict
    from flair_export.proof.compare import Comparison, EqualLabels
    from flair_export.proof.verify import Verdict

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a command ended by Ctrl-C."""
LAYERS_SHOWN = 5
IMAGE_OPTIONS = ("--verify", "--calibrate")
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(
    "flair-export",
    context_settings=SETTINGS,
    epilog="`flair-export inspect MODEL.onnx` shows what an exported model holds.",
)
@click.argument("checkpoint")
@click.option("-o", "--output", metavar="MODEL.onnx", type=Path)
@click.option("--model", metavar="NAME", help="Published model it is; default: what it holds.")
@click.option(
    "--outputs",
    metavar="NAMES",
    default="labels",
    show_default=True,
    help="labels[,confidence][,probabilities]",
)
@click.option("--tile", "tile_px", type=int, default=512, show_default=True, help="Tile edge, px.")
@click.option(
    "--margin",
    "margin_px",
    type=int,
    default=128,
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
    help="Build the TensorRT plan of an FP16 .onnx for this GPU, ahead of the first flair-run.",
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
    is_flag=True,
    help="Compute the whole tile as PyTorch does, not only what its kept centre needs; to compare.",
)
@click.option("--trust-checkpoint", is_flag=True, help="Load a pickle that can run code.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--list-models",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, asked: _list_models(context) if asked else None,
    help="Show the published models and exit.",
)
@click.version_option(package_name="flair-engine")
def export_command(
    checkpoint: str,
    output: Path | None,
    model: str | None,
    outputs: str,
    tile_px: int,
    margin_px: int,
    verify: tuple[Path, ...],
    precision: str,
    calibrate: tuple[Path, ...],
    engine: str | None,
    device: str | None,
    batch: int | None,
    plan_cache: Path | None,
    tactic_sources: str | None,
    no_context_crop: bool,
    trust_checkpoint: bool,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  read by main
) -> None:
    """Export a FLAIR checkpoint to one ONNX file and prove that it gives PyTorch's labels.

    CHECKPOINT is a .pth, .pt, .ckpt or .safetensors file, or a Hugging Face Hub id; with
    --precision fp16 or int8 and with --engine trt also an .onnx file made here.
    """
    is_onnx = Path(checkpoint).suffix == ".onnx"
    if engine:
        if not is_onnx:
            raise OptionError(
                f"{checkpoint}: --engine {engine} builds from an FP16 .onnx. Run first: "
                f"flair-export {checkpoint} --precision fp16 -o model.fp16.onnx"
            )
        plan_options = PrebuildOptions(
            device=device,
            batch=batch,
            plan_cache=plan_cache,
            tactic_sources=tactic_sources,
            verify=verify,
        )
        _build_plan(Path(checkpoint), plan_options)
        return
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output': the file to write")
    if is_onnx and precision == "fp32":
        raise OptionError(
            f"{checkpoint}: is exported already: add --precision fp16 or int8 or --engine trt, or "
            "give a checkpoint"
        )
    if calibrate and precision != "int8":
        raise OptionError(f"--calibrate is for --precision int8, not {precision}: leave it out")
    options = ExportOptions(
        model=model,
        outputs=tuple(name.strip() for name in outputs.split(",")),
        tile_px=tile_px,
        margin_px=margin_px,
        verify=verify,
        calibrate=calibrate,
        context_crop=not no_context_crop,
        trust_checkpoint=trust_checkpoint,
        overwrite=overwrite,
    )
    try:
        with Console(stderr=True).status("starting") as status:
            verdict, converted = _exported(precision, checkpoint, output, options, status.update)
    except VerificationError as error:
        _print_verdict(error.verdict)
        raise
    if verdict is not None:
        _print_verdict(verdict)
    if converted is not None:
        _print_converted(converted)
    click.echo(f"\n{output} is ready. Next: {_next_command(output)}")


def _exported(
    precision: str,
    checkpoint: str,
    output: Path,
    options: ExportOptions,
    progress: Callable[[str], None],
) -> tuple[Verdict | None, Fp16Verdict | Int8Verdict | None]:
    if precision == "fp16":
        return export_fp16(checkpoint, output, options, progress=progress)
    if precision == "int8":
        return export_int8(checkpoint, output, options, progress=progress)
    return export(checkpoint, output, options, progress=progress), None


def _build_plan(model: Path, options: PrebuildOptions) -> None:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with console.status("loading the model") as status:
        place = prebuild(model, options, console.print, status.update)
    click.echo(f"The plan for {place} is ready. Next: {_next_command(model)}")


@click.command("flair-export inspect", context_settings=SETTINGS)
@click.argument("model", metavar="MODEL.onnx", type=Path)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def inspect_command(model: Path, debug: bool) -> None:  # noqa: ARG001  debug is read by main
    """Show the manifest of an exported model and the command that runs it."""
    _print_spec(read_model_spec(model))
    click.echo(f"\nNext: {_next_command(model)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: every refusal is one line on stderr and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    inspecting = given[:1] == ["inspect"]
    command = inspect_command if inspecting else export_command
    try:
        command.main(_spread(given[1:] if inspecting else given), standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  one line, whatever it is
        if "--debug" in given:
            traceback.print_exception(error)
        code, message = _outcome(error)
        click.echo(f"flair-export: {message}", err=True)
        sys.exit(code)


def _outcome(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error and the line to print."""
    if isinstance(error, FlairError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return 2, f"{error.format_message()} (see flair-export --help)"
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED, "interrupted: nothing was written"
    return 1, f"failed with {type(error).__name__}: {error}. See where with --debug"


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


def _list_models(context: click.Context) -> None:
    table = Table(
        title="Published models; on the Hub each is IGNF/FLAIR-INC_<name>",
        caption="mIoU: over the classes of the model that occur in the test set",
    )
    for title in ("name", "bands", "classes", "OA %", "mIoU %", "statistics"):
        table.add_column(title)
    for card in CARDS:
        table.add_row(
            card.short_name,
            str(card.band_count),
            str(len(card.active)),
            _figure(card.oa_percent),
            _figure(card.miou_percent),
            "published" if card.statistics_published else "by analogy",
        )
    Console().print(table)
    context.exit()


def _figure(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}"


def _print_verdict(verdict: Verdict) -> None:
    _print_agreement("Labels of the ONNX file against PyTorch", verdict)
    console = Console()
    console.print(f"largest logit difference {verdict.logit_difference:.3g}")
    for name, counts in verdict.count_differences.items():
        console.print(f"largest {name} difference {counts} of 255")


def _print_converted(verdict: Fp16Verdict | Int8Verdict) -> None:
    from flair_export.convert.fp16 import Fp16Verdict

    if isinstance(verdict, Fp16Verdict):
        _print_half(verdict)
    else:
        _print_integer(verdict)


def _print_integer(verdict: Int8Verdict) -> None:
    _print_agreement("Labels of INT8 against FP32", verdict)
    click.echo(f"ranges measured on {verdict.measured}")
    total = len(verdict.integer) + len(verdict.kept_fp32)
    click.echo(f"{len(verdict.integer)} of {total} convolutions compute in INT8, in FP32 stay:")
    for name in verdict.kept_fp32:
        click.echo(f"  {name}")


def _print_half(half: Fp16Verdict) -> None:
    _print_agreement("Labels of FP16 against FP32 (weights only: a CPU computes in FP32)", half)
    click.echo(f"largest numbers by layer, where FP16 ends at {FP16_MAX:,.0f}:")
    for name, value in half.largest[:LAYERS_SHOWN]:
        click.echo(f"  {value:>12,.1f}  {name}")
    click.echo(f"layers kept in FP32 between Casts: {', '.join(half.kept_fp32) or 'none'}")


def _print_agreement(title: str, verdict: Comparison) -> None:
    table = Table(title=title)
    table.add_column("")
    for title in ("pixels", "different", "equal %"):
        table.add_column(title, justify="right")
    for group in (verdict.sources, verdict.classes, (verdict.total,)):
        for entry in group:
            table.add_row(*_row(entry))
        table.add_section()
    Console().print(table)


def _row(entry: EqualLabels) -> tuple[str, str, str, str]:
    name = f"{entry.name} ({entry.note})" if entry.note else entry.name
    # Cut, not rounded: 100.0000 is said of nothing that differs somewhere.
    share = f"{floor(1e6 * entry.share) / 1e4:.4f}" if entry.pixels else "-"
    return name, f"{entry.pixels:,}", f"{entry.different:,}", share


def _print_spec(spec: ModelSpec) -> None:
    statistics = zip(spec.bands, spec.normalization.mean, spec.normalization.std, strict=True)
    for name, value in (
        ("name", spec.name),
        ("network", f"{spec.architecture}, {spec.precision}"),
        *(
            [("labels of FP32", f"{spec.agreement_fp32:.2%} on the images it was made with")]
            if spec.agreement_fp32 is not None
            else []
        ),
        ("bands", ", ".join(f"{band} ({mean:g} ± {std:g})" for band, mean, std in statistics)),
        ("ground sampling", f"{spec.gsd_m:g} m"),
        ("tile", f"{spec.tile_px} px, margin {spec.margin_px} px, keeps {spec.core_px} px"),
        ("outputs", ", ".join(spec.outputs)),
        ("weights SHA-256", spec.weights_sha256),
        ("made by", spec.exporter),
    ):
        click.echo(f"{name:<16} {value}")
    classes = Table(title="Classes")
    for title in ("value", "name", "color", ""):
        classes.add_column(title)
    for entry in spec.classes:
        swatch = f"[on {entry.color}]    [/] {entry.color}"
        classes.add_row(str(entry.value), entry.name, swatch, "" if entry.active else "inactive")
    Console().print(classes)


if __name__ == "__main__":
    main()
