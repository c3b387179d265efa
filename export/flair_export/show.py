"""Verdicts, manifests and the list of models, printed for people."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flair_engine.texts import shown
from flair_export.cards import CARDS
from flair_export.convert.number_formats import FP16_MAX

if TYPE_CHECKING:
    from flair_engine.manifest import ModelSpec
    from flair_export.convert.deepness import DeepnessVerdict
    from flair_export.convert.fp16 import Fp16Verdict
    from flair_export.convert.int8 import Int8Verdict
    from flair_export.proof.compare import Comparison, EqualLabels
    from flair_export.proof.verify import Verdict
    from flair_export.trial import Trial
    from flair_export.tuning import Trials, Tuned

LAYERS_SHOWN = 5


def _console() -> Console:
    """Return a console that takes no name for markup or the code of an emoji."""
    return Console(markup=False, emoji=False)


def print_models() -> None:
    """Print the published models."""
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
    _console().print(table)


def _figure(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:.1f}"


def print_verdict(verdict: Verdict) -> None:
    """Print how an exported file compares with PyTorch."""
    _print_agreement("Labels of the ONNX file against PyTorch", verdict)
    console = _console()
    console.print(f"largest logit difference {verdict.logit_difference:.3g}")
    for name, counts in verdict.count_differences.items():
        console.print(f"largest {name} difference {counts} of 255")


def print_fp16(verdict: Fp16Verdict) -> None:
    """Print how an FP16 file compares with the FP32 one, and what comes near the end of FP16."""
    _print_agreement("Labels of FP16 against FP32 (weights only: a CPU computes in FP32)", verdict)
    click.echo(f"largest numbers by layer, where FP16 ends at {FP16_MAX:,.0f}:")
    for name, value in verdict.largest[:LAYERS_SHOWN]:
        click.echo(f"  {value:>12,.1f}  {shown(name)}")
    kept = shown(", ".join(verdict.kept_fp32))
    click.echo(f"layers kept in FP32 between Casts: {kept or 'none'}")


def print_deepness(verdict: DeepnessVerdict) -> None:
    """Print how a file for Deepness, fed as the plugin does, compares with the FP32 one."""
    _print_agreement("Labels in the Deepness plugin against FP32", verdict)
    click.echo(f"largest probability difference {verdict.share_difference:.2g}")


def print_int8(verdict: Int8Verdict) -> None:
    """Print how an INT8 file compares with the FP32 one, and what stays FP32."""
    _print_agreement("Labels of INT8 against FP32", verdict)
    click.echo(f"ranges measured on {shown(verdict.measured)}")
    total = len(verdict.int8) + len(verdict.kept_fp32)
    click.echo(f"{len(verdict.int8)} of {total} convolutions compute in INT8, in FP32 stay:")
    for name in verdict.kept_fp32:
        click.echo(f"  {shown(name)}")


def _print_agreement(title: str, verdict: Comparison) -> None:
    """Print equal labels; the lean is the share of the others that are the lower class."""
    table = Table(title=title)
    table.add_column("")
    for title in ("pixels", "different", "equal %", "lean %"):
        table.add_column(title, justify="right")
    images = verdict.images if len(verdict.images) > 1 else ()
    for group in (verdict.sources, images, verdict.classes, (verdict.total,)):
        for entry in group:
            table.add_row(*_row(entry))
        table.add_section()
    _console().print(table)


def _row(entry: EqualLabels) -> tuple[str, str, str, str, str]:
    name = f"{entry.name} ({entry.note})" if entry.note else entry.name
    # Cut, not rounded: 100.0000 is said of nothing that differs somewhere.
    share = f"{floor(1e6 * entry.share) / 1e4:.4f}" if entry.pixels else "-"
    lean = entry.difference.lean
    leaning = "-" if lean is None else f"{100 * lean:.0f}"
    return shown(name), f"{entry.pixels:,}", f"{entry.different:,}", share, leaning


def print_trials(found: Trials) -> None:
    """Print what every way did here."""
    table = Table(title=f"Tiles of {found.tile_px} px, {found.tiles} of them, on this machine")
    table.add_column("file and engine")
    for title in ("Mpx/s", "km²/h", "equal to FP32 %", "lean %"):
        table.add_column(title, justify="right")
    table.add_column("")
    for trial in found.trials:
        table.add_row(*trial_row(trial))
    _console().print(table)
    for note in found.notes:
        click.echo(shown(note))


def trial_row(trial: Trial) -> tuple[str, str, str, str, str, str]:
    """Return a way, its Mpx/s and km²/h, equal labels and lean in percent, and what is wrong."""
    rate, area, found = trial.new_mpx_per_s, trial.km2_per_h, trial.difference
    return (
        trial.way.name,
        "-" if rate is None else f"{rate:.2f}",
        "-" if area is None else f"{area:,.0f}",
        # Cut, not rounded: 100.0000 is said of nothing that differs somewhere.
        f"{floor(1e6 * found.share) / 1e4:.4f}" if found.pixels else "-",
        "-" if found.lean is None else f"{100 * found.lean:.0f}",
        shown(trial.fault),
    )


def expected_of(found: Tuned) -> str:
    """Return what a tuned file is, and how fast it is expected to be."""
    spec, trial = found.way.spec, found.trial
    what = f"{spec.precision} at tiles of {spec.tile_px} px, margin {spec.margin_px}: "
    if trial is None or trial.new_mpx_per_s is None or trial.km2_per_h is None:
        return f"{what}not measured, as this machine does not run it"
    return (
        f"{what}{trial.new_mpx_per_s:.2f} Mpx/s, {trial.km2_per_h:,.0f} km²/h, reading apart, "
        f"{floor(1e4 * trial.difference.share) / 1e2:.2f} % of labels FP32's"
    )


def print_spec(spec: ModelSpec) -> None:
    """Print a manifest."""
    for name, value in _facts(spec).items():
        click.echo(f"{name:<16} {value}")
    classes = Table(title="Classes")
    for title in ("value", "name", "color", ""):
        classes.add_column(title)
    for entry in spec.classes:
        swatch = Text.assemble(("    ", f"on {entry.color}"), f" {entry.color}")
        classes.add_row(str(entry.value), entry.name, swatch, "" if entry.active else "inactive")
    _console().print(classes)


def _facts(spec: ModelSpec) -> dict[str, str]:
    """Return what a manifest says but its classes, by name, in the order to print."""
    statistics = zip(spec.bands, spec.normalization.mean, spec.normalization.std, strict=True)
    agreement = (
        {}
        if spec.agreement_fp32 is None
        else {"labels of FP32": f"{spec.agreement_fp32:.2%} on the images it was made with"}
    )
    return {
        "name": spec.name,
        "network": f"{spec.architecture}, {spec.precision}",
        **agreement,
        "bands": ", ".join(f"{band} ({mean:g} ± {std:g})" for band, mean, std in statistics),
        "ground sampling": f"{spec.gsd_m:g} m",
        "tile": f"{spec.tile_px} px, margin {spec.margin_px} px, keeps {spec.core_px} px",
        "outputs": ", ".join(spec.outputs),
        "weights SHA-256": spec.weights_sha256,
        "made by": spec.exporter,
    }
