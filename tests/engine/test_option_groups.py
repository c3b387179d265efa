"""Options that commands share: parsed once, turned into dataclasses."""

import click
import pytest
from click.testing import CliRunner

from flair_engine import ReadOptions, RunOptions
from flair_engine.option_groups import READING, RUNNING, fields_of, options


@pytest.fixture
def given():
    """Parse words with two groups; return what was given."""

    def parse(*words):
        found = {}

        @click.command()
        @options(READING, RUNNING)
        def command(**given):
            found.update(given)

        result = CliRunner().invoke(command, words)
        assert result.exit_code == 0, result.output
        return found

    return parse


def test_options_become_dataclasses(given):
    words = "--bands 3,1 --nodata none --mask 4 --memory 2G --gsd 1"
    found = given(*words.split())
    assert ReadOptions(**fields_of(ReadOptions, found)) == ReadOptions(
        bands=(3, 1), nodata="none", mask=4, gsd_m=1.0
    )
    assert RunOptions(**fields_of(RunOptions, found)) == RunOptions(memory_mib=2048)
    assert "bands" not in fields_of(ReadOptions, found, but=("bands",))


def test_what_is_not_said_is_left_to_the_dataclasses(given):
    found = given()
    assert ReadOptions(**fields_of(ReadOptions, found)) == ReadOptions()
    assert RunOptions(**fields_of(RunOptions, found)) == RunOptions()
    assert fields_of(ReadOptions, {"bands": None}) == {"bands": None}
