"""Pages of the documentation taken apart: fenced blocks, commands, links and headings."""

from __future__ import annotations

import re

from doubles.paths import ROOT

GUIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Pages whose commands run as written from the root of a clone."""
LINKED = [
    *GUIDE,
    ROOT / "ARCHITECTURE.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "engine" / "docker" / "README.md",
    ROOT / "benchmarks" / "LOG.md",
]
"""Pages whose links lead somewhere."""
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ ]*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
CODE = re.compile(r"`[^`\n]*`")


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return [body for named, body in FENCE.findall(text) if named == language]


def commands(block: str) -> list[str]:
    """Return the commands of a block; `\\` at a line's end continues it, `#` begins a comment."""
    lines = block.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and line.lstrip()[0] != "#"]


def links(text: str) -> list[str]:
    """Return where the links of a page lead that stay in the repository."""
    targets = LINK.findall(CODE.sub("", FENCE.sub("", text)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
