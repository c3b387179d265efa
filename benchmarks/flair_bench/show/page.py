"""The page: result files as one self-contained HTML file."""

from __future__ import annotations

import base64
import io
import os
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from flair_bench.results import check_folder
from flair_bench.show import plots
from flair_bench.show.chapters.order import chapters
from flair_bench.show.recipes import RECIPES
from flair_bench.show.summary import computed_bounds, every_run, machines
from flair_engine.errors import OutputError
from flair_engine.overwriting import refuse_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from flair_bench.results import Result, Section
    from flair_bench.show.tables import Chapter, Table

DPI = 110
TITLE = "<title>flair-engine, measured</title>"
"""What tells our page from others."""
CSS = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1d2733; background: #fff;
       max-width: 62rem; margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; }
h2 { margin-top: 2.8rem; border-bottom: 1px solid #dde3e9; padding-bottom: .3rem; }
h3 { margin: 1.8rem 0 .4rem; }
img { max-width: 100%; display: block; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0; }
caption { text-align: left; color: #4a5866; padding: .2rem 0; }
th, td { padding: .28rem .7rem; text-align: right; border-bottom: 1px solid #e6ebf0; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: #4a5866; }
code { background: #f2f5f7; padding: .1rem .3rem; border-radius: 3px; font-size: .87em;
       overflow-wrap: anywhere; }
p.source { color: #66747f; font-size: .86rem; }
.bound { color: #8a5a00; }
.table { overflow-x: auto; }
"""


def check_page(path: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError unless a page can be put at `path`: nothing but another is replaced."""
    refuse_inputs([path], map(str, inputs))
    check_folder(path)
    if os.path.lexists(path) and not _is_page(path):
        raise OutputError(
            f"{path}: exists already and is no page of flair-bench",
            "give a name that does not exist",
        )


def _is_page(path: Path) -> bool:
    return path.is_file() and TITLE.encode() in path.read_bytes()


def html(results: Sequence[Result]) -> str:
    """Return the page: every run, a part per machine, then the machines nobody measured."""
    body = ["<h1>flair-engine, measured</h1>", _table(every_run(results))]
    for result in results:
        body.append(f"<h2>{escape(result.machine.title)}</h2>")
        for section, chapter in chapters(result):
            body += _chapter(section, chapter)
    body += ["<h2>Machines</h2>", _table(machines(results))]
    body += [
        f"<p>{escape(recipe.machine)}: <code>{escape(recipe.command)}</code></p>"
        for recipe in RECIPES
    ]
    if (bounds := computed_bounds(results)) is not None:
        explained, table = bounds
        body += [f'<p class="bound">{escape(explained)}</p>', _table(table)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"{TITLE}<style>{CSS}</style></head><body>" + "\n".join(body) + "</body></html>\n"
    )


def _chapter(section: Section[Any], chapter: Chapter) -> list[str]:
    """Return one measurement: what it says, its pictures, where it comes from."""
    versions = ", ".join(f"{name} {version}" for name, version in section.versions.items())
    with mpl.rc_context(plots.STYLE):
        images = [_image(figure) for figure in plots.pictures(section.figures)]
    return [
        f"<h3>{escape(chapter.title)}</h3>",
        f"<p>{escape(chapter.lead)}</p>",
        *map(_table, chapter.tables),
        *(f"<p>{escape(line)}</p>" for line in chapter.notes),
        *images,
        (
            f'<p class="source">{escape(section.date)}, commit {escape(section.commit)}, '
            f"<code>{escape(section.command)}</code><br>{escape(versions)}</p>"
        ),
    ]


def _image(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{content}">'


def _table(table: Table) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in table.columns)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
    cells = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="table"><table><caption>{escape(table.title)}</caption>'
        f"<tr>{titles}</tr>{cells}</table></div>"
    )
