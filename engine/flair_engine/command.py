"""The frame of every command: one line on stderr for whatever goes wrong, and an exit code."""

from __future__ import annotations

import errno
import importlib.util
import io
import logging
import os
import shlex
import sys
import traceback
import warnings
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import click

from flair_engine import signals
from flair_engine.errors import FAILED, REFUSED, FlairError, SourceError
from flair_engine.starting import hold_descriptors
from flair_engine.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
"""What click is told of every command."""

SKIPPED = 3
"""The run finished, with nodata where blocks could not be decoded."""

INTERRUPTED = 130
"""128 + SIGINT, what a shell expects of a command ended by Ctrl-C. 143 is SIGTERM, 129 SIGHUP."""

BY_SIGNAL = (signals.SignalError, KeyboardInterrupt)
"""What is raised after a signal: ours, and Python's where somebody else has set the handler."""

EXTRA_OF = {
    **dict.fromkeys(
        ("torch", "segmentation_models_pytorch", "safetensors", "huggingface_hub"), "export"
    ),
    **dict.fromkeys(("cattrs", "matplotlib"), "bench"),
    **dict.fromkeys(("pyogrio", "shapely"), "aoi"),
    "onnxruntime": "cpu",
    "openvino": "openvino",
    "pystac": "stac",
    "ray": "ray",
}
"""The extra that brings a package which not every install has."""

MOST_SAID = 2000
"""Characters that are shown of an error that is not ours."""


def run_command(
    command: click.Command,
    name: str,
    *,
    kept: str = "",
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a command of the shell; end the process with its exit code where that is not 0.

    `kept` is what is said of the work done so far where Ctrl-C, SIGTERM or SIGHUP ends it, which
    count once: what is under way ends in order. A traceback, and what libraries say by themselves,
    are shown only with `--debug` among the arguments, which are those of the process unless given.
    Nothing that cannot be printed on stderr changes how a command ends. What was typed is the
    context's object.
    """
    hold_descriptors()
    signals.raise_once(lambda number: _last_words(number, name, kept))
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    with _stderr_ours(alone=not debug), nullcontext() if debug else _libraries_silent():
        try:
            _check_bytes(given)
            typed = shlex.join([name, *given])
            code = command.main(given, prog_name=name, standalone_mode=False, obj=typed)
            _flush_stdout()
            signals.ignore()
        except SystemExit as end:  # of click, where a pipe is closed
            signals.ignore()
            code = end.code
            _forget(sys.stdout)
        except BaseException as error:  # noqa: BLE001  one line, whatever it is
            signals.ignore()
            if debug:
                traceback.print_exception(error)
            code, line = _outcome(error, name, kept)
            # A terminal shows ^C where the cursor is.
            start = "\n" if code == INTERRUPTED and sys.stderr and sys.stderr.isatty() else ""
            with suppress(Exception):
                click.echo(f"{start}{name}: {_in_one_line(line)}", err=True)
            with suppress(Exception):
                _flush_stdout()
    if code:
        sys.exit(code)


def sectioned(sections: Mapping[str, Sequence[str]]) -> type[click.Command]:
    """Return a kind of command whose --help has its options by sections.

    `sections` holds names of parameters by title; what is in none, as click's own --help, comes
    last.
    """

    class Sectioned(click.Command):
        def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
            records = {
                parameter.name: record
                for parameter in self.get_params(context)
                if isinstance(parameter, click.Option)
                and (record := parameter.get_help_record(context))
            }
            named = {title: [records.pop(n) for n in names] for title, names in sections.items()}
            named[[*sections][-1]] += records.values()
            for title, lines in named.items():
                with formatter.section(title):
                    formatter.write_dl(lines)

    return Sectioned


def _last_words(number: int, name: str, kept: str) -> None:
    """Say on stderr that a command could not be ended in order; takes no lock."""
    if sys.stderr is not None:
        words = ": ".join(filter(None, [signals.word(number), kept]))
        os.write(sys.stderr.fileno(), f"{name}: {words}\n".encode(errors="replace"))


def say(line: str, name: str) -> None:
    """Print a line on stdout about what the command `name` has completed.

    Where it cannot be printed, stderr is told so; the work stays complete.
    """
    try:
        try:
            click.echo(line)
        except UnicodeEncodeError:
            click.echo(line.encode("ascii", "backslashreplace").decode())
    except OSError as error:
        _forget(sys.stdout)
        with suppress(OSError):
            said = (
                f"{name}: note: stdout cannot be written ({error.strerror}), the work is complete"
            )
            click.echo(said, err=True)


@contextmanager
def _libraries_silent() -> Iterator[None]:
    """Let no warnings and logs of Python reach the terminal."""
    quiet = logging.NullHandler()  # without any handler Python prints warnings itself
    logging.getLogger().addHandler(quiet)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # as the user has not asked for them
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(quiet)


class _Stderr(io.TextIOWrapper):
    """A stream that drops what cannot be written: on a full disk, into a pipe that is closed."""

    def write(self, text: str) -> int:
        try:
            super().write(text)
        except OSError:
            _forget(self)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _forget(self)


@contextmanager
def _stderr_ours(*, alone: bool) -> Iterator[None]:
    """Put a stream that never fails in the place of stderr.

    If it is `alone`, what C and C++ print there goes nowhere: GDAL's threads, libtiff, runtimes.
    They know the descriptor, Python the stream, which moves to another one meanwhile.
    """
    if not _is_descriptor_2():
        yield
        return
    before, kept = sys.stderr, os.dup(2)
    with suppress(OSError):
        before.flush()
    with (
        open(os.devnull, "wb") as nowhere,  # noqa: PTH123
        _Stderr(os.fdopen(kept, "wb"), before.encoding, before.errors, line_buffering=True) as ours,
    ):
        if alone:
            os.dup2(nowhere.fileno(), 2)
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = before
            ours.flush()
            os.dup2(kept, 2)


def _forget(stream: Any) -> None:
    """Send to nowhere what a stream holds and what is still written to it.

    Else Python tries again as it ends, and ends with code 120.
    """
    with suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def _flush_stdout() -> None:
    """Write out what stdout holds; raise OSError, once, where that cannot be."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _forget(sys.stdout)
        raise


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


def _in_one_line(text: str) -> str:
    """Return a text that can be printed, whatever names and lines are in it."""
    lines = text.encode("utf-8", "replace").decode("utf-8").splitlines()
    return shown(" ".join(line.strip() for line in lines))


def _outcome(error: BaseException, name: str, kept: str) -> tuple[int, str]:
    """Return the exit code of an error and the line to print.

    After a signal it is that of the signal, whatever a library has made of it.
    """
    if isinstance(error, (*BY_SIGNAL, click.Abort)) or _of_signal(error):
        number = signals.received() or signals.CTRL_C
        return 128 + number, ": ".join(filter(None, [signals.word(number), kept]))
    if isinstance(error, FlairError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):
        return REFUSED, f"{error.format_message()} (see {name} --help)"
    if isinstance(error, ModuleNotFoundError) and (package := _absent_package(error)):
        extra = EXTRA_OF[package]
        return REFUSED, f"{package} is not installed: run pip install 'flair-engine[{extra}]'"
    kind, said = type(error).__name__, str(error)[:MOST_SAID]
    if isinstance(error, MemoryError):
        line = f"memory ran out ({said or kind}): use fewer --threads, or a smaller --batch"
        return FAILED, line
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return FAILED, f"too many files are open ({said}): raise ulimit -n, or use fewer --threads"
    return FAILED, f"failed with {kind}: {said}: see where with --debug"


def _absent_package(error: ModuleNotFoundError) -> str | None:
    """Return the package of an extra whose absence is the error, None of any other.

    A package that is there and lacks a part of its own is broken, not absent.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRA_OF:
        return None
    try:
        return None if importlib.util.find_spec(package) else package
    except (ImportError, ValueError):
        return package


def _of_signal(error: BaseException) -> bool:
    """Return whether an error is what has become of a signal's."""
    if signals.received() and not isinstance(error, FlairError):
        return True
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, BY_SIGNAL):
        seen = seen.__cause__ or seen.__context__
    return seen is not None
