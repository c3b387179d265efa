"""Figures in texts are those of the committed results, and a changed one is found."""

import re
from dataclasses import replace

import pytest
from doubles.figures import CPU, EVERY_KIND, result_of, throughput, with_mark
from doubles.paths import COMMITTED, ROOT

from flair_bench.errors import MarkerError
from flair_bench.results import load
from flair_bench.show.markdown import MARKER, tables, with_figures

RESULTS = [load(path) for path in COMMITTED]
MEASURED = [result_of(CPU, throughput())]
PERFORMANCE = ROOT / "docs/performance.md"
TEXT = "Before.\n<!-- begin: figures headline -->\nold\n<!-- end: figures headline -->\nAfter.\n"


def marked():
    """Return the texts of the repository that hold markers."""
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [p for p in texts if any(map(MARKER.fullmatch, p.read_text("utf-8").splitlines()))]


def test_the_page_on_performance_holds_figures():
    assert PERFORMANCE in marked()


@pytest.mark.parametrize("path", marked(), ids=lambda path: path.name)
def test_figures_in_texts_are_those_that_were_measured(path):
    text = path.read_text("utf-8")
    assert with_figures(text, RESULTS, path.name) == text, (
        "run: flair-bench report benchmarks/results/[!l]*.json --markdown FILE"
    )


def test_a_changed_figure_is_found():
    text = PERFORMANCE.read_text("utf-8")
    fastest = min(
        run.wall_s
        for result in RESULTS
        for run in result.sections["throughput"].figures.own_runs.values()
    )
    said = f"{fastest:.1f} ("
    assert said in text
    changed = text.replace(said, f"{fastest / 2:.1f} (")
    assert with_figures(changed, RESULTS, "performance.md") == text
    slower = throughput(size_px=3072)
    other = [*RESULTS, result_of(CPU, slower)]
    assert with_figures(text, other, "performance.md") != text


def test_only_what_lies_between_markers_is_replaced():
    once = with_figures(TEXT, MEASURED, "README.md")
    assert once.startswith("Before.\n<!-- begin: figures headline -->\n\nOn Some CPU, 2 cores, a ")
    assert once.endswith(".\n\n<!-- end: figures headline -->\nAfter.\n")
    assert "old" not in once
    assert with_figures(once, MEASURED, "README.md") == once


def test_tables_hold_every_chapter_and_what_nobody_measured():
    text = tables([result_of(CPU, *(make() for make in EVERY_KIND))])
    for said in (
        "## Some CPU, 2 cores, 24 GiB, no GPU",
        "### How fast",
        "| ort fp32 512-128 | 10.0 (9.0 to 11.0) | 1.0 | 20.0 | 300 | 4.50 (4.00 to 5.00) |",
        "### Reading and writing",
        "| read tiled JPEG | 50.0 | 100.0 | 0.50 | 0.40 to 0.60 | 4 / 4 |",
        "| V100 | not measured | not measured |",
        "- V100: `pip install --extra-index-url",
    ):
        assert said in text


def test_a_bar_in_a_cell_does_not_end_it():
    strange = replace(CPU, gpu="NVIDIA V100 | x")
    figures = throughput()
    runs = {"ort | x": figures.runs["ort"]}
    assert r"| ort \| x fp32 512-128 |" in tables([result_of(strange, replace(figures, runs=runs))])


@pytest.mark.parametrize("make", EVERY_KIND)
@pytest.mark.parametrize("mark", ["<script>", "`<script>", "<!-- end: figures tables -->"])
def test_no_text_of_a_result_file_is_html(make, mark):
    written = tables([with_mark(result_of(CPU, make()), mark)])
    assert "&lt;" in written
    outside_code = re.sub(r"`[^`\n]*`", "", written)
    assert "<" not in outside_code
    assert not any(map(MARKER.fullmatch, written.splitlines()))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "nothing\n",
            r"README.md: holds no markers of figures: put `<!-- begin: .*one of headline, inst",
        ),
        (
            "<!-- begin: figures speed -->\n<!-- end: figures speed -->\n",
            r"README.md, line 1: figures speed are unknown: put",
        ),
        ("x\n<!-- begin: figures tables -->\n", r"README.md: figures tables begin and do not end"),
        ("x\n<!-- end: figures tables -->\n", r"line 2: figures tables end and did not begin"),
        (
            "<!-- begin: figures tables -->\n<!-- begin: figures headline -->\n",
            r"line 2: figures headline begin within tables",
        ),
        (
            "<!-- begin: figures tables -->\n<!-- end: figures headline -->\n",
            r"line 2: figures headline end and did not begin",
        ),
    ],
)
def test_texts_without_pairs_of_known_markers_are_refused(text, fault):
    with pytest.raises(MarkerError, match=fault):
        with_figures(text, MEASURED, "README.md")
