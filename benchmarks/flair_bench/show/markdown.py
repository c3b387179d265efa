"""Markdown: figures written whole between two markers of a hand-written text.

`<!-- begin: figures NAME -->` and `<!-- end: figures NAME -->` stand alone on their lines; what
lies between them is replaced, NAME being one of BLOCKS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flair_bench.errors import MarkerError
from flair_bench.show.chapters.order import chapters
from flair_bench.show.recipes import RECIPES
from flair_bench.show.summary import headline, installing, machines
from flair_bench.show.territory import costs, needed, notes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from flair_bench.results import Result, Section
    from flair_bench.show.tables import Chapter, Table

MARKER = re.compile(r"<!-- (begin|end): figures (\S+) -->")


def with_figures(text: str, results: Sequence[Result], origin: str) -> str:
    """Return a text with every block between its markers made from results.

    `origin` names the text in messages. Raises MarkerError where it holds no markers, or such as
    do not come in pairs of a known name.
    """
    written, open_name = [], None
    names = set()
    for number, line in enumerate(text.splitlines(), 1):
        found = MARKER.fullmatch(line)
        if found is None:
            if open_name is None:
                written.append(line)
            continue
        kind, name = found.groups()
        _check_marker(kind, name, open_name, f"{origin}, line {number}")
        if kind == "begin":
            open_name = name
            names.add(name)
            written += [line, "", BLOCKS[name](results), ""]
        else:
            open_name = None
            written.append(line)
    if open_name is not None:
        raise MarkerError(f"{origin}: figures {open_name} begin and do not end", HOW)
    if not names:
        raise MarkerError(f"{origin}: holds no markers of figures", HOW)
    return "\n".join(written) + "\n"


FROM_A_CLONE = (
    "From a clone of the repository, `FLAIR` being a folder of FLAIR patches (`IMG_*.tif` and "
    "`MSK_*.tif`):"
)


def tables(results: Sequence[Result]) -> str:
    """Return everything measured, machine by machine, then the machines nobody measured."""
    parts = []
    for result in results:
        parts.append(f"## {_plain(result.machine.title)}")
        for section, chapter in chapters(result):
            parts += _chapter(section, chapter)
    parts += [
        "## Machines",
        _table(machines(results)),
        FROM_A_CLONE,
    ]
    parts.append("\n".join(f"- {recipe.machine}: `{recipe.command}`" for recipe in RECIPES))
    return "\n\n".join(parts)


def territories(results: Sequence[Result]) -> str:
    """Return what a département and a country cost, and which rates that is computed from."""
    parts = []
    for table in (costs(results), needed(results)):
        parts += [f"{_plain(table.title)}:", _table(table)]
    parts.append("\n".join(f"- {_plain(line)}" for line in notes(results)))
    return "\n\n".join(parts)


BLOCKS: Mapping[str, Callable[[Sequence[Result]], str]] = {
    "headline": headline,
    "installing": installing,
    "tables": tables,
    "territories": territories,
}
"""What can stand between markers, by name."""
HOW = (
    "put `<!-- begin: figures NAME -->` and `<!-- end: figures NAME -->` on lines of their own, "
    f"NAME being one of {', '.join(BLOCKS)}"
)


def _check_marker(kind: str, name: str, open_name: str | None, place: str) -> None:
    """Raise MarkerError where a marker may not stand after those before it."""
    if name not in BLOCKS:
        raise MarkerError(f"{place}: figures {name} are unknown", HOW)
    if kind == "begin" and open_name is not None:
        raise MarkerError(f"{place}: figures {name} begin within {open_name}", HOW)
    if kind == "end" and name != open_name:
        raise MarkerError(f"{place}: figures {name} end and did not begin", HOW)


def _chapter(section: Section[Any], chapter: Chapter) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in section.versions.items())
    parts = [f"### {chapter.title}", _plain(chapter.lead)]
    for table in chapter.tables:
        parts += [f"{_plain(table.title)}:", _table(table)]
    if chapter.notes:
        parts.append("\n".join(f"- {_plain(line)}" for line in chapter.notes))
    date, commit, command = section.date, section.commit, section.command.replace("`", "'")
    source = f"{_plain(f'{date}, commit {commit}')}, `{command}`; {_plain(versions)}."
    return [*parts, f"Measured {source}"]


def _table(table: Table) -> str:
    sides = ["---", *["---:"] * (len(table.columns) - 1)]
    lines = [table.columns, sides, *table.rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return _plain(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """Return a text in which nothing is HTML."""
    return text.replace("<", "&lt;")
