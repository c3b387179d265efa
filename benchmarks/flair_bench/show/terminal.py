"""The terminal: a chapter as aligned tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table as Drawing

from flair_bench.show.chapters.order import chapter
from flair_engine.texts import shown

if TYPE_CHECKING:
    from flair_bench.figures import Figures
    from flair_bench.show.tables import Table

PIPE_COLUMNS = 180
"""A pipe has no width: the 80 columns taken for it would cut figures."""


def print_figures(figures: Figures) -> None:
    """Print what a measurement says."""
    said = chapter(figures)
    click.echo(shown(said.lead))
    for table in said.tables:
        _print_table(table)
    for line in said.notes:
        click.echo(shown(line))


def _print_table(table: Table) -> None:
    title = shown(table.title)
    drawn = Drawing(title=title, title_justify="left", min_width=min(len(title), 100))
    for position, column in enumerate(table.columns):
        drawn.add_column(shown(column), justify="right" if position else "left")
    for row in table.rows:
        drawn.add_row(*map(shown, row))
    width = None if Console().is_terminal else PIPE_COLUMNS
    Console(width=width, markup=False, emoji=False).print(drawn)  # names are no markup
