"""The page holds what was measured, and says of the rest that it was not."""

import re

from doubles.figures import CPU, EVERY_KIND, result_of, throughput

from flair_bench.results import Result
from flair_bench.show.page import html


def cells_of(page, first):
    row = re.search(rf"<tr><td>{first}</td>.*?</tr>", page)
    assert row, first
    return re.findall(r"<td>(.*?)</td>", row[0])


def test_machines_nobody_measured_come_with_their_recipe():
    page = html([result_of(CPU, throughput())])
    for machine in ("V100", "A100", "H100 or H200"):
        assert cells_of(page, machine)[1:] == ["not measured", "not measured"]
        assert re.search(rf"<p>{machine}: <code>pip install .* flair-bench suite ", page)
    assert "computed bound, not a measurement" in page


def test_the_page_is_self_contained_and_holds_every_chapter():
    page = html([result_of(CPU, *(make() for make in EVERY_KIND))])
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 7
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<h2>Some CPU, 2 cores, 24 GiB, no GPU</h2>" in page
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    assert titles == [
        "How fast", "The same labels", "Accuracy", "Tile and margin", "Reading and writing",
        "Installing",
    ]  # fmt: skip
    assert "openvino bf16: not available here: this CPU has none" in page
    assert "<caption>Scores by class and their means</caption>" in page


def test_a_page_of_nothing_is_a_page():
    for results in ([], [Result(machine=CPU)]):
        assert "not measured" in html(results)
