"""Processes are measured from outside."""

import sys

import pytest

from flair_bench.errors import RunnerError
from flair_bench.processes import run_measured, said


def test_a_process_is_measured():
    found = run_measured([sys.executable, "-c", "b = bytearray(9**8); print(len(b))"])
    assert found.printed.strip() == str(9**8)
    assert found.cpu_s > 0
    assert found.peak_mib > 9**8 / 2**20


def test_a_process_that_fails_says_its_last_words():
    failing = "import sys; print('gone wrong', file=sys.stderr); sys.exit(3)"
    with pytest.raises(RunnerError, match=r"ended with 3: gone wrong: run it alone"):
        run_measured([sys.executable, "-c", failing])
    with pytest.raises(RunnerError, match=r"ended with 1: no message: run it alone"):
        run_measured([sys.executable, "-c", "import sys; sys.exit(1)"])


def test_where_the_system_does_not_say_what_a_process_took(monkeypatch):
    monkeypatch.delattr("os.wait4")
    with pytest.raises(RunnerError, match="does not say what a process took: measure on Linux"):
        run_measured([sys.executable, "-c", ""])


def test_a_command_that_is_absent_or_fails_says_nothing():
    assert said(sys.executable, "-c", "print('here')") == "here"
    assert said(sys.executable, "-c", "print('here'); raise SystemExit(1)") == ""
    assert said("no-such-command") == ""
