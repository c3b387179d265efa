"""The TensorRT that is taken where one, both or neither can be, by GPU and driver."""

import importlib
import sys
from importlib import metadata

import pytest
from doubles import fake_tensorrt

from flair_engine.errors import EngineError
from flair_engine.inference.choose import engines
from flair_engine.inference.gpu.library import capabilities, library_named

CARDS = {
    (7, 0): "TensorRT 10.4.0",
    (7, 5): "TensorRT for RTX 1.7.1.116",
    (8, 0): "TensorRT 10.4.0",
    (8, 6): "TensorRT for RTX 1.7.1.116",
    (8, 9): "TensorRT for RTX 1.7.1.116",
    (9, 0): "TensorRT 10.4.0",
    (10, 0): "TensorRT 10.4.0",
    (12, 0): "TensorRT for RTX 1.7.1.116",
}
"""By compute capability, what NVIDIA's support matrices say of the two libraries."""


@pytest.fixture
def both(monkeypatch):
    """A host with both libraries, its TensorRT 10.4 at work and the other beside it."""
    rtx = fake_tensorrt.Machine(fake_tensorrt.RTX)
    machine = fake_tensorrt.Machine("10.4.0")
    machine.rtx = rtx
    return machine.install(monkeypatch, beside=rtx)


def broken(monkeypatch, *names):
    """Have the import of installed libraries fail as it does without their shared objects."""
    really = importlib.import_module

    def fail(name, *more):
        if name in names:
            raise ImportError(f"lib{name}.so.1: cannot open\nshared object file")
        return really(name, *more)

    monkeypatch.setattr("flair_engine.inference.gpu.library.import_module", fail)


@pytest.mark.parametrize("card", CARDS)
def test_of_two_libraries_the_one_for_the_card_is_taken_and_said(both, ask, monkeypatch, card):
    machine = both.rtx if "RTX" in CARDS[card] else both
    machine.install(monkeypatch, beside=both if machine is both.rtx else both.rtx)
    machine.capability = card
    backend = ask()
    backend.close()
    assert backend.description.startswith(f"{CARDS[card]} on NVIDIA Stand-in (cuda:0)")
    other = "TensorRT" if machine is both.rtx else "TensorRT for RTX"
    assert ask.lines[0] == (
        f"{CARDS[card]} is taken for NVIDIA Stand-in, compute capability {card[0]}.{card[1]}: "
        f"{other} is installed too"
    )


def test_the_one_that_can_be_imported_is_taken_and_said(both, ask, monkeypatch):
    broken(monkeypatch, "tensorrt")
    both.rtx.install(monkeypatch, beside=both).capability = (8, 0)
    ask().close()
    assert ask.lines[0] == (
        "TensorRT for RTX 1.7.1.116 is taken: TensorRT is installed and cannot be imported "
        "(libtensorrt.so.1: cannot open shared object file)"
    )


def test_both_broken_is_one_line(both, ask, monkeypatch):
    broken(monkeypatch, "tensorrt", "tensorrt_rtx")
    with pytest.raises(EngineError) as caught:
        ask()
    assert str(caught.value) == (
        "TensorRT is installed and cannot be imported (libtensorrt.so.1: cannot open shared object "
        "file); TensorRT for RTX is installed and cannot be imported (libtensorrt_rtx.so.1: cannot "
        "open shared object file): install it again, with libraries and Python bindings of one "
        "release and one CUDA"
    )


def test_neither_installed_is_one_line_that_names_both_extras(monkeypatch):
    for name in fake_tensorrt.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    line = next(engines())
    assert "no: TensorRT is not usable (no module named tensorrt or tensorrt_rtx): run pip" in line
    assert (
        "pip install 'flair-engine[rtx]' for an RTX card, pip install 'flair-engine[trt]'" in line
    )
    with pytest.raises(EngineError, match="TensorRT is not usable"):
        library_named("tensorrt_rtx")


def test_a_plan_of_one_library_is_never_given_to_the_other(both, ask, monkeypatch):
    both.capability = (8, 0)
    ask().close()
    both.rtx.install(monkeypatch).capability = (8, 0)
    ask().close()
    assert (both.builds, both.rtx.builds) == (1, 1)
    assert "library tensorrt instead of tensorrt_rtx" in ask.lines[-2]
    assert len(list(ask.folder.glob("*.plan"))) == 2


def test_a_card_older_than_any_of_the_library(ask, monkeypatch):
    fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch).capability = (7, 0)
    with pytest.raises(
        EngineError,
        match=r"TensorRT for RTX 1.7.1.116 serves GPUs of compute capability 7.5 and later, NVIDIA "
        r"Stand-in has 7.0: run pip install 'flair-engine\[trt\]'",
    ):
        ask()


def test_a_card_that_is_not_named_gets_a_plan_for_all(ask, monkeypatch):
    machine = fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch)
    machine.capability = (9, 0)
    ask().close()
    (config,) = machine.configs
    assert config._cards == []


@pytest.mark.parametrize(
    ("driver", "line"),
    [
        (
            11080,
            "made for CUDA 12, the NVIDIA driver serves CUDA 11.8: install NVIDIA driver 525 or ",
        ),
        (12040, None),
        (13010, None),
    ],
)
def test_a_driver_too_old_for_the_library(ask, monkeypatch, driver, line):
    def version(name):
        if name == "tensorrt-rtx-cu12-bindings":
            return "1.7.1.116"
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    fake_tensorrt.Machine(fake_tensorrt.RTX).install(monkeypatch).driver_cuda = driver
    if line is None:
        ask().close()
        return
    with pytest.raises(EngineError, match=line):
        ask()


def test_what_a_library_builds_for_is_asked_of_it(machine):
    expected = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1") if machine.is_rtx else ()
    assert capabilities(machine.tensorrt) == expected


def test_a_library_that_is_not_there_is_named(one_machine):
    with pytest.raises(
        EngineError,
        match=r"TensorRT for RTX is not installed: run pip install 'flair-engine\[rtx\]",
    ):
        library_named("tensorrt_rtx")
