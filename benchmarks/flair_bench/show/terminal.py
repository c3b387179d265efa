"""The terminal: a chapter as aligned tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawing

from flair_bench.show.chapters.order import chapter

if TYPE_CHECKING:
    from flair_bench.figures import Figures
    from flair_bench.show.tables import Table

PIPE_COLUMNS = 180
"""A pipe has no width: the 80 columns taken for it would cut figures."""


def print_figures(figures: Figures) -> None:
    """Print what a measurement says."""
    shown = chapter(figures)
    click.echo(shown.lead)
    for table in shown.tables:
        _print_table(table)
    for line in shown.notes:
        click.echo(line)


def _print_table(table: Table) -> None:
    title = table.title
    drawn = Drawing(title=title, title_justify="left", min_width=min(len(title), 100))
    for position, column in enumerate(table.columns):
        drawn.add_column(column, justify="right" if position else "left")
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    console = Console()
    Console(width=None if console.is_terminal else PIPE_COLUMNS).print(drawn)
