"""The page of a run: what it says, and that no name in it is taken for markup."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.reports import GPU, REPORT
from doubles.tiny_model import SPEC

from flair_engine.manifest import LandCoverClass
from flair_engine.mapping.picture import MapPicture
from flair_engine.mapping.published import OutputFile
from flair_engine.page import FEW_FILES, MOST_FILES, page
from flair_engine.report import InputFile

EVIL = "<script>alert(1)</script>\"'&\u202e<img src=x onerror=alert(2)>"


class Parsed(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.said, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.said += data + " "


def water(name="water"):
    return LandCoverClass(value=5, name=name, color="#1553ae", active=True)


WATER = water()


def parsed(report=REPORT, *, classes=(WATER,), pictures=(), maps=1):
    work = SimpleNamespace(
        spec=replace(SPEC, classes=tuple(classes)),
        meters=SimpleNamespace(pictures=list(pictures)),
        targets=[None] * maps,
    )
    found = Parsed(page(report, work))
    assert found.open == []
    return found


def picture(path="map.tif"):
    return MapPicture(path=Path(path), size_px=(3, 4), image=("image/jpeg", b"photo"),
                      drawn=("image/png", b"labels"))  # fmt: skip


def test_a_page_says_what_was_done():
    said = parsed().said
    for expected in (
        "Land cover: map.tif", "tiny, fp32, ONNX Runtime 1 on 2 CPU threads", "20.00", "100.0%",
        "0.50 Mpx/s", "72.0 km²", "infer", "9.0 s", "75%", "1,000,000 px have no label",
        "/data/in.tif", "1,234 B", "f" * 64, "flair-run in.tif map.tif", "EPSG:2154",
        "Nothing was skipped or assumed.",
    ):  # fmt: skip
        assert expected in said


def test_colours_stand_beside_their_classes():
    swatches = [a["style"] for tag, a in parsed().tags if a.get("class") == "swatch"]
    assert swatches == ["background:#1553ae"]


def test_warnings_come_before_notices():
    found = parsed(replace(REPORT, notices=("a style is kept",), warnings=("no height",)))
    assert found.said.index("no height") < found.said.index("a style is kept")
    assert ("li", {"class": "warning"}) in found.tags


def test_pictures_are_inside_and_what_has_none_is_told():
    found = parsed(pictures=[picture(), picture("b.tif")], maps=5)
    sources = [a["src"] for tag, a in found.tags if tag == "img"]
    assert sources == ["data:image/jpeg;base64,cGhvdG8=", "data:image/png;base64,bGFiZWxz"] * 2
    assert "and 3 maps more, without a picture here" in found.said


def test_nothing_is_fetched():
    """One file: no script, no link, no address."""
    found = parsed(pictures=[picture()])
    assert {tag for tag, _ in found.tags} & {"script", "link", "iframe", "object"} == set()
    addresses = [v for _, a in found.tags for n, v in a.items() if n in ("src", "href")]
    assert all(address.startswith("data:") for address in addresses)


@pytest.mark.parametrize("count", [FEW_FILES, FEW_FILES + 1, MOST_FILES + 5])
def test_many_files_are_folded_up(count):
    files = tuple(InputFile(path=f"/data/{n}.tif", size=2**20) for n in range(count))
    found = parsed(replace(REPORT, inputs=files))
    assert ("details" in [tag for tag, _ in found.tags]) == (count > FEW_FILES)
    assert f"{count}.0 MiB" in found.said
    assert ("and 5 more" in found.said) == (count > MOST_FILES)


def test_no_name_is_markup():
    """Of files, classes, models, devices, notices, and what was typed."""
    report = replace(
        REPORT, output=f"/maps/{EVIL}/map {EVIL}.tif", model=EVIL, description=EVIL, device=EVIL,
        command=f"flair-run {EVIL}", settings={"inputs": {"images": (EVIL,), EVIL: EVIL}},
        inputs=(InputFile(path=EVIL, size=None),), weights_sha256=EVIL, crs=EVIL, labels=EVIL,
        outputs=(OutputFile(path=EVIL, kind=EVIL, size=1, sha256=EVIL),),
        pixels_by_class={EVIL: 9}, hectares_by_class={EVIL: 0.001}, busy_s={EVIL: 1.0},
        notices=(EVIL,), warnings=(EVIL,), started=EVIL, ended=EVIL,
    )  # fmt: skip
    tame = parsed(pictures=[picture()])
    found = parsed(report, classes=[water(EVIL)], pictures=[picture(EVIL)])
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in tame.tags} | {"li", "ul"}
    assert not any(name.startswith("on") for _, a in found.tags for name in a)
    spelt = EVIL.replace("\u202e", "\\u202e")
    assert found.said.count(spelt) >= 18
    assert "\u202e" not in found.said
    assert "< 0.01" in found.said


def test_a_run_of_nothing_has_a_page():
    found = parsed(replace(
        REPORT, pixels_by_class={}, hectares_by_class={}, busy_s={"read": 0.0}, inputs=(),
        outputs=(), command=None, settings={}, bbox=None, crs=None,
    ))  # fmt: skip
    assert "0.00 ha" in found.said
    assert "no CRS" in found.said


def test_what_a_gpu_did_is_shown_and_drawn():
    found = parsed(replace(REPORT, devices=(GPU, replace(GPU, timeline=(), agreement_first=None))))
    assert "cuda:1, NVIDIA Stand-in" in found.said
    assert "99.91%" in found.said
    assert "cuda:1: its first 2 batches in 1,000.0 ms" in found.said
    bars = [given for tag, given in found.tags if tag == "rect"]
    assert [(bar["x"], bar["y"], bar["width"]) for bar in bars[3:]] == [
        ("250.00", "30", "250.00"), ("500.00", "40", "250.00"), ("750.00", "50", "250.00"),
    ]  # fmt: skip
    assert "as the first" not in parsed().said
    assert REPORT.advice in parsed().said
