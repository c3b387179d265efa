"""Signals: handlers where a process would end, in the main thread, and their words."""

import signal
import threading

import pytest

from flair_engine import signals


@pytest.mark.parametrize("name", signals.WORDS)
def test_a_signal_raises_once(name):
    number = signal.Signals[name]
    signal.signal(number, signal.SIG_DFL)
    signals.raise_once()
    assert signals.received() is None
    with pytest.raises(signals.SignalError, match=signals.word(number)) as error:
        signal.raise_signal(number)
    assert signals.received() == number
    signal.raise_signal(number)  # while the first is being dealt with
    del error
    signals.ignore()
    signal.raise_signal(number)
    signals.raise_once()
    assert signals.received() is None
    signal.signal(number, signal.SIG_DFL)


def test_another_thread_sets_no_handlers():
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=signals.raise_once)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
