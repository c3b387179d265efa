"""The page holds what was measured, and says of the rest that it was not."""

import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from doubles.figures import CPU, EVERY_KIND, result_of, throughput, with_mark

from flair_bench.results import Result, load
from flair_bench.show.page import check_page, html
from flair_engine.errors import OutputError


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


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;|`$\\frac{"


class Tags(HTMLParser):
    """What a browser sees: the tags with their attributes, and the text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = Counter(), ""

    def handle_starttag(self, tag, attrs):
        self.tags[tag, tuple(name for name, _ in attrs)] += 1

    def handle_data(self, data):
        self.text += data


def parsed(page):
    tags = Tags()
    tags.feed(page)
    return tags


@pytest.mark.parametrize("make", EVERY_KIND)
def test_no_text_of_a_result_file_is_html(make, tmp_path):
    """Every text ends in what would be tags and attributes, formulas and cells."""
    plain = result_of(CPU, make())
    with_mark(plain, HOSTILE).save(tmp_path / "hostile.json")
    hostile = load(tmp_path / "hostile.json")
    assert hostile == with_mark(plain, HOSTILE)
    found, usual = parsed(html([hostile])), parsed(html([plain]))
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in usual.tags}
    assert {names for _, names in found.tags} <= {names for _, names in usual.tags}
    assert "script" not in {tag for tag, _ in found.tags}
    assert HOSTILE in found.text


def test_a_page_of_nothing_is_a_page():
    for results in ([], [Result(machine=CPU)]):
        assert "not measured" in html(results)


def test_a_page_replaces_a_page_alone(tmp_path):
    path = tmp_path / "page.html"
    check_page(path, [])
    path.write_text(html([]))
    check_page(path, [tmp_path / "r.json"])
    with pytest.raises(OutputError, match=r"page\.html: is the input .*page\.html"):
        check_page(path, [tmp_path / "." / "page.html"])
    with pytest.raises(OutputError, match="is a folder: give the name of a file in it"):
        check_page(tmp_path, [])
    with pytest.raises(OutputError, match="its folder does not exist: create it first"):
        check_page(tmp_path / "no" / "page.html", [])
    for content in ("", "<html><title>mine</title></html>"):
        path.write_text(content)
        with pytest.raises(OutputError, match=r"no page of flair-bench: give a name that does not"):
            check_page(path, [])
        assert path.read_text() == content
    (tmp_path / "link.html").symlink_to("absent.html")
    with pytest.raises(OutputError, match=r"link\.html: exists already and is no page"):
        check_page(tmp_path / "link.html", [])
