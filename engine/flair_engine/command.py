"""The frame of every command: one line on stderr for whatever goes wrong, and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from flair_engine.errors import FAILED, REFUSED, FlairError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""What click is told of every command."""

SKIPPED = 3
"""The run finished, with nodata where blocks could not be decoded."""

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a command ended by Ctrl-C."""


def run_command(
    command: click.Command,
    name: str,
    *,
    interrupted: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a command of the shell; end the process with its exit code where that is not 0.

    `interrupted` is what is said after Ctrl-C, which counts once: what is under way ends in order.
    A traceback, and what libraries say by themselves, are shown only with `--debug` among the
    arguments, which are those of the process unless given.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt_once)
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with nullcontext() if debug else _libraries_silent():
        try:
            _check_bytes(given)
            code = command.main(given, prog_name=name, standalone_mode=False)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  one line, whatever it is
            if debug:
                traceback.print_exception(error)
            code, line = _outcome(error, name, interrupted)
            click.echo(f"{name}: {_in_one_line(line)}", err=True)
    if code:
        sys.exit(code)


@contextmanager
def _libraries_silent() -> Iterator[None]:
    """Let nothing but our own lines reach the terminal: no warnings, no logs, no raw stderr."""
    quiet = logging.NullHandler()  # without any handler Python prints warnings itself
    logging.getLogger().addHandler(quiet)
    try:
        with warnings.catch_warnings(), _stderr_ours():
            if not sys.warnoptions:  # as the user has not asked for them
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(quiet)


@contextmanager
def _stderr_ours() -> Iterator[None]:
    """Send to nowhere what C and C++ print on stderr: GDAL's threads, libtiff, runtimes.

    They know the descriptor, Python the stream, which moves to another one meanwhile.
    """
    if not _is_descriptor_2():
        yield
        return
    before, kept = sys.stderr, os.dup(2)
    before.flush()
    with (
        open(os.devnull, "wb") as nowhere,  # noqa: PTH123
        os.fdopen(kept, "w", buffering=1, encoding=before.encoding, errors=before.errors) as ours,
    ):
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = before
            ours.flush()
            os.dup2(kept, 2)


def _is_descriptor_2() -> bool:
    """Return whether Python's stderr is the process's own: tests and notebooks put another."""
    try:
        return sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # none, or a stream in memory
        return False


def _check_bytes(arguments: Sequence[str]) -> None:
    """Raise SourceError for a name that GDAL and reports cannot hold, which know UTF-8 alone.

    Python keeps bytes of a command line that it cannot decode as surrogates.
    """
    for argument in arguments:
        if not _is_utf8(argument):
            raise SourceError(f"{argument}: the name holds bytes that are not UTF-8", "rename it")


def _is_utf8(argument: str) -> bool:
    try:
        os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        return False
    return True


def _interrupt_once(*_signal: object) -> None:
    # A second one would stop the waiting for threads, and the process abort under them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _in_one_line(text: str) -> str:
    """Return a text that can be printed, whatever names and lines are in it."""
    printable = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(line.strip() for line in printable.splitlines())


def _outcome(error: BaseException, name: str, interrupted: str) -> tuple[int, str]:
    """Return the exit code of an error and the line to print."""
    if isinstance(error, FlairError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return REFUSED, f"{error.format_message()} (see {name} --help)"
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED, interrupted
    return FAILED, f"failed with {type(error).__name__}: {error}: see where with --debug"
