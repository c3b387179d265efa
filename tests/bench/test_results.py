"""Result files come back as written, keep machines apart, and refuse what they are not."""

import dataclasses
import json

import pytest

from flair_bench import results
from flair_bench.errors import ResultError

FIGURES = {"oa": 59.4, "runs": {"ort": {"wall_s": [1.0, 2.0]}}}


def test_a_section_comes_back_and_is_replaced(tmp_path):
    path = tmp_path / "here.json"
    results.record(path, "accuracy", {"oa": 1})
    results.record(path, "io", {"mpx": 2})
    written = results.record(path, "accuracy", FIGURES)
    read = results.load(path)
    assert read == written
    assert list(read.sections) == ["accuracy", "io"]
    assert read.machine == results.this_machine()
    section = read.sections["accuracy"]
    assert section.versions["flair-engine"]
    assert section.date.endswith("+00:00")
    assert section.command
    assert section.commit


def test_figures_are_found_by_path(tmp_path):
    result = results.record(tmp_path / "here.json", "accuracy", FIGURES)
    assert results.at(result, "accuracy.oa") == 59.4
    assert results.at(result, "accuracy.runs.ort.wall_s.1") == 2.0
    with pytest.raises(ResultError, match=r"no section io, only accuracy"):
        results.at(result, "io.mpx")
    with pytest.raises(ResultError, match=r"accuracy\.runs\.trt: the result has no trt there"):
        results.at(result, "accuracy.runs.trt")


def test_another_machines_file_is_not_touched(tmp_path):
    path = tmp_path / "there.json"
    result = results.record(path, "accuracy", FIGURES)
    other = dataclasses.replace(result.machine, cpu="Another CPU")
    dataclasses.replace(result, machine=other).save(path)
    before = path.read_bytes()
    with pytest.raises(ResultError, match=r"holds results of Another CPU, .* give another name"):
        results.record(path, "accuracy", FIGURES)
    assert path.read_bytes() == before


def test_what_is_no_result_is_refused(tmp_path):
    path = tmp_path / "no.json"
    for content in ("", "[]", "{}", json.dumps({"schema": 1, "machine": {}, "sections": {}})):
        path.write_text(content)
        with pytest.raises(ResultError, match=r"is no result of flair-bench .* --json wrote"):
            results.load(path)
    path.write_text(json.dumps({"schema": 2}))
    with pytest.raises(ResultError, match=r"result schema 2, this flair-bench reads 1"):
        results.load(path)


def test_a_tree_that_changed_while_measuring_shows(monkeypatch):
    monkeypatch.setattr(results, "started_at", lambda: "abc")
    monkeypatch.setattr(results, "_commit", lambda: "abc")
    assert results.section({}).commit == "abc"
    monkeypatch.setattr(results, "_commit", lambda: "def+")
    assert results.section({}).commit == "abc to def+"
