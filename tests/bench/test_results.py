"""Result files come back as written, keep machines apart, and refuse what they are not."""

import dataclasses
import json

import pytest
from doubles.figures import CPU, EVERY_KIND, accuracy, raster_io, result_of
from doubles.paths import COMMITTED

from flair_bench import results
from flair_bench.errors import ResultError
from flair_bench.machine import this_machine
from flair_bench.results import Result
from flair_engine.errors import OutputError


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_come_back_byte_for_byte(path, tmp_path):
    results.load(path).save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_every_kind_of_figures_comes_back(tmp_path):
    result = result_of(CPU, *(make() for make in EVERY_KIND))
    result.save(tmp_path / "r.json")
    assert results.load(tmp_path / "r.json") == result
    assert list(result.sections) == [
        "throughput",
        "parity",
        "accuracy",
        "geometry",
        "io",
        "install",
    ]


def test_a_section_measured_again_is_replaced(tmp_path):
    path = tmp_path / "here.json"
    results.record(path, accuracy())
    results.record(path, raster_io())
    again = dataclasses.replace(accuracy(), oa=1.0)
    written = results.record(path, again)
    read = results.load(path)
    assert read == written
    assert list(read.sections) == ["accuracy", "io"]
    assert read.machine == this_machine()
    section = read.sections["accuracy"]
    assert section.figures == again
    assert section.versions["flair-engine"]
    assert section.date.endswith("+00:00")
    assert section.command
    assert section.commit


def test_another_machines_file_is_not_touched(tmp_path):
    path = tmp_path / "there.json"
    result = results.record(path, accuracy())
    other = dataclasses.replace(result.machine, cpu="Another CPU")
    dataclasses.replace(result, machine=other).save(path)
    before = path.read_bytes()
    with pytest.raises(ResultError, match=r"holds results of Another CPU, .* give another name"):
        results.record(path, accuracy())
    assert path.read_bytes() == before


def test_what_is_no_result_is_refused(tmp_path):
    path = tmp_path / "no.json"
    for content in ("", "[]", "{}", json.dumps({"schema": 3, "machine": {}, "sections": {}})):
        path.write_text(content)
        with pytest.raises(ResultError, match=r"is no result of flair-bench .* --json wrote"):
            results.load(path)
    with pytest.raises(ResultError, match=r"is no result of flair-bench \(FileNotFoundError"):
        results.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[" * 100_000, "nested deeper than 32 levels"),
        ('{"schema": ' + "2" * 400 + "}", "a number of 400 digits"),
        ('{"schema": NaN}', "NaN is no number"),
        ('{"schema": 1e999}', "1e999 is too large a number"),
        ('{"schema": 3, "schema": 3}', "a name occurs twice"),
    ],
)
def test_json_over_its_bounds_is_refused(tmp_path, content, fault):
    path = tmp_path / "no.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=fault):
        results.load(path)


def test_what_is_written_can_be_read_whatever_names_are_in_it(tmp_path):
    path = tmp_path / "r.json"
    strange = dataclasses.replace(CPU, cpu="Some\tCPU \x1b[1m\udce9")
    Result(machine=strange).save(path)
    assert results.load(path).machine.cpu == r"Some\tCPU \x1b[1m\udce9"


@pytest.mark.parametrize("schema", [2, 4])
def test_another_schema_is_refused_before_anything_else(tmp_path, schema):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"schema": schema, "machine": "told otherwise then"}))
    fault = rf"result schema {schema}, this flair-bench reads 3: measure again$"
    with pytest.raises(ResultError, match=fault):
        results.load(path)
    with pytest.raises(ResultError, match=fault):
        results.record(path, accuracy())


def edited(path, change):
    """Write a result whose figures of `io` are changed as JSON."""
    result_of(CPU, raster_io()).save(path)
    value = json.loads(path.read_text())
    change(value["sections"]["io"]["figures"], value)
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda io, _: io.pop("writing"), r"required field missing @ \$.sections.io.figures.writ"),
        (
            lambda io, _: io.update(speed=1),
            r"extra fields found \(speed\) @ \$.sections.io.figures",
        ),
        (lambda io, _: io.update(threads="2"), r"expected int @ \$.sections.io.figures.threads"),
        (lambda io, _: io.update(threads=True), r"expected int @ \$.sections.io.figures.threads"),
        (
            lambda io, _: io["writing"]["of_gdal"].update(spread=[1.0]),
            r"@ \$.sections.io.figures.writing.of_gdal.spread",
        ),
        (
            lambda _, whole: whole["machine"].update(cpu="\x1b[2J"),
            r"\$.machine.cpu",
        ),
        (lambda _, whole: whole["machine"].update(gpu="\ud800"), r"\$.machine.gpu"),
        (lambda _, whole: whole["sections"].update(speed={}), r"extra fields found \(speed\)"),
        (lambda _, whole: whole.update(machine={}), r"machine.cpu; .*machine.cores; .*; 1 more\)"),
    ],
)
def test_keys_and_values_are_read_strictly_and_told_in_one_line(tmp_path, change, fault):
    with pytest.raises(ResultError, match=fault) as caught:
        results.load(edited(tmp_path / "r.json", change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "text", '{"wall_s": 1}'])
def test_figures_are_added_to_results_alone(tmp_path, content):
    path = tmp_path / "notes.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=r"notes\.json: is no result of flair-bench"):
        results.check_place(path, [])
    assert path.read_text() == content
    (tmp_path / "link.json").symlink_to("absent.json")
    with pytest.raises(ResultError, match=r"link\.json: is no result of flair-bench"):
        results.check_place(tmp_path / "link.json", [])


def test_places_figures_cannot_be_put(tmp_path):
    with pytest.raises(OutputError, match="is a folder: give the name of a file in it"):
        results.check_place(tmp_path, [])
    with pytest.raises(OutputError, match="its folder does not exist: create it first"):
        results.check_place(tmp_path / "no" / "r.json", [])
    results.check_place(tmp_path / "r.json", [])
    results.record(tmp_path / "r.json", accuracy())
    results.check_place(tmp_path / "r.json", [tmp_path / "image.tif", "user/weights"])
    (tmp_path / "link.json").symlink_to("r.json")
    with pytest.raises(OutputError, match=r"r\.json: is the input .*link\.json"):
        results.check_place(tmp_path / "r.json", [tmp_path / "link.json"])
