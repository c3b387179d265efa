"""Signals: handlers where a process would end, in the main thread, and their words."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from flair_engine import signals

ONCE = """
import signal, sys
from flair_engine import signals

number = signal.Signals[sys.argv[1]]
signal.signal(number, signal.SIG_DFL)
signals.raise_once()
assert signals.received() is None
try:
    signal.raise_signal(number)
    raise AssertionError("nothing was raised")
except signals.SignalError as error:
    assert str(error) == signals.word(number)
    assert signals.received() == number
    signal.raise_signal(number)  # while the first is being dealt with
signals.ignore()
signal.raise_signal(number)
signals.raise_once()
assert signals.received() is None
print("as it should be")
"""


@pytest.mark.parametrize("name", signals.WORDS)
def test_a_signal_raises_once(name):
    """In a process of its own, which a signal ends where a handler is missing."""
    command = [sys.executable, "-c", ONCE, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "as it should be\n", "")


def test_another_thread_sets_no_handlers():
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=signals.raise_once)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


HANGING = """
import sys, threading, time
import click
from flair_engine import signals
from flair_engine.command import run_command

signals.ENDING_S = float(sys.argv.pop())

@click.command()
def command():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        # As where a thread that is waited for waits for a lock that nobody gives back.
        threading.Event().wait(3)

run_command(command, "do", kept="finished strips are kept", arguments=[])
"""


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"), ("SIGHUP", 129, "hung up")],
)
@pytest.mark.parametrize("patience_s", [0.2, 60])
def test_a_command_that_does_not_end_in_order_ends_all_the_same(name, code, word, patience_s):
    command = [sys.executable, "-c", HANGING, str(patience_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    began = time.perf_counter()
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (code, f"do: {word}: finished strips are kept\n")
    assert (time.perf_counter() - began < 2.5) == (patience_s < 1)
