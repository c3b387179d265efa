"""Errors of the exporter: all of one base, with the exit code of what they mean."""

from __future__ import annotations

import pytest

from flair_engine.errors import FlairError
from flair_export import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.CardError, 2),
        (errors.CheckpointError, 2),
        (errors.ExporterMissingError, 2),
        (errors.OptionError, 2),
        (errors.ImageError, 2),
        (errors.ExportError, 1),
        (errors.DemoError, 1),
    ],
)
def test_what_is_refused_exits_2_and_what_fails_on_the_way_1(error, exit_code):
    raised = error("what was found", "what to do")
    assert isinstance(raised, FlairError)
    assert (str(raised), raised.exit_code) == ("what was found: what to do", exit_code)
