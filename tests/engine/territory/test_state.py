"""States of parts, read from the folder alone."""

import json

import pytest
from doubles.territory import CPU

from flair_engine import Model
from flair_engine.errors import WriteError
from flair_engine.territory import state
from flair_engine.territory.claim import Claim
from flair_engine.territory.part import Worker
from flair_engine.territory.seeing import Sight
from flair_engine.territory.state import Failure, claim_of, failure_of, record_of, states


@pytest.fixture
def made(planned, territory):
    """A plan one of whose parts is done."""
    made = planned()
    with Model(territory.model, CPU) as model, Worker(made, model=model) as worker:
        worker.run(made.parts[0])
    return made


def names(plan):
    return [each.name for each in states(plan)]


def test_each_state(made):
    failure = Failure(reason="why: what", exit_code=1, tries=3, at="now")
    state.write_record(failure_of(made, made.parts[2]), failure)
    with Claim(claim_of(made, made.parts[1])):
        assert names(made) == ["done", "running", "failed", *["missing"] * 13]
        assert states(made)[2].failure == failure
    assert names(made)[1] == "missing"


def test_a_record_is_read_as_it_was_written(made):
    record = states(made)[0].record
    state.write_record(record_of(made, made.parts[0]), record)
    assert states(made)[0].record == record
    assert record.plan == made.digest


@pytest.mark.parametrize("content", ["", "[]", "{", '{"key": "other"}'])
def test_what_is_no_record_of_the_part_is_none(made, content):
    record_of(made, made.parts[0]).write_text(content)
    assert names(made)[0] == "missing"


def test_a_map_that_was_cut_short_is_not_done(made):
    path = state.map_of(made, made.parts[0])
    path.write_bytes(path.read_bytes()[:-1])
    assert state.read_record(made, made.parts[0], Sight(made)) is None


def test_a_record_that_cannot_be_written(made, tmp_path):
    failure = Failure(reason="why", exit_code=1, tries=1, at="now")
    with pytest.raises(WriteError, match="cannot be written .*: check the job's folder"):
        state.write_record(tmp_path / "absent" / "a.json", failure)


def test_records_are_json_for_others_too(made):
    fields = json.loads(record_of(made, made.parts[0]).read_text())
    assert fields["files"]["r0_c0.tif"][0] == state.map_of(made, made.parts[0]).stat().st_size
    assert sum(fields["pixels_by_class"].values()) == 512**2
