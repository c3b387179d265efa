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
from flair_engine.manifest import read_model_spec
from flair_export.cards import CARDS
from flair_export.errors import VerificationError
from flair_export.publish import ExportOptions, export

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flair_engine.manifest import ModelSpec
    from flair_export.verify import Agreement, Verdict

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a command ended by Ctrl-C."""
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(
    "flair-export",
    context_settings=SETTINGS,
    epilog="`flair-export inspect MODEL.onnx` shows what an exported model holds.",
)
@click.argument("checkpoint")
@click.option("-o", "--output", metavar="MODEL.onnx", required=True, type=Path)
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
    "--no-context-crop",
    is_flag=True,
    help="Compute the whole tile, not only what its kept centre needs; to compare.",
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
    output: Path,
    model: str | None,
    outputs: str,
    tile_px: int,
    margin_px: int,
    verify: tuple[Path, ...],
    no_context_crop: bool,
    trust_checkpoint: bool,
    overwrite: bool,
    debug: bool,  # noqa: ARG001  read by main
) -> None:
    """Export a FLAIR checkpoint to one ONNX file and prove that it gives PyTorch's labels.

    CHECKPOINT is a .pth, .pt, .ckpt or .safetensors file, or a Hugging Face Hub id.
    """
    options = ExportOptions(
        model=model,
        outputs=tuple(name.strip() for name in outputs.split(",")),
        tile_px=tile_px,
        margin_px=margin_px,
        verify=verify,
        context_crop=not no_context_crop,
        trust_checkpoint=trust_checkpoint,
        overwrite=overwrite,
    )
    try:
        with Console(stderr=True).status("starting") as status:
            verdict = export(checkpoint, output, options, progress=status.update)
    except VerificationError as error:
        _print_verdict(error.verdict)
        raise
    _print_verdict(verdict)
    click.echo(f"\n{output} is ready. Next: {_next_command(output)}")


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
    """Repeat --verify before each of the names that follow it, as a shell expands `*.tif`."""
    spread: list[str] = []
    taking = False
    for previous, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("-"):
            taking = argument.partition("=")[0] == "--verify"
        elif taking and previous != "--verify":
            spread.append("--verify")
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
    table = Table(title="Labels of the ONNX file against PyTorch")
    table.add_column("")
    for title in ("pixels", "different", "equal %"):
        table.add_column(title, justify="right")
    for group in (verdict.sources, verdict.classes, (verdict.total,)):
        for entry in group:
            table.add_row(*_row(entry))
        table.add_section()
    console = Console()
    console.print(table)
    console.print(f"largest logit difference {verdict.logit_difference:.3g}")
    for name, counts in verdict.count_differences.items():
        console.print(f"largest {name} difference {counts} of 255")


def _row(entry: Agreement) -> tuple[str, str, str, str]:
    name = f"{entry.name} ({entry.note})" if entry.note else entry.name
    # Cut, not rounded: 100.0000 is said of nothing that differs somewhere.
    share = f"{floor(1e6 * entry.share) / 1e4:.4f}" if entry.pixels else "-"
    return name, f"{entry.pixels:,}", f"{entry.different:,}", share


def _print_spec(spec: ModelSpec) -> None:
    statistics = zip(spec.bands, spec.normalization.mean, spec.normalization.std, strict=True)
    for name, value in (
        ("name", spec.name),
        ("network", f"{spec.architecture}, {spec.precision}"),
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
