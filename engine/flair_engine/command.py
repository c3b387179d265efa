"""The frame of every command: one line on stderr for whatever goes wrong, and an exit code."""

from __future__ import annotations

import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from flair_engine.errors import FAILED, REFUSED, FlairError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    A traceback is shown only with `--debug` among the arguments, which are those of the process
    unless given.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt_once)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = command.main(given, prog_name=name, standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  one line, whatever it is
        if "--debug" in given:
            traceback.print_exception(error)
        code, line = _outcome(error, name, interrupted)
        click.echo(f"{name}: {line}", err=True)
    if code:
        sys.exit(code)


def _interrupt_once(*_signal: object) -> None:
    # A second one would stop the waiting for threads, and the process abort under them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _outcome(error: BaseException, name: str, interrupted: str) -> tuple[int, str]:
    """Return the exit code of an error and the line to print."""
    if isinstance(error, FlairError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return REFUSED, f"{error.format_message()} (see {name} --help)"
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED, interrupted
    return FAILED, f"failed with {type(error).__name__}: {error}: see where with --debug"
