"""Figures of README and CHANGELOG come from a committed result file.

A figure is marked `<!-- figure: results/FILE.json kind.key.key .1f -->4.6<!-- /figure -->`: the
file under benchmarks/, the path of `flair_bench.results.at`, and how Python formats it.
"""

import re
from pathlib import Path

import pytest

from flair_bench import results

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"<!-- figure: (\S+) (.+?) (\S+) -->(.*?)<!-- /figure -->", re.DOTALL)


def wrong_figures(text, folder):
    """Return what a text says that the result files in `folder` do not."""
    faults = []
    for file, path, form, said in FIGURE.findall(text):
        figure = format(results.at(results.load(folder / file), path), form)
        if figure != said:
            faults.append(f"{path} of {file} is {figure}, the text says {said}")
    if text.count("<!-- figure:") != len(FIGURE.findall(text)):
        faults.append("a figure is marked but not closed")
    return faults


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_figures_are_measured(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert wrong_figures(text, ROOT / "benchmarks") == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("<!-- figure: r.json io.memory.5000 px file .0f -->351<!-- /figure --> MiB", []),
        (
            "<!-- figure: r.json io.rate .1f -->4.6<!-- /figure -->",
            ["io.rate of r.json is 4.5, the text says 4.6"],
        ),
        ("<!-- figure: r.json io.rate .1f -->4.5", ["a figure is marked but not closed"]),
    ],
)
def test_figures_that_were_not_measured_are_found(text, faults, tmp_path):
    results.record(tmp_path / "r.json", "io", {"rate": 4.5, "memory": {"5000 px file": 351.2}})
    assert wrong_figures(text, tmp_path) == faults
