"""Calls to the builder of each TensorRT release, and what is said where it refuses."""

import json
import sys
import threading

import onnx
import pytest
from doubles import fake_tensorrt
from doubles.paths import SHARED

from flair_engine.errors import EngineError

SILENT = "it does not say why"
FAILURES = {
    "builder": rf"could not make a builder \({SILENT}\)",
    "network": r"could not make a network",
    "config": r"could not make a builder configuration",
    "profile": r"could not make a profile",
    "add_profile": r"refuses the shape image 3x2x32x32 .*smaller --batch",
    "tactic_sources": r"refuses the tactic sources -JIT_CONVOLUTIONS",
    "build": r"could not build a plan for batches of 3 \(Could not find any implementation for "
    r"node \{Conv_0\}\.\): if memory ran out, try --batch 1",
}


def test_the_builder_is_told_what_each_release_needs(machine, ask):
    ask(tactic_sources="-EDGE_MASK_CONVOLUTIONS,-CUBLAS").close()
    (config,) = machine.configs
    assert config._pools == ({} if machine.is_rtx else {"WORKSPACE": 4 << 30})
    weakly_typed = {"FP16", "PREFER_PRECISION_CONSTRAINTS"}
    assert config._flags == (weakly_typed if machine.release.startswith("8.") else set())
    sources = machine.tensorrt.TacticSource
    left = {s.name for s in sources if config._sources & 1 << s}
    assert left == {s.name for s in sources} - {"EDGE_MASK_CONVOLUTIONS", "CUBLAS"}
    assert ask.states[0].startswith("building the TensorRT plan: 0 s")
    monitor = getattr(config, "progress_monitor", None)
    assert (monitor is None) == machine.release.startswith("8.")


def test_the_normalisation_is_held_in_fp32_where_the_flag_could_lower_it(ask, monkeypatch):
    machine = fake_tensorrt.Machine("8.5.3.1").install(monkeypatch)
    held = []
    kind = machine.tensorrt._classes["ILayer"]
    monkeypatch.setattr(kind, "precision", property(None, lambda s, v: held.append((s._op, v))),
                        raising=False)  # fmt: skip
    ask().close()
    assert held == [
        ("Mul", machine.tensorrt.DataType.FLOAT),
        ("Add", machine.tensorrt.DataType.FLOAT),
    ]


def test_timings_are_kept_for_the_next_build(machine, ask):
    ask().close()
    ask(batch=4).close()
    expected = [None, None] if machine.is_rtx else [b"", b"+"]
    assert [config._timing for config in machine.configs] == expected
    assert bool([*ask.folder.glob("*.timing")]) != machine.is_rtx


@pytest.mark.parametrize("refusal", ["timing_cache", "old_timings", "serialize"])
def test_timings_that_are_refused_do_not_stop_a_build(machine, ask, refusal):
    ask().close()
    machine.fail.add(refusal)
    ask(batch=4).close()
    assert machine.builds == 2


@pytest.mark.parametrize("call", FAILURES)
def test_every_failing_call_is_one_line_and_keeps_no_plan(machine, ask, call):
    machine.fail.add(call)
    with pytest.raises(EngineError, match=FAILURES[call]) as caught:
        ask(tactic_sources="-JIT_CONVOLUTIONS")
    assert len(str(caught.value).splitlines()) == 1
    assert not list(ask.folder.glob("*.plan"))


def test_a_graph_the_parser_refuses(machine, ask, fp16_path):
    model = onnx.load(fp16_path)
    model.graph.node[2].op_type = "MatMul"  # with attributes it does not have
    model.graph.node[2].attribute.add(name="strange", type=onnx.AttributeProto.INT)
    onnx.save(model, fp16_path)
    with pytest.raises(EngineError) as caught:
        ask()
    assert str(caught.value) == (
        f"tiny: {machine.title} refuses the ONNX graph (node 1: Invalid Node - node_of_logits; API "
        "Usage Error (node_of_logits: second input has type Int64)): export it again, or use "
        "--engine ort"
    )


def test_what_is_raised_while_waiting_cancels_the_build_at_its_next_step(machine, ask):
    class StopError(BaseException):
        """As a signal raises one in the main thread."""

    def interrupt(_line):
        machine.building.wait(10)
        raise StopError

    machine.building, machine.signalled = threading.Event(), threading.Event()
    threading.Timer(0.2, machine.signalled.set).start()
    machine.fail.add("wait")
    with pytest.raises(StopError):
        ask(status=interrupt)
    assert machine.builds == 1
    finished = not hasattr(machine.configs[0], "progress_monitor")
    assert (machine.cancelled, machine.finished) == (not finished, finished)
    assert not list(ask.folder.glob("*.plan"))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("CUBLAS", r"tactic source 'CUBLAS' is unknown: write \+ or - before one of CUBLAS, "),
        ("-CUFFT", r"tactic source '-CUFFT' is unknown"),
        ("", r"tactic source '' is unknown"),
    ],
)
def test_tactic_sources_are_spelt_as_in_trtexec(one_machine, ask, sources, message):
    with pytest.raises(EngineError, match=message):
        ask(tactic_sources=sources)


def test_a_source_that_a_release_lacks_cannot_be_added(machine, ask):
    if hasattr(machine.tensorrt.TacticSource, "CUDNN"):
        ask(tactic_sources="+CUDNN").close()
        return
    with pytest.raises(EngineError, match=r"CUDNN does not exist in TensorRT .*leave out \+CUDNN"):
        ask(tactic_sources="+CUDNN")


def test_without_tensorrt_the_extra_and_the_index_are_named(ask, monkeypatch):
    for name in fake_tensorrt.LIBRARIES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"'flair-engine\[trt\]' .*https://pypi.nvidia.com"):
        ask()


def test_the_names_are_those_of_the_real_bindings():
    folder = SHARED.parent / "tensorrt-api"
    if not folder.is_dir():
        pytest.skip(f"the full lists are not at {folder}")
    for release, classes in fake_tensorrt.NAMES.items():
        if release == fake_tensorrt.RTX:
            continue  # compared with the bindings themselves, in tests/export/test_real_plans.py
        real = json.loads((folder / f"{release}.json").read_text())["classes"]
        for name, members in classes.items():
            assert members == sorted(real[name]), (release, name)
