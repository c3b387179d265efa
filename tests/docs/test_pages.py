"""Links of the documentation lead somewhere, and its Python runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from doubles.pages import GUIDE, LINKED, ROOT, anchors, blocks, links


def broken(text, page):
    """Return the links of a page whose file or heading is not there."""
    return [target for target in links(text) if not leads_somewhere(target, text, page)]


def leads_somewhere(target, text, page):
    name, _, anchor = target.partition("#")
    path = page.parent / name
    if name and not path.exists():
        return False
    return not anchor or anchor in anchors(path.read_text(encoding="utf-8") if name else text)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken(page.read_text(encoding="utf-8"), page) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](maps.md) and [b](https://example.org)", []),
        ("[a](nowhere.md)", ["nowhere.md"]),
        ("# Two words, one `name`\n[a](#two-words-one-name)", []),
        ("# Here\n[a](#there)", ["#there"]),
        ("[a](maps.md#no-such-heading)", ["maps.md#no-such-heading"]),
        ("`[a](nowhere.md)`\n```sh\n[a](nowhere.md)\n```\n", []),
    ],
)
def test_broken_links_are_found(text, found):
    assert broken(text, ROOT / "docs" / "page.md") == found


def documented():
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in GUIDE
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"), 1)
    ]


BEFORE = """import numpy as np, rasterio
with rasterio.open("image.tif") as image:
    image_bhw = image.read()
"""
"""What a reader has at hand."""


@pytest.mark.parametrize("block", documented())
def test_python_runs_as_written(block, scratch):
    # A process of its own, as a reader's: what runtimes leave behind stays out of other tests.
    command = [sys.executable, "-c", f"{BEFORE}\n{block}"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
