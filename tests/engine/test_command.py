"""One line and an exit code, whatever a command ends in."""

import signal
import subprocess
import sys

import click
import pytest

from flair_engine.command import INTERRUPTED, run_command
from flair_engine.errors import FAILED, REFUSED, SourceError, WriteError


def outcome(capsys, fault, *arguments):
    """Run a command that ends in `fault`; return its exit code and what it prints as an error."""

    @click.command()
    @click.option("--debug", is_flag=True)
    def command(debug):
        if isinstance(fault, BaseException):
            raise fault
        return fault

    try:
        run_command(command, "do", interrupted="stopped", arguments=arguments)
        code = 0
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "code", "line"),
    [
        (SourceError("a.tif: is text", "give a raster"), REFUSED, "a.tif: is text: give a raster"),
        (WriteError("the disk is full", "free some"), FAILED, "the disk is full: free some"),
        (click.UsageError("Missing X"), REFUSED, "Missing X (see do --help)"),
        (KeyboardInterrupt(), INTERRUPTED, "stopped"),
        (click.Abort(), INTERRUPTED, "stopped"),
        (TypeError("no len"), FAILED, "failed with TypeError: no len: see where with --debug"),
    ],
)
def test_every_end_is_one_line_and_a_code(capsys, fault, code, line):
    ended, said = outcome(capsys, fault)
    # click ends the line of a terminal's ^C.
    assert (ended, said.lstrip()) == (code, f"do: {line}\n")


@pytest.mark.parametrize("while_ending", ["atexit.register(ctrl_c)", "cleanup = ctrl_c"])
def test_a_second_ctrl_c_changes_neither_line_nor_code(while_ending):
    program = f"""
import atexit, os, signal, click
from flair_engine.command import run_command

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)

cleanup = int
{while_ending}

@click.command()
def command():
    try:
        ctrl_c()
    finally:
        cleanup()
        print("cleaned up")

run_command(command, "do", interrupted="stopped", arguments=[])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr.lstrip()) == (INTERRUPTED, "do: stopped\n")
    assert ended.stdout == "cleaned up\n"


def test_an_ignored_ctrl_c_stays_ignored(capsys):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outcome(capsys, None)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_success_and_the_codes_of_a_command_are_its_own(capsys):
    assert outcome(capsys, None) == (0, "")
    assert outcome(capsys, 3) == (3, "")


def test_debug_shows_where(capsys):
    code, said = outcome(capsys, TypeError("no len"), "--debug")
    assert code == FAILED
    assert said.startswith("Traceback")
    assert said.endswith("do: failed with TypeError: no len: see where with --debug\n")


def test_the_arguments_of_the_process_are_taken(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["do", "--nothing"])

    @click.command()
    def command():
        """Do nothing."""

    with pytest.raises(SystemExit) as end:
        run_command(command, "do", interrupted="stopped")
    assert end.value.code == REFUSED
    assert capsys.readouterr().err == "do: No such option '--nothing'. (see do --help)\n"
