"""The start of a command: signals during imports, imports that fail, what is imported at all."""

import subprocess
import sys
import time

import pytest

SLOW = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop())
from flair_engine.starting import start

start("slow", "do")
"""


@pytest.fixture
def started(tmp_path):
    """Start a command whose module is given; return its process."""

    def start(source, *arguments):
        (tmp_path / "slow.py").write_text(source)
        command = [sys.executable, "-c", SLOW, *arguments, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")],
)
def test_a_signal_during_imports_is_one_line(started, name, code, word):
    source = f"""
import os, signal
try:
    os.kill(os.getpid(), signal.{name})
except BaseException:
    raise ImportError("numpy failed to import")
"""
    process = started(source)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (code, f"do: {word} before anything was begun\n")


def test_an_import_that_fails_is_one_line(started):
    process = started("import a_package_that_is_not_there")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.startswith("do: cannot start (ModuleNotFoundError: No module named 'a_package_")
    assert said.endswith("'): install it again\n")
    process = started("import a_package_that_is_not_there", "--debug")
    assert "Traceback" in process.communicate(timeout=20)[1]


def test_the_command_is_called(started):
    process = started("def main():\n    print('called')")
    assert process.communicate(timeout=20) == ("called\n", "")


@pytest.mark.parametrize("package", ["flair_engine", "flair_export", "flair_bench"])
def test_nothing_heavy_is_imported_before_signals_are_handled(package):
    program = f"import sys, {package}.__main__\nprint(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "rasterio", "click", "onnx", "rich", "torch"} & set(modules)


@pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")
def test_too_few_addresses_to_start():
    command = f"ulimit -v 200000; exec {sys.executable} -m flair_engine --version"
    result = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        "flair-run: this process may have 0.19 GiB of addresses, to start takes 1.00: raise "
        "ulimit -v\n"
    )


READY = """
from flair_engine import signals
signals.end_at_once("flair-run")
print("ready", flush=True)
from flair_engine.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_at_any_time_of_the_start_is_one_line():
    command = [sys.executable, "-c", READY, "-m", "a", "b", "c"]
    codes = set()
    for delay_ms in range(0, 450, 30):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay_ms / 1000)
        process.send_signal(2)
        _, said = process.communicate(timeout=20)
        assert said.strip().count("\n") == 0, (delay_ms, said)
        codes.add(process.returncode)
    assert 130 in codes
    assert codes <= {2, 130}
