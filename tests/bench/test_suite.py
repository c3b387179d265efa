"""The suite measures everything there is something for, and reports before it fails."""

import dataclasses

import pytest
from doubles import figures

from flair_bench import suite
from flair_bench.errors import ResultError, WrongAnswerError
from flair_bench.results import load
from flair_engine.errors import OutputError


@pytest.fixture
def request_of(monkeypatch, exported, network):
    """Replace the measurements by their figures; return the function that makes a request."""
    answers = {
        "parity": figures.parity,
        "raster_io": figures.raster_io,
        "geometry": figures.geometries,
        "throughput": figures.throughput,
    }
    monkeypatch.setattr(suite, "_export", lambda *_: exported(0))
    monkeypatch.setattr(suite, "_standin", lambda *_: "standin.pth")
    monkeypatch.setattr(suite, "reference_network", lambda *_: network)
    monkeypatch.setattr(suite, "SCENE_PX", 64)
    monkeypatch.setattr(suite, "cut_scene", lambda image, truth: (image, truth))
    for kind, answer in answers.items():
        monkeypatch.setattr(getattr(suite, kind), "measure", lambda *_, answer=answer: answer())
    for kind in ("parity", "throughput"):
        monkeypatch.setattr(getattr(suite, kind), "faults", lambda _: [])
    monkeypatch.setattr(suite.page, "html", lambda results: f"{len(results)} results")

    def request(output, data=None):
        return suite.SuiteOptions(
            checkpoint=None, data=data, size_px=64, repeats=1, output=output / "r.json"
        )

    return request


def test_everything_is_kept_in_one_file(request_of, patches, tmp_path):
    page = suite.run_suite(request_of(tmp_path, patches[0]))
    assert page.read_text() == "1 results"
    kinds = load(tmp_path / "r.json").sections
    assert list(kinds) == ["parity", "accuracy", "io", "geometry", "throughput"]


def test_without_data_there_is_no_accuracy(request_of, tmp_path):
    suite.run_suite(request_of(tmp_path))
    assert "accuracy" not in load(tmp_path / "r.json").sections


def test_wrong_answers_fail_after_the_report(request_of, tmp_path, monkeypatch):
    monkeypatch.setattr(suite.parity, "faults", lambda _: ["ort agrees on nothing"])
    with pytest.raises(WrongAnswerError, match=r"r\.html: ort agrees on nothing"):
        suite.run_suite(request_of(tmp_path))
    assert (tmp_path / "r.html").exists()


def test_the_suite_replaces_nothing_of_somebody(request_of, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(suite, "_export", never)
    monkeypatch.setattr(suite, "_standin", never)
    request = request_of(tmp_path)
    (tmp_path / "r.html").write_text("mine")
    with pytest.raises(OutputError, match=r"r\.html: exists already and is no page of flair-bench"):
        suite.run_suite(request)
    assert (tmp_path / "r.html").read_text() == "mine"
    (tmp_path / "r.json").write_text("mine")
    with pytest.raises(ResultError, match=r"r\.json: is no result of flair-bench"):
        suite.run_suite(request)
    assert (tmp_path / "r.json").read_text() == "mine"
    request = dataclasses.replace(request, output=tmp_path / "one.html")
    with pytest.raises(OutputError, match=r"one\.html: is the input .*one\.html"):
        suite.run_suite(request)
