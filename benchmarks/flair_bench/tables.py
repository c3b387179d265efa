"""What a measurement looks like on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under columns, the first column to the left, the others to the right."""
    drawn = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        drawn.add_column(column, justify="right" if position else "left")
    for row in rows:
        drawn.add_row(*row)
    # A pipe has no width: 80 columns would cut figures.
    console = Console()
    Console(width=None if console.is_terminal else 140).print(drawn)


def print_accuracy(figures: Mapping[str, Any]) -> None:
    """Show the scores of `flair_bench.accuracy.figures`."""
    rows = [
        (
            entry["name"],
            f"{entry['pixels']:,}",
            *(f"{entry[key]:.2f}" for key in ("iou", "f", "precision", "recall")),
            "-" if entry["published_iou"] is None else f"{entry['published_iou']:.2f}",
        )
        for entry in figures["classes"]
    ]
    for title, key in (("official mean", "official"), ("mean without snow", "without_snow")):
        means = figures[key]
        published = figures["published"]["miou"] * 15 / means["classes"]
        rows.append(
            (
                f"{title} (/{means['classes']})",
                "",
                *(f"{means[name]:.4f}" for name in ("iou", "f", "precision", "recall")),
                f"{published:.4f}" if means["classes"] in (14, 15) else "-",
            )
        )
    columns = ("class", "mask px", "IoU %", "F %", "precision %", "recall %", "card's IoU %")
    table(f"Accuracy on {figures['pixels']:,} px", columns, rows)
    click.echo(
        f"OA {figures['oa']:.4f} % (card's model on its test set {figures['published']['oa']} %)"
    )
    click.echo(
        f"labels of inactive classes {figures['predicted_inactive']:.4f} %, "
        f"mask pixels of inactive classes {figures['masked_inactive']:.4f} % (in no score)"
    )
