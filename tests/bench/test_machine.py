"""Machines are told apart by what figures depend on."""

from doubles.figures import A100, CPU

from flair_bench import machine


def test_this_machine_has_cores_and_memory(monkeypatch):
    monkeypatch.setattr(machine, "said", lambda *_: "")
    found = machine.this_machine()
    assert found.cpu
    assert found.cores >= 1
    assert found.ram_gib > 0
    assert found.gpu is None


def test_the_first_gpu_is_named_with_its_driver(monkeypatch):
    monkeypatch.setattr(machine, "said", lambda *_: "NVIDIA H100, 570.1\nNVIDIA H100, 570.1")
    assert machine.this_machine().gpu == "NVIDIA H100, driver 570.1"


def test_titles_say_what_there_is():
    assert CPU.title == "Some CPU, 2 cores, 24 GiB, no GPU"
    assert A100.title == "Some CPU, 8 cores, 64 GiB, NVIDIA A100, driver 1"
    assert (CPU.short, A100.short) == ("Some CPU, 2 cores", "NVIDIA A100, driver 1")
