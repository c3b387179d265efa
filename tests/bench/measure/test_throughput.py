"""Throughput finds what is fast but wrong, and measures all of it in one run."""

import pytest
from doubles.figures import network_speed, throughput, whole_run

from flair_bench.measure import throughput as measurement
from flair_bench.measure.engines import Choice
from flair_bench.measure.network_speed import Batching
from flair_bench.measure.throughput import ThroughputOptions


def test_a_fast_wrong_answer_is_a_fault():
    wrong = throughput(
        runs={"ort": whole_run(agreement=0.98)}, network=(network_speed(agreement=0.98),)
    )
    assert measurement.faults(wrong) == [
        "ort agrees on 98.0000% of labels, at least 99.99% have to",
        "ort batch 1 slots 2 agrees on 98.0000% of labels, at least 99.99% have to",
    ]


def test_other_geometries_and_answers_nobody_checked_are_none():
    unlike = throughput(
        runs={"ort": whole_run(agreement=0.98, comparable=False)},
        network=(network_speed(agreement=None),),
    )
    assert measurement.faults(unlike) == []


@pytest.fixture
def asked(exported):
    return ThroughputOptions(
        models=[exported(8), exported(0)],
        checkpoint=None,
        choices=[Choice("ort"), Choice("openvino", "fp32"), Choice("auto", "fp32")],
        batches=[1, 2],
        slots=[2],
        size_px=96,
        repeats=1,
        best_batch=4,
    )


def test_batches_meet_slots(asked):
    assert asked.batchings == [Batching(batch=1, slots=2), Batching(batch=2, slots=2)]


@pytest.mark.slow
def test_everything_is_measured_in_one_run(asked, image_file, tmp_path, monkeypatch):
    monkeypatch.setattr("flair_bench.measure.network_speed.NETWORK_S", 0.001)
    limits = throughput().limits
    monkeypatch.setattr(measurement, "measure_limits", lambda *_: limits)
    figures = measurement.measure(asked, image_file[1], tmp_path)
    names = ["ort 32-8", "ort 32-0", "openvino fp32 32-8", "openvino fp32 32-0"]
    by_itself = ["auto fp32 32-8", "auto fp32 32-0"]
    assert list(figures.runs) == [*names, *by_itself], "engine by engine"
    shapes = ("batch 1 slots 2", "batch 2 slots 2")
    by_model = [f"{names[n]} {shape}" for n in (0, 2, 1, 3) for shape in shapes]
    assert [entry.label for entry in figures.network] == by_model, "model by model"
    assert [work.geometry for work in figures.models] == ["32-8", "32-0"]
    assert figures.limits == limits
    assert figures.runs["ort 32-8"].agreement == 1
    assert not figures.runs["ort 32-0"].comparable
    assert measurement.faults(figures) == []
