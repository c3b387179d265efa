"""One line and an exit code, whatever a command ends in."""

import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import click
import pytest
from rasterio._err import CPLE_AppDefinedError

from flair_engine.command import EXTRA_OF, INTERRUPTED, run_command
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
        run_command(command, "do", kept="all is kept", arguments=arguments)
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
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: all is kept"),
        (click.Abort(), INTERRUPTED, "interrupted: all is kept"),
        (TypeError("no len"), FAILED, "failed with TypeError: no len: see where with --debug"),
    ],
)
def test_every_end_is_one_line_and_a_code(capsys, fault, code, line):
    ended, said = outcome(capsys, fault)
    # click ends the line of a terminal's ^C.
    assert (ended, said.lstrip()) == (code, f"do: {line}\n")


@pytest.mark.parametrize(("package", "extra"), EXTRA_OF.items())
def test_a_package_of_an_extra_that_is_absent_is_named(capsys, monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    fault = ModuleNotFoundError("No module named ...", name=f"{package}.part")
    line = f"do: {package} is not installed: run pip install 'flair-engine[{extra}]'\n"
    assert outcome(capsys, fault) == (REFUSED, line)
    distributions = metadata.requires("flair-engine") or []
    brought = [line for line in distributions if f'"{extra}"' in line.replace("'", '"')]
    name = package.replace("_", "-")
    known = metadata.metadata("flair-engine").get_all("Provides-Extra") or []
    assert extra not in known or any(
        re.match(rf"{name}\b", line.replace("_", "-")) for line in brought
    )


def test_other_modules_that_are_missing_are_faults(capsys):
    for name in ("json.absent", "click.absent", None):
        code, said = outcome(capsys, ModuleNotFoundError("No module named x", name=name))
        assert (code, said.startswith("do: failed with ModuleNotFoundError")) == (FAILED, True)


def test_a_package_that_is_there_is_not_called_absent(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    code, said = outcome(capsys, ModuleNotFoundError("No module named x", name="torch.part"))
    assert (code, said.startswith("do: failed with ModuleNotFoundError")) == (FAILED, True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert outcome(capsys, ModuleNotFoundError("x", name="torch"))[0] == REFUSED


def ended(program, *arguments):
    """Run a program of a process of its own; return its code and what it says on stderr."""
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, check=False, capture_output=True)
    return result.returncode, result.stderr.decode()


LOUD = """
import logging, os, sys, warnings, click
from flair_engine.command import run_command

@click.command()
@click.option("--debug", is_flag=True)
def command(debug):
    logging.getLogger("some.library").error("raw log")
    warnings.warn("raw warning")
    os.write(2, b"raw line of C\\n")
    print("our line", file=sys.stderr)
    raise {fault}

run_command(command, "do", kept="all is kept")
"""


def test_libraries_say_nothing():
    fault = "RuntimeError('gone')"
    assert ended(LOUD.format(fault=fault)) == (
        FAILED,
        "our line\ndo: failed with RuntimeError: gone: see where with --debug\n",
    )


def test_libraries_speak_to_who_debugs():
    code, said = ended(LOUD.format(fault="RuntimeError('gone')"), "--debug")
    assert code == FAILED
    for part in ("raw log", "raw warning", "raw line of C", "our line", "Traceback"):
        assert part in said
    assert said.endswith("do: failed with RuntimeError: gone: see where with --debug\n")


GDAL = """
import pathlib, sys, click, numpy as np, rasterio
from flair_engine.command import run_command

@click.command(context_settings={{"ignore_unknown_options": True}})
@click.argument("path")
@click.option("--debug", is_flag=True)
def command(path, debug):
    size = {{"driver": "GTiff", "width": 2048, "height": 2048, "count": 1, "dtype": "uint8"}}
    noise = np.random.default_rng(0).integers(0, 255, (1, 2048, 2048)).astype("uint8")
    how = {{"tiled": True, "compress": {compress!r}, "num_threads": "all_cpus"}}
    with rasterio.open(path, "w", **size, **how) as dataset:
        dataset.write(noise)
    if {compress!r} == "jpeg":
        whole = bytearray(pathlib.Path(path).read_bytes())
        for place in range(200_000, len(whole) - 1000, 30_000):
            whole[place : place + 500] = bytes(500)
        pathlib.Path(path).write_bytes(whole)
        with rasterio.open(path, num_threads=2) as dataset:
            dataset.read()

run_command(command, "do", kept="all is kept")
"""


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of 100 KiB."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_gdal_is_silent_on_a_full_disk(full_disk):
    path = str(full_disk / "a.tif")
    code, said = ended(GDAL.format(compress="deflate"), path)
    assert said.count("\n") == (code == FAILED), said
    assert "No space left on device" in ended(GDAL.format(compress="deflate"), path, "--debug")[1]


def test_gdal_is_silent_on_a_damaged_file(tmp_path):
    code, said = ended(GDAL.format(compress="jpeg"), str(tmp_path / "a.tif"))
    assert (code, said.count("\n")) == (FAILED, 1), said
    assert said.startswith("do: failed with RasterioIOError")


def test_a_stream_that_is_not_the_process_s_stays(capfd):
    assert outcome(capfd, TypeError("no len"))[0] == FAILED
    stream = sys.stderr
    sys.stderr = None
    try:
        with pytest.raises(SystemExit):
            run_command(click.Command("do"), "do", arguments=["--absent"])
    finally:
        sys.stderr = stream


BYTES = """
import sys, click
from flair_engine.command import run_command

@click.command()
@click.argument("path")
@click.option("--report")
@click.option("--debug", is_flag=True)
def command(path, report, debug):
    print("reached")

run_command(command, "do", kept="all is kept")
"""


@pytest.mark.parametrize("arguments", [[b"d\xe9p.tif"], [b"a", b"--report=d\xe9p.tif"]])
@pytest.mark.parametrize("debug", [[], [b"--debug"]])
def test_a_name_that_is_not_utf_8_is_refused(arguments, debug):
    result = subprocess.run(
        [sys.executable, "-c", BYTES, *arguments, *debug], check=False, capture_output=True
    )
    assert (result.returncode, result.stdout) == (REFUSED, b"")
    line = result.stderr.decode().splitlines()[-1]
    assert line.endswith("d?p.tif: the name holds bytes that are not UTF-8: rename it")
    assert debug or result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["été à l'œuvre.tif", "50% ±.tif", "日本.tif"])
def test_a_name_in_any_script_is_taken(name):
    command = [sys.executable, "-c", BYTES, name]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("reached\n", "")


def test_a_message_is_one_line_and_can_be_printed(capsys):
    fault = SourceError("d\udce9p\n.tif: is\r\n text", "give a raster")
    assert outcome(capsys, fault) == (REFUSED, "do: d?p .tif: is text: give a raster\n")


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

run_command(command, "do", kept="all is kept", arguments=[])
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr.lstrip()) == (
        INTERRUPTED,
        "do: interrupted: all is kept\n",
    )
    assert ended.stdout == "cleaned up\n"


SIGNALS = {
    "SIGINT": (130, "interrupted"),
    "SIGTERM": (143, "terminated"),
    "SIGHUP": (129, "hung up"),
}

ENDED_BY = """
import os, signal, sys, click
from flair_engine.command import run_command

@click.command()
@click.argument("name")
def command(name):
    try:
        os.kill(os.getpid(), signal.Signals[name])
        {becomes}
    finally:
        print("cleaned up")

run_command(command, "do", kept="all is kept")
"""


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_in_one_line_and_its_own_code(name):
    code, word = SIGNALS[name]
    assert ended(ENDED_BY.format(becomes="pass"), name) == (code, f"do: {word}: all is kept\n")


BECOMES = {
    "what a library makes of it": """
    except BaseException: raise ImportError('numpy failed to import') from None""",
    "an error of its own cleaning": "finally: raise ValueError('closed')",
    "an error of ours": """
    except BaseException as error:
        from flair_engine.errors import WriteError
        raise WriteError('a', 'b') from error""",
}


@pytest.mark.parametrize("becomes", BECOMES)
def test_a_signal_counts_whatever_is_made_of_it(becomes):
    program = ENDED_BY.format(becomes=f"pass\n    {BECOMES[becomes]}").replace(
        "    finally:\n        print", "    if True:\n        print"
    )
    assert ended(program, "SIGTERM") == (143, "do: terminated: all is kept\n")


def test_a_lost_signal_leaves_the_next_one_its_effect():
    lost = """
    except BaseException: pass
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        print("not reached", file=sys.stderr)"""
    assert ended(ENDED_BY.format(becomes=f"pass{lost}"), "SIGINT") == (
        130,
        "do: interrupted: all is kept\n",
    )


def test_a_signal_that_somebody_else_handles_stays_with_him(capsys):
    def others(*_):
        """Do nothing."""

    for name, handler in (
        ("SIGINT", signal.SIG_IGN),
        ("SIGHUP", signal.SIG_IGN),
        ("SIGTERM", others),
    ):
        signal.signal(signal.Signals[name], handler)
    outcome(capsys, None)
    outcome(capsys, TypeError())
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as nohup has it
    assert signal.getsignal(signal.SIGTERM) is others


SAID = """
import sys, click
from flair_engine.command import run_command, say

@click.command()
@click.option("--debug", is_flag=True)
@click.option("--fail", is_flag=True)
@click.option("--print", "printed", is_flag=True)
def command(debug, fail, printed):
    for _ in range(3):
        print("a notice", file=sys.stderr)
    if fail:
        raise RuntimeError("gone")
    if printed:
        print("the result")
    else:
        say("été: the map is complete", "do")

run_command(command, "do")
"""


def shell(program, arguments, redirection, **environment):
    """Run a program in a shell; return its code, stdout and stderr."""
    words = shlex.join([sys.executable, "-c", program, *arguments])
    result = subprocess.run(
        ["bash", "-c", f"{words} {redirection}"],
        check=False, capture_output=True, env={**os.environ, **environment},
    )  # fmt: skip
    return result.returncode, result.stdout.decode(), result.stderr.decode()


NOTICES = "a notice\n" * 3
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@needs_full
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_stdout_that_cannot_be_written_changes_nothing_that_is_complete(debug):
    code, _, said = shell(SAID, debug, "> /dev/full")
    assert (code, said) == (
        0,
        NOTICES
        + "do: note: stdout cannot be written (No space left on device), the work is complete\n",
    )
    assert shell(SAID, debug, ">&-") == (0, "", NOTICES)
    code, _, said = shell(SAID, debug, "| head -c0; exit ${PIPESTATUS[0]}")
    assert (code, said) in [
        (0, NOTICES),  # written before head was gone
        (0, NOTICES + "do: note: stdout cannot be written (Broken pipe), the work is complete\n"),
    ]


@needs_full
@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "2> >(head -c0)"])
def test_notices_that_cannot_be_printed_change_nothing(debug, redirection):
    assert shell(SAID, debug, redirection) == (0, "été: the map is complete\n", "")
    assert shell(SAID, [*debug, "--fail"], redirection) == (FAILED, "", "")


@needs_full
def test_a_result_that_cannot_be_printed_is_a_failure():
    code, _, said = shell(SAID, ["--print"], "> /dev/full")
    assert code == FAILED
    assert said.startswith(NOTICES + "do: failed with OSError: [Errno 28] No space left on device")
    assert said.count("\n") == 4


def test_a_terminal_without_letters_changes_nothing():
    code, out, _ = shell(SAID.replace("été", "日"), [], "", PYTHONIOENCODING="latin-1")
    assert (code, out) == (0, "\\u65e5: the map is complete\n")


HELD = """
import os, sys
from flair_engine.starting import hold_descriptors

hold_descriptors()
number = os.open(sys.executable, os.O_RDONLY)
print("to nowhere")
sys.exit(number)
"""


def test_no_file_gets_the_descriptor_of_a_stream_that_is_closed():
    assert shell(HELD, [], "<&- >&- 2>&-")[0] > 2


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            MemoryError("array of 9 TiB"),
            "memory ran out (array of 9 TiB): use fewer --threads, or a",
        ),
        (MemoryError(), "memory ran out (MemoryError): use fewer"),
        (RecursionError("too deep"), "failed with RecursionError: too deep"),
        (CPLE_AppDefinedError(1, 1, "TIFF\nfailed"), "failed with CPLE_AppDefinedError: "),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "too many files are open ([Errno 24] Too many",
        ),
        (GeneratorExit(), "failed with GeneratorExit: "),
        (ValueError("x" * 250_000), "failed with ValueError: xxx"),
        (ValueError("\x1b[31mred\x07"), r"failed with ValueError: \x1b[31mred\x07"),
    ],
)
def test_whatever_escapes_is_one_line(capsys, fault, line):
    code, said = outcome(capsys, fault)
    assert code == FAILED
    assert said.startswith(f"do: {line}")
    assert said.count("\n") == 1
    assert len(said) < 2200


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
        run_command(command, "do", kept="all is kept")
    assert end.value.code == REFUSED
    assert capsys.readouterr().err == "do: No such option '--nothing'. (see do --help)\n"
